package dev.permitd.client;

/** How long there has been no session, and what of it. */
final class Outage {
    /** When it began; null while a session stands. */
    Long since;

    /** Whether the policy holds. */
    boolean isActive;

    /** The last one, for people. */
    String problem = "not tried yet";

    /** Attempts in a row that failed for good. */
    int definitive;

    Outage(long now) {
        since = now;
    }

    void end() {
        since = null;
        isActive = false;
        problem = "";
        definitive = 0;
    }

    /** Returns whether a session stood until now. */
    boolean lost(Problem problem, long now) {
        boolean wasUp = since == null;
        if (wasUp) {
            since = now;
        }
        this.problem = problem.text();
        definitive = problem.isDefinitive() ? definitive + 1 : 0;
        return wasUp;
    }
}
