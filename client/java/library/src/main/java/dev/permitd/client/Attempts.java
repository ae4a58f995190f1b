package dev.permitd.client;

import java.time.Duration;
import java.util.Objects;

/** What is left of the attempts and the time that one call may take. */
final class Attempts {
    private final Request request;
    private final int attempts;
    private final long began = System.nanoTime();
    private int made;

    Attempts(Request request, int attempts) {
        this.request = Objects.requireNonNull(request, "request");
        this.attempts = attempts;
    }

    /** What the next attempt asks for. */
    Request next() {
        made++;
        return request.timeout().isPresent() ? request.timeout(Duration.ofNanos(left())) : request;
    }

    /** Whether it is of use to wait for the advice. */
    boolean isAnotherLeft(Report report) {
        return !report.isGood() && made < attempts && left() > 0;
    }

    /** Whether the request has a timeout. */
    boolean isBounded() {
        return request.timeout().isPresent();
    }

    /** Nanoseconds until the request's timeout. */
    long left() {
        long timeout = request.timeout().map(Spans::nanos).orElse(Spans.FOREVER);
        return Math.max(0, timeout - (System.nanoTime() - began));
    }
}
