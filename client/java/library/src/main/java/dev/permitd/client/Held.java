package dev.permitd.client;

import java.util.concurrent.CompletableFuture;
import permitd.v1.PermitOuterClass.ReportRequest;

/** A permit that the server gave: first with a guard, then with a report that has no answer yet. */
final class Held {
    /** Nanoseconds; 0 for a permit without an end. */
    final long ttl;

    /** For the local share; {@code provider/key}. */
    final String budget;

    /** Whether the server knows of it: if not, extending it is of no use. */
    boolean isKnown = true;

    /**
     * When to extend it next; counts only while it has a guard and a ttl, and is known. Or when to send its report again, if that was
     * refused for now.
     */
    long extendAt;

    /** Whether its report is to be sent again. */
    boolean isRefusedForNow;

    /** Null while its guard lives. */
    ReportRequest report;

    /** Gets the advice; null if nobody wants it (any more). */
    CompletableFuture<Advice> reply;

    /** The outcome as far as the report tells by itself. */
    Outcome assumed;

    /** Whether the report was cut down to its outcome, since the server could not read the whole. */
    boolean isBare;

    Held(long ttl, String budget, long extendAt) {
        this.ttl = ttl;
        this.budget = budget;
        this.extendAt = extendAt;
    }

    boolean isLive() {
        return report == null;
    }

    boolean isExtended() {
        return isLive() && isKnown && ttl > 0;
    }
}
