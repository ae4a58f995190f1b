package dev.permitd.conformance;

import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ForkJoinWorkerThread;

/** What runs in this process. */
final class Threads {
    private Threads() {}

    static Set<Thread> alive() {
        return new HashSet<>(Thread.getAllStackTraces().keySet());
    }

    /** Those that were started since and still run, but for the common pool's, which belong to the process. */
    static Set<Thread> since(Set<Thread> before) {
        Set<Thread> since = alive();
        since.removeAll(before);
        since.removeIf(thread -> thread instanceof ForkJoinWorkerThread);
        return since;
    }
}
