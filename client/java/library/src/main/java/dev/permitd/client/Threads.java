package dev.permitd.client;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;

/** The threads of one client: they say whose they are, do not keep a process alive, and can be waited for. */
final class Threads {
    private final Set<Thread> running = ConcurrentHashMap.newKeySet();

    ThreadFactory named(String name) {
        return task -> {
            Thread thread = new Thread(() -> run(task), "permitd-" + name);
            thread.setDaemon(true);
            return thread;
        };
    }

    /** Waits until none is left, but not longer than {@code nanos}. They have to have been told to end. */
    void join(long nanos) throws InterruptedException {
        long until = System.nanoTime() + nanos;
        for (Thread thread : running) {
            long left = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime());
            if (thread != Thread.currentThread() && left > 0) {
                thread.join(left);
            }
        }
    }

    private void run(Runnable task) {
        running.removeIf(thread -> !thread.isAlive());
        running.add(Thread.currentThread());
        task.run();
    }
}
