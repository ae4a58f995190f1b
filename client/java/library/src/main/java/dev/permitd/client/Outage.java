package dev.permitd.client;

/** How long there has been no session, and what of it. */
final class Outage {
    /** When it began; null while a session stands. */
    Long since;

    /** While a session stands that has not proven itself: when the time without one had begun, and when it came; else null. */
    private Long unprovenSince;

    private long came;

    /** Whether the policy holds. */
    boolean isActive;

    /** Whether an attempt has ended: until then nobody can say whether there is a server. */
    boolean isTried;

    /** The last one, for people. */
    String problem = "not tried yet";

    /** Attempts in a row that failed for good. */
    int definitive;

    /** Begins without a session. */
    Outage(long now) {
        since = now;
    }

    /**
     * A session stands. It has to answer something, or to live for a while, before the time without one is forgotten: a server that
     * welcomes and parts, again and again, is none.
     */
    void end(long now) {
        unprovenSince = since;
        came = now;
        isTried = true;
        since = null;
        isActive = false;
        problem = "";
        definitive = 0;
    }

    /** The server has answered something. */
    void proven() {
        unprovenSince = null;
    }

    /** Whether the policy takes over now. */
    boolean isDue(long now, long after) {
        return isTried && !isActive && since != null && now - since >= after;
    }

    /** Returns whether a session stood until now. */
    boolean lost(Problem problem, long now) {
        boolean wasUp = since == null;
        isTried = true;
        if (wasUp) {
            boolean isShaky = unprovenSince != null && now - came < Backoff.GOOD_LIFE;
            since = isShaky ? unprovenSince : now;
        }
        this.problem = problem.text();
        definitive = problem.isDefinitive() ? definitive + 1 : 0;
        return wasUp;
    }
}
