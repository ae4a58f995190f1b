package dev.permitd.client;

/** What becomes of requests while no server can be reached. */
public enum OutagePolicy {
    /** They fail with an exception for which {@link PermitException#isUnavailable()} holds. The default. */
    FAIL_CLOSED,
    /** They are granted without any limit; the guards are not {@linkplain Guard#isManaged() managed}. */
    FAIL_OPEN,
    /**
     * They are granted from a safe share of the budget that the server sent ahead of time, so that all clients together stay within
     * the limits. Without a valid share, as {@link #FAIL_CLOSED}.
     */
    LOCAL_SHARE
}
