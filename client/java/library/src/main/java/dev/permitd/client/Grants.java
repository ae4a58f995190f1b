package dev.permitd.client;

import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * The permits of one request for several, as they become possible. One thread takes them; any may close.
 *
 * <pre>{@code
 * try (Grants grants = client.acquireMany(Request.of("anthropic/prod"), 20)) {
 *     for (var guard = grants.next(); guard.isPresent(); guard = grants.next()) {
 *         start(guard.get());
 *     }
 * }
 * }</pre>
 *
 * <p>Closed, it withdraws what has not come. Guards that were taken are the caller's to settle.
 */
public final class Grants implements AutoCloseable {
    private final Came came;
    private final Runnable withdraw;

    /** Still to be taken; for the thread that takes. */
    private int left;

    Grants(int count, Came came, Runnable withdraw) {
        this.left = count;
        this.came = came;
        this.withdraw = withdraw;
    }

    /**
     * Waits for the next permit.
     *
     * @return empty after the last one, after an exception, and once this is closed
     * @throws PermitException there are no more, and why
     * @throws InterruptedException the thread was interrupted; the request goes on until this is closed
     */
    public Optional<Guard> next() throws PermitException, InterruptedException {
        if (left == 0) {
            return Optional.empty();
        }
        Answer next = came.queue.take();
        left = next.guard == null ? 0 : left - 1;
        if (next.problem != null) {
            throw next.problem.here();
        }
        return Optional.ofNullable(next.guard);
    }

    /** Withdraws what has not come, and gives back what came and was not taken. */
    @Override
    public void close() {
        came.end();
        withdraw.run();
    }

    /** One of the two; the other is null. Neither: closed. */
    private record Answer(Guard guard, PermitException problem) {}

    /** What came and was not taken. */
    static final class Came implements Waiting.Taker {
        private final BlockingQueue<Answer> queue = new LinkedBlockingQueue<>();
        private boolean isOver;

        @Override
        public synchronized boolean grant(Guard guard) {
            return !isOver && queue.add(new Answer(guard, null));
        }

        @Override
        public void refuse(PermitException problem) {
            queue.add(new Answer(null, problem));
        }

        private synchronized void end() {
            isOver = true;
            queue.stream().filter(each -> each.guard != null).forEach(each -> each.guard.cancel());
            queue.clear();
            queue.add(new Answer(null, null));
        }
    }
}
