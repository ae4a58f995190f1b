package dev.permitd.client;

/** How long there has been no session, and what of it. */
final class Outage {
    /** When it began; null while a session stands. */
    Long since;

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

    void end() {
        isTried = true;
        since = null;
        isActive = false;
        problem = "";
        definitive = 0;
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
            since = now;
        }
        this.problem = problem.text();
        definitive = problem.isDefinitive() ? definitive + 1 : 0;
        return wasUp;
    }
}
