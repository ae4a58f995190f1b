package dev.permitd.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;
import permitd.v1.PermitOuterClass.AcquireRequest;

/** A request without its answer. All but {@link #isAnswered()} belongs to the driver. */
final class Waiting {
    /** What the server's answer may take beyond {@code maxWait}, in nanoseconds, before the client stops waiting for it. */
    private static final long ANSWER_SLACK = 1_000_000_000L;

    /** As sent, but for the wait, which shrinks. */
    final AcquireRequest ask;

    /** How long it may wait from {@link #askedAt}, in nanoseconds; negative means as long as it takes. */
    final long wait;

    final long askedAt;

    /** Whether the server of the present session may know of it. */
    boolean isSent;

    /** Ends the wait in the client; null if nobody set a bound. */
    Future<?> bound;

    private final long timeout;
    private final CompletableFuture<Guard> answer;
    private final Executor executor;
    private volatile boolean isAnswered;

    /** Hands its answer to {@code answer} by way of {@code executor}. */
    Waiting(AcquireRequest ask, Request request, long askedAt, CompletableFuture<Guard> answer, Executor executor) {
        this.ask = ask;
        this.askedAt = askedAt;
        this.timeout = request.timeout().map(Spans::nanos).orElse(Spans.FOREVER);
        long maxWait = request.maxWait().map(Spans::nanos).orElse(Spans.FOREVER);
        long shorter = Math.min(timeout, maxWait);
        this.wait = shorter == Spans.FOREVER ? -1 : shorter;
        this.answer = answer;
        this.executor = executor;
    }

    long id() {
        return ask.getRequestId();
    }

    /** Nanoseconds after {@link #askedAt} at which the client itself gives up; {@link Spans#FOREVER} for never. */
    long patience() {
        return wait < 0 ? Spans.FOREVER : Math.min(timeout, Math.min(wait + ANSWER_SLACK, Spans.FOREVER));
    }

    /** Why, then. */
    PermitException givingUp() {
        return timeout <= wait + ANSWER_SLACK ? PermitException.timeout() : PermitException.noAnswerInTime();
    }

    /** How long it may still wait; negative means as long as it takes. */
    long waitLeft(long now) {
        return wait < 0 ? -1 : Math.max(0, wait - (now - askedAt));
    }

    boolean isAnswered() {
        return isAnswered;
    }

    /** A guard that nobody takes any more was never handed over, so that nobody can have sent the call. */
    void grant(Guard guard) {
        hand(() -> {
            if (!answer.complete(guard)) {
                guard.cancel();
            }
        });
    }

    void refuse(PermitException problem) {
        hand(() -> answer.completeExceptionally(problem));
    }

    private void hand(Runnable delivery) {
        isAnswered = true;
        if (bound != null) {
            bound.cancel(false);
        }
        Handing.by(executor, delivery);
    }
}
