package dev.permitd.conformance;

import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ForkJoinWorkerThread;

/** What runs in this process. */
final class Threads {
    /** How long a thread may take to end, in milliseconds. The transport's own ends when it had nothing to do for a second. */
    private static final long ENDING_MILLIS = 10_000;

    private Threads() {}

    static Set<Thread> alive() {
        return new HashSet<>(Thread.getAllStackTraces().keySet());
    }

    /** Those that were started since and do not end, but for the common pool's and the HTTP client's, which outlive every user. */
    static Set<Thread> leftSince(Set<Thread> before) throws InterruptedException {
        Set<Thread> since = alive();
        since.removeAll(before);
        since.removeIf(thread -> thread instanceof ForkJoinWorkerThread || thread.getName().startsWith("HttpClient-"));
        long until = System.nanoTime() + ENDING_MILLIS * 1_000_000;
        for (Thread thread : since) {
            thread.join(Math.max(1, (until - System.nanoTime()) / 1_000_000));
        }
        since.removeIf(thread -> !thread.isAlive());
        return since;
    }
}
