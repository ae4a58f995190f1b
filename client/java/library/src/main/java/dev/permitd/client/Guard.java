package dev.permitd.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicReference;

/**
 * A permit in the hand: leave to make one call. However it ends, its permit is settled: by a {@linkplain #report report}, by a
 * {@linkplain #cancel cancel}, or by being closed.
 *
 * <p>While it lives, its permit is extended whenever half of its life is over.
 *
 * <p><b>Closed without a report</b>, the call may have been sent, so the permit is reported as failed: its charge stays, its slot
 * returns. So it is for a guard that was forgotten, once the garbage collector finds it. A call that was certainly not sent is
 * {@linkplain #cancel cancelled}, and everything goes back.
 */
public final class Guard implements AutoCloseable {
    private final Permit permit;
    private final Hold hold;
    /** The one answer, from the first report on. */
    private final AtomicReference<CompletableFuture<Advice>> answer = new AtomicReference<>();

    Guard(Permit permit, Hold hold) {
        this.permit = permit;
        this.hold = hold;
    }

    /** What is known of the permit. */
    public Permit permit() {
        return permit;
    }

    /** Whether a server knows of the permit. Others are given by the outage policy while no server can be reached. */
    public boolean isManaged() {
        return permit.source() == Permit.Source.SERVER;
    }

    /**
     * Settles the permit. The report is on its way when this returns; nobody needs to wait for the advice, but who wants to know
     * whether to try again does. A second report changes nothing and has the first one's answer.
     *
     * @return the server's advice, or a {@link PermitException}: {@linkplain PermitException#isUnavailable unavailable} if no server
     *     can be reached (the report is kept and sent later), {@linkplain PermitException#isInvalid invalid} if it makes no sense (the
     *     permit is settled with its outcome alone)
     */
    public CompletableFuture<Advice> report(Report report) {
        java.util.Objects.requireNonNull(report, "report");
        CompletableFuture<Advice> mine = new CompletableFuture<>();
        CompletableFuture<Advice> first = answer.compareAndExchange(null, mine);
        if (first != null) {
            return first;
        }
        hold.settle(report, mine);
        return mine;
    }

    /** Gives the permit back unused: the call was certainly not sent. */
    public void cancel() {
        report(Report.cancelled());
    }

    /** Settles as failed if nobody reported; else it does nothing. Never waits. */
    @Override
    public void close() {
        if (answer.get() == null) {
            report(Report.failed());
        }
    }

    @Override
    public String toString() {
        return "Guard{" + permit + "}";
    }

    /** Who has to hear of the end of a permit. Knows nothing of its guard, so that it outlives one that was forgotten. */
    interface Hold {
        /** Called once for each permit; {@code answer} gets the advice. */
        void settle(Report report, CompletableFuture<Advice> answer);
    }

    /** A permit that nobody granted. */
    enum Unmanaged implements Hold {
        INSTANCE;

        @Override
        public void settle(Report report, CompletableFuture<Advice> answer) {
            answer.complete(Advice.unsettled(report));
        }
    }
}
