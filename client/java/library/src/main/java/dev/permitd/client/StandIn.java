package dev.permitd.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import permitd.v1.PermitOuterClass.AcquireRequest;

/** Answers requests in the server's place, by the outage policy. Belongs to the driver's thread. */
final class StandIn implements LocalShares.Answers {
    private final Settings settings;
    private final Table table;
    private final Guards guards;
    private final LocalShares local = new LocalShares(this);
    private final Consumer<Waiting> later;

    /** {@code later} has a request answered that wants more than it got: a share gives one permit at a time. */
    StandIn(Settings settings, Table table, Guards guards, Consumer<Waiting> later) {
        this.later = later;
        this.settings = settings;
        this.table = table;
        this.guards = guards;
    }

    /** What is known of local shares, whatever the policy is. */
    LocalShares local() {
        return local;
    }

    /** Answers a request that waits, at once or later; {@code problem} is why there is no server. */
    void answer(Waiting asked, String problem, long now) {
        switch (settings.policy()) {
            case FAIL_CLOSED -> refuse(asked, PermitException.noServer(problem));
            case FAIL_OPEN -> {
                while (!asked.isAnswered()) {
                    grant(asked, new Guard(unmanaged(asked, now), Guard.Unmanaged.INSTANCE));
                }
            }
            case LOCAL_SHARE -> {
                String budget = Budgets.name(asked.ask.getProvider(), asked.ask.getKey());
                if (!local.acquire(asked, settings.tenant(), table.live(budget), now)) {
                    refuse(asked, PermitException.noLocalShare(budget, problem));
                }
            }
        }
    }

    @Override
    public void granted(long requestId, Permit permit, LocalShares.Held held) {
        Guard guard = guards.guard(permit, (report, answer) -> settle(held, report, answer));
        Waiting asked = table.waiting(requestId);
        if (asked == null) {
            guard.cancel();
        } else {
            grant(asked, guard);
            if (!asked.isAnswered()) {
                later.accept(asked);
            }
        }
    }

    @Override
    public void refused(long requestId, PermitException problem) {
        Waiting asked = table.waiting(requestId);
        if (asked != null) {
            refuse(asked, problem);
        }
    }

    private void settle(LocalShares.Held held, Report report, CompletableFuture<Advice> answer) {
        Advice advice = local.report(held, report, System.nanoTime());
        if (answer != null) {
            Handing.by(settings.executor(), () -> answer.complete(advice));
        }
    }

    /** A server that still has the request in its queue is told when it is back. */
    private void grant(Waiting asked, Guard guard) {
        if (asked.remaining == 1) {
            table.cancel(asked.id());
        }
        asked.grant(guard);
    }

    private void refuse(Waiting asked, PermitException problem) {
        table.cancel(asked.id());
        asked.refuse(problem);
    }

    private static Permit unmanaged(Waiting asked, long now) {
        AcquireRequest ask = asked.ask;
        Usage charged = ask.hasEstimate() ? Usage.fromWire(ask.getEstimate()) : Usage.none();
        if (ask.getTokens() != 0) {
            charged = Usage.fromWire(charged.toWire().toBuilder().setTokens(ask.getTokens()).build());
        }
        Duration waited = Duration.ofNanos(now - asked.askedAt);
        return new Permit(
                "", ask.getProvider(), ask.getKey(), charged, waited, Optional.empty(), Permit.Source.FAIL_OPEN);
    }
}
