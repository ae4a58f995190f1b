package dev.permitd.client;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import permitd.v1.BudgetOuterClass.Limit;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.Usage;
import permitd.v1.Session.LocalShare;

/**
 * The safe shares that the server sends ahead of time, and what is granted from them while no server can be reached. Belongs to the
 * driver's thread.
 *
 * <p>Invariant: a share never adds to what the server may just have granted. Rate limits start empty, and permits that are still held
 * from before the outage count against the share's concurrency.
 */
final class LocalShares {
    /** Shares that are kept; more than a client uses in practice. */
    private static final int SHARES_MAX = 10_000;

    /** Longer than any outage through which a share should be trusted, in nanoseconds: a week. */
    private static final long VALID_MAX = 7 * 86_400_000_000_000L;

    /** What became of requests. */
    interface Answers {
        void granted(long requestId, Permit permit, Held held);

        void refused(long requestId, PermitException problem);
    }

    /** A permit of a share. Outages are counted, so that permits of an earlier one are told apart. */
    record Held(long outage, String budget, LocalBudget.Entry entry) {}

    private static final class Share {
        private final List<Limit> limits;
        private final long validUntil;
        /** Null while it is not in use. */
        private LocalBudget running;

        Share(List<Limit> limits, long validUntil) {
            this.limits = limits;
            this.validUntil = validUntil;
        }
    }

    private final Answers answers;

    /** Times are counted from here, so that they can be compared. */
    private final long origin = System.nanoTime();

    private final Map<String, Share> shares = new HashMap<>();

    /** Requests that wait, with what they asked. */
    private final Map<Long, Asked> waiting = new HashMap<>();

    /** Guards with permits of any outage, per budget. */
    private final Map<String, Integer> live = new HashMap<>();

    private long outage;

    private record Asked(String budget, AcquireRequest ask, long askedAt) {}

    LocalShares(Answers answers) {
        this.answers = answers;
    }

    /** The server's newest word. A share that makes no sense, or is none, takes away what was known. */
    void learn(LocalShare share, long now) {
        String budget = Budgets.name(share.getProvider(), share.getKey());
        long validFor = Math.min(Spans.nanos(Spans.fromWire(share.getValidFor())), VALID_MAX);
        boolean hasRoom = shares.size() < SHARES_MAX || shares.containsKey(budget);
        if (validFor > 0 && hasRoom && LocalBudget.isSound(share.getLimitsList())) {
            shares.put(budget, new Share(share.getLimitsList(), now - origin + validFor));
        } else {
            shares.remove(budget);
        }
    }

    /**
     * Asks in the server's place. Answers may be for other requests too.
     *
     * @param tenant for requests that name none
     * @param fromServer guards that hold permits of this budget from the server
     * @return false: there is no valid share of this budget
     */
    boolean acquire(Waiting asked, String tenant, int fromServer, long nanoTime) {
        AcquireRequest ask = asked.ask;
        String budget = Budgets.name(ask.getProvider(), ask.getKey());
        long now = nanoTime - origin;
        Share share = shares.get(budget);
        if (share == null || now >= share.validUntil) {
            return false;
        }
        if (share.running == null) {
            int carried = fromServer + live.getOrDefault(budget, 0);
            share.running = new LocalBudget(share.limits, carried, new BudgetAnswers(budget), now);
        }
        waiting.put(asked.id(), new Asked(budget, ask, asked.askedAt));
        String name = !ask.getTenant().isEmpty() ? ask.getTenant() : !tenant.isEmpty() ? tenant : "default";
        share.running.acquire(asked.id(), amounts(ask), ask.getModel(), name, asked.waitLeft(nanoTime), now);
        return true;
    }

    /** Somebody does not wait any more. */
    void cancel(long requestId, long nanoTime) {
        Asked gone = waiting.remove(requestId);
        LocalBudget running = gone == null ? null : running(gone.budget);
        if (running != null) {
            running.cancel(requestId, nanoTime - origin);
        }
    }

    /** Settles a permit of this or an earlier outage. */
    Advice report(Held held, Report report, long nanoTime) {
        live.computeIfPresent(held.budget, (budget, count) -> count == 1 ? null : count - 1);
        LocalBudget running = running(held.budget);
        if (running == null || held.outage != outage) {
            ended(held.budget, nanoTime);
            return Advice.unsettled(report);
        }
        long now = nanoTime - origin;
        LocalOutcome outcome = LocalOutcome.of(report);
        if (outcome.isRefusal()) {
            running.freeze(report.retryAfter().map(Spans::nanos).orElse(-1L), now);
        }
        Amounts charged = held.entry.charged();
        boolean isUnused = outcome.outcome() == Outcome.CANCELLED;
        running.settle(held.entry, isUnused ? Amounts.none() : charged.settledBy(report.toWire().getActual()), now);
        return new Advice(outcome.outcome(), true, outcome.isRetried(), report.retryAfter());
    }

    /** A permit from before this outage was reported: its slot is free. */
    void ended(String budget, long nanoTime) {
        LocalBudget running = running(budget);
        if (running != null) {
            running.carriedEnded(nanoTime - origin);
        }
    }

    /** Grants what has become possible, and ends shares that are not valid any more. */
    void poll(long nanoTime, String problem) {
        long now = nanoTime - origin;
        for (String budget : List.copyOf(shares.keySet())) {
            Share share = shares.get(budget);
            if (share == null || share.running == null) {
                continue;
            }
            if (now < share.validUntil) {
                if (share.running.nextPoll() <= now) {
                    share.running.poll(now);
                }
                continue;
            }
            shares.remove(budget);
            for (long requestId : share.running.waiting()) {
                waiting.remove(requestId);
                answers.refused(requestId, PermitException.noLocalShare(budget, problem));
            }
        }
    }

    /** When {@link #poll} has something to do, as {@link System#nanoTime()}; null for never. */
    Long nextPoll() {
        long next = Meter.UNKNOWN;
        for (Share share : shares.values()) {
            if (share.running != null) {
                next = Math.min(next, Math.min(share.running.nextPoll(), share.validUntil));
            }
        }
        return next == Meter.UNKNOWN ? null : next + origin;
    }

    /** A server is back: nothing more is granted, and who waits here waits there again. */
    void leave() {
        outage++;
        waiting.clear();
        shares.values().forEach(share -> share.running = null);
    }

    private LocalBudget running(String budget) {
        Share share = shares.get(budget);
        return share == null ? null : share.running;
    }

    private static Amounts amounts(AcquireRequest ask) {
        return Amounts.estimated(
                ask.hasEstimate() ? ask.getEstimate() : Usage.newBuilder().setTokens(ask.getTokens()).build());
    }

    /** What one budget answers. */
    private final class BudgetAnswers implements LocalBudget.Answers {
        private final String budget;

        BudgetAnswers(String budget) {
            this.budget = budget;
        }

        @Override
        public void granted(long requestId, LocalBudget.Entry entry) {
            Asked asked = waiting.remove(requestId);
            live.merge(budget, 1, Integer::sum);
            Permit permit = new Permit(
                    "",
                    asked.ask.getProvider(),
                    asked.ask.getKey(),
                    entry.charged().toUsage(),
                    Duration.ofNanos(System.nanoTime() - asked.askedAt),
                    Optional.empty(),
                    Permit.Source.LOCAL_SHARE);
            answers.granted(requestId, permit, new Held(outage, budget, entry));
        }

        @Override
        public void refused(long requestId, PermitException problem) {
            waiting.remove(requestId);
            answers.refused(requestId, problem);
        }
    }
}
