package dev.permitd.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;
import permitd.v1.PermitOuterClass.AcquireRequest;

/** A request without its last answer. All but {@link #isAnswered()} belongs to the driver. */
final class Waiting {
    /** Takes the answers: as many guards as were asked for, or fewer and a refusal. */
    interface Taker {
        /** Whether somebody takes it. */
        boolean grant(Guard guard);

        void refuse(PermitException problem);
    }

    /** Of one guard. */
    record One(CompletableFuture<Guard> answer) implements Taker {
        @Override
        public boolean grant(Guard guard) {
            return answer.complete(guard);
        }

        @Override
        public void refuse(PermitException problem) {
            answer.completeExceptionally(problem);
        }
    }

    /** What the server's answer may take beyond {@code maxWait}, in nanoseconds, before the client stops waiting for it. */
    private static final long ANSWER_SLACK = 1_000_000_000L;

    /** As sent, but for the number, and the wait and the count, which shrink. */
    final AcquireRequest ask;

    /** By which the server knows it: at first its own id, and another one each time it is asked again. */
    long number;

    /** Permits still to be granted. */
    int remaining;

    /** How long it may wait from {@link #askedAt}, in nanoseconds; negative means as long as it takes. */
    final long wait;

    final long askedAt;

    /** Whether the server of the present session may know of it. */
    boolean isSent;

    /** Ends the wait in the client; null if nobody set a bound. */
    Future<?> bound;

    private final long timeout;
    private final Taker taker;
    private final Executor executor;
    private volatile boolean isAnswered;

    /** Hands its answers to {@code taker} by way of {@code executor}. */
    Waiting(AcquireRequest ask, Request request, long askedAt, Taker taker, Executor executor) {
        this.ask = ask;
        this.number = ask.getRequestId();
        this.remaining = ask.getCount();
        this.askedAt = askedAt;
        this.timeout = request.timeout().map(Spans::nanos).orElse(Spans.FOREVER);
        long maxWait = request.maxWait().map(Spans::nanos).orElse(Spans.FOREVER);
        long shorter = Math.min(timeout, maxWait);
        this.wait = shorter == Spans.FOREVER ? -1 : shorter;
        this.taker = taker;
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

    /** As it is sent now. */
    AcquireRequest message(long now) {
        long left = waitLeft(now);
        if (left < 0 && number == id() && remaining == ask.getCount()) {
            return ask;
        }
        AcquireRequest.Builder message = ask.toBuilder().setRequestId(number).setCount(remaining);
        return (left < 0 ? message : message.setMaxWait(Spans.toWire(left))).build();
    }

    /** Whether the last answer came. */
    boolean isAnswered() {
        return isAnswered;
    }

    /** A guard that nobody takes any more was never handed over, so that nobody can have sent the call. */
    void grant(Guard guard) {
        remaining--;
        if (remaining == 0) {
            over();
        }
        Handing.by(executor, () -> {
            if (!taker.grant(guard)) {
                guard.cancel();
            }
        });
    }

    void refuse(PermitException problem) {
        over();
        Handing.by(executor, () -> taker.refuse(problem));
    }

    private void over() {
        isAnswered = true;
        if (bound != null) {
            bound.cancel(false);
        }
    }
}
