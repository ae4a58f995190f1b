package dev.permitd.client;

/** When to try again: full jitter, so that the clients of a server that comes back do not come all at once. */
final class Backoff {
    /** The ceiling of the first wait, in nanoseconds; it doubles. */
    static final long BASE = 50_000_000L;

    /** The ceiling of every wait, in nanoseconds. */
    static final long CEILING = 5_000_000_000L;

    /** A session that lived as long as this, in nanoseconds, was a good one. */
    static final long GOOD_LIFE = 1_000_000_000L;

    private Backoff() {}

    /** The wait in nanoseconds before the attempt after {@code failures} failed ones in a row, with {@code luck} from 0 to 1. */
    static long wait(int failures, double luck) {
        long ceiling = Math.min(BASE << Math.min(failures, 16), CEILING);
        return (long) (ceiling * luck);
    }
}
