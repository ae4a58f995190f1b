package dev.permitd.client;

import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * What callers ask of the driver, in order. Pushing never waits.
 *
 * <p>Bounded by its contents: a request holds a caller or one of the driver's places for requests that wait, a cancel belongs to a
 * request, and a report to a permit that was granted.
 */
final class Mailbox {
    /**
     * One thing to do.
     *
     * @param run on the driver's thread
     * @param dropped instead, once the driver is gone
     */
    record Command(Runnable run, Runnable dropped) {}

    private final ConcurrentLinkedQueue<Command> queue = new ConcurrentLinkedQueue<>();
    private final AtomicBoolean isWoken = new AtomicBoolean();
    private final Executor thread;
    private final Runnable wake;
    private volatile boolean isShut;

    /** Runs {@code wake} on {@code thread} when there is something to take. */
    Mailbox(Executor thread, Runnable wake) {
        this.thread = thread;
        this.wake = wake;
    }

    /** Has {@code run} run, or, once the driver is gone, {@code dropped}. */
    void push(Runnable run, Runnable dropped) {
        queue.add(new Command(run, dropped));
        if (isShut) {
            dropAll();
        } else {
            wake();
        }
    }

    /** Has the thread come by, unless it is about to. */
    void wake() {
        if (isWoken.compareAndSet(false, true)) {
            try {
                thread.execute(wake);
            } catch (RejectedExecutionException shutMeanwhile) {
                dropAll();
            }
        }
    }

    /** The next command, or null. Whoever takes has to {@link #rest} before. */
    Command take() {
        return queue.poll();
    }

    boolean isEmpty() {
        return queue.isEmpty();
    }

    /** What is pushed from here on wakes the thread again. */
    void rest() {
        isWoken.set(false);
    }

    /** The driver's last act. */
    void shut() {
        isShut = true;
        dropAll();
    }

    private void dropAll() {
        for (Command command = queue.poll(); command != null; command = queue.poll()) {
            command.dropped().run();
        }
    }
}
