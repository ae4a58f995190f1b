package dev.permitd.client;

import io.grpc.Status;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Function;
import java.util.function.LongSupplier;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.PermitOuterClass.ReportResponse;
import permitd.v1.Session.Granted;
import permitd.v1.Session.Refused;
import permitd.v1.Session.SessionRequest;

/**
 * Everything that has no final answer yet, so that a broken session loses nothing: requests by id, permits by id, and what has to go
 * out next. It is told the time, does no I/O, and belongs to the driver's thread.
 *
 * <p>Invariant: whatever was granted leaves this table only by an answered report. A grant that nobody waits for is reported as
 * cancelled.
 */
final class Table {
    /** Unanswered reports and cancels, past which nothing new is taken from callers until the server catches up. */
    private static final int UNANSWERED_MAX = 100_000;

    /** Cancels that are remembered for the case that the session breaks. */
    private static final int CANCELLING_MAX = 10_000;

    /**
     * What was refused for now is not asked again before that, whatever the server says, and together with what is due within as much;
     * in nanoseconds.
     */
    private static final long AGAIN = 10_000_000L;

    /** The longest life of a permit that counts, in nanoseconds: a day. */
    private static final long TTL_MAX = 86_400_000_000_000L;

    /** By id, and so in the order in which they asked. */
    private final TreeMap<Long, Waiting> waiting = new TreeMap<>();

    /** Requests that the server knows by another number than their own. */
    private final Map<Long, Long> renumbered = new HashMap<>();

    /** Requests that were refused for now, and when they are asked again. */
    private final Map<Long, Long> again = new HashMap<>();

    private final Map<String, Held> permits = new HashMap<>();
    private int reporting;

    /** Cancels that the server has perhaps not seen. */
    private final Set<Long> cancelling = new LinkedHashSet<>();

    private final Outbox outbox = new Outbox();

    /** When {@link #sweep} has something to do; null for never. */
    private Long nextSweep;

    private final Function<Permit, Guard> guards;
    private final Executor executor;
    private final LongSupplier numbers;

    /** Makes guards of permits by {@code guards}, and hands advice over by {@code executor}. {@code numbers} never repeat. */
    Table(Function<Permit, Guard> guards, Executor executor, LongSupplier numbers) {
        this.numbers = numbers;
        this.guards = guards;
        this.executor = executor;
    }

    // What callers want.

    void acquire(Waiting asked) {
        outbox.acquire(asked.id());
        waiting.put(asked.id(), asked);
    }

    /** Gives back what was cancelled, or null if it did not wait. */
    Waiting cancel(long requestId) {
        Waiting gone = remove(requestId);
        if (gone != null && gone.isSent) {
            outbox.cancel(gone.number);
            remember(gone.number);
        }
        return gone;
    }

    /** Of a permit that is not known here, or of one with a guard. The first report counts. */
    void report(String permitId, Report report, CompletableFuture<Advice> reply) {
        Held held = permits.computeIfAbsent(permitId, id -> new Held(0, "", 0));
        if (!held.isLive()) {
            // A guard that outlived its client: the client has reported for it.
            answer(reply, PermitException.closed(), null);
            return;
        }
        held.report = report.toWire(permitId);
        held.assumed = report.assumedOutcome();
        held.reply = reply;
        held.isRefusedForNow = false;
        reporting++;
        outbox.report(permitId);
    }

    /** Whether more may be taken from callers. */
    boolean hasRoom() {
        return reporting < UNANSWERED_MAX && outbox.cancels() < UNANSWERED_MAX;
    }

    boolean isReporting() {
        return reporting > 0;
    }

    int waitingCount() {
        return waiting.size();
    }

    // What the server says.

    /** A new session stands. With {@code resumed} the server still knows everything; without, nothing. */
    void welcome(boolean resumed, long now) {
        outbox.clear();
        again.clear();
        waiting.keySet().forEach(outbox::acquire);
        permits.forEach((permitId, held) -> {
            if (!held.isLive()) {
                held.isRefusedForNow = false;
                outbox.report(permitId);
            } else if (!held.isKnown) {
                // Whatever the last server thought of it, this one is asked.
                held.isKnown = true;
                held.extendAt = now;
            }
        });
        if (resumed) {
            cancelling.forEach(outbox::cancel);
        } else {
            waiting.values().forEach(asked -> asked.isSent = false);
        }
        cancelling.clear();
        nextSweep = now;
    }

    void granted(Granted granted, long now) {
        if (!granted.hasPermit()) {
            return;
        }
        var permit = granted.getPermit();
        long ttl = Math.min(Spans.nanos(Spans.fromWire(permit.getTtl())), TTL_MAX);
        Held known = permits.get(permit.getPermitId());
        if (known != null) {
            // Sent again on resume, or with a new end.
            if (known.isLive()) {
                known.extendAt = now + ttl / 2;
            }
            return;
        }
        cancelling.remove(granted.getRequestId());
        long requestId = renumbered.getOrDefault(granted.getRequestId(), granted.getRequestId());
        Waiting asked = waiting.get(requestId);
        if (asked == null) {
            report(permit.getPermitId(), Report.cancelled(), null);
            return;
        }
        Held held = new Held(ttl, Budgets.name(permit.getProvider(), permit.getKey()), now + ttl / 2);
        permits.put(permit.getPermitId(), held);
        if (held.isExtended()) {
            sweepBy(held.extendAt);
        }
        if (asked.remaining == 1) {
            remove(requestId);
        }
        asked.grant(guards.apply(Permit.fromWire(permit)));
    }

    /** Whether the server is about to stop; the request stays then, for another one. */
    boolean refused(Refused refused, long now) {
        if (!refused.getPermitId().isEmpty()) {
            permitRefused(refused, now);
            return false;
        }
        cancelling.remove(refused.getRequestId());
        if (refused.getReason().equals(PermitException.DRAINING)) {
            return true;
        }
        long requestId = renumbered.getOrDefault(refused.getRequestId(), refused.getRequestId());
        if (!askAgain(requestId, refused, now)) {
            Waiting asked = remove(requestId);
            if (asked != null) {
                asked.refuse(PermitException.refused(refused));
            }
        }
        return false;
    }

    /**
     * Lets a request wait on where its refusal passes within the time that it has. The server gets another number for it, since the old
     * one stays refused. False if the caller has to be told.
     */
    private boolean askAgain(long requestId, Refused refused, long now) {
        Waiting asked = waiting.get(requestId);
        if (asked == null || !passes(refused)) {
            return false;
        }
        long wait = passesAfter(refused);
        long left = asked.waitLeft(now);
        if (left >= 0 && left < wait) {
            return false;
        }
        renumbered.remove(asked.number);
        asked.number = numbers.getAsLong();
        asked.isSent = false;
        renumbered.put(asked.number, requestId);
        again.put(requestId, now + wait);
        sweepBy(now + wait);
        return true;
    }

    /** Whether the refusal passes by itself, such as of a server that can't write to its store. */
    private static boolean passes(Refused refused) {
        return refused.getCode() == Status.Code.UNAVAILABLE.value() && refused.hasRetryAfter();
    }

    private static long passesAfter(Refused refused) {
        return Math.max(Spans.nanos(Spans.fromWire(refused.getRetryAfter())), AGAIN);
    }

    private Waiting remove(long requestId) {
        Waiting gone = waiting.remove(requestId);
        if (gone != null) {
            renumbered.remove(gone.number);
            again.remove(requestId);
        }
        return gone;
    }

    private void permitRefused(Refused refused, long now) {
        Held held = permits.get(refused.getPermitId());
        if (held == null) {
            return;
        }
        if (passes(refused)) {
            held.isRefusedForNow = !held.isLive();
            held.extendAt = now + passesAfter(refused);
            sweepBy(held.extendAt);
            return;
        }
        if (!held.isLive() && refused.getReason().equals(PermitException.PERMIT_UNKNOWN)) {
            // The refusal of an extension, while the report was on its way: that has an answer of its own.
            return;
        }
        if (held.isLive()) {
            held.isKnown = false;
            return;
        }
        PermitException problem = PermitException.refused(refused);
        CompletableFuture<Advice> reply = held.reply;
        held.reply = null;
        if (held.isBare) {
            // Even the outcome alone is refused: there is nothing left to say, the permit will expire.
            settled(refused.getPermitId());
        } else {
            held.isBare = true;
            held.report = Report.of(held.assumed).toWire(refused.getPermitId());
            outbox.report(refused.getPermitId());
        }
        answer(reply, problem, null);
    }

    void answered(ReportResponse response) {
        Held held = permits.get(response.getPermitId());
        if (held != null && !held.isLive()) {
            settled(response.getPermitId());
            answer(held.reply, null, response);
        }
    }

    private void settled(String permitId) {
        permits.remove(permitId);
        reporting--;
    }

    private void answer(CompletableFuture<Advice> reply, PermitException problem, ReportResponse response) {
        if (reply == null) {
            return;
        }
        Handing.by(executor, () -> {
            if (problem != null) {
                reply.completeExceptionally(problem);
            } else {
                reply.complete(Advice.fromWire(response));
            }
        });
    }

    // Time.

    /** When {@link #sweep} has something to do; null for never. */
    Long nextSweep() {
        return nextSweep;
    }

    /**
     * Extends the permits of guards that live long, and says again what was refused for now. Everything that is due soon goes along, so
     * that a sweep is seldom: for a permit not more often than eight times in its life.
     */
    void sweep(long now) {
        if (nextSweep == null || now - nextSweep < 0) {
            return;
        }
        nextSweep = null;
        permits.forEach((permitId, held) -> {
            if (held.isRefusedForNow) {
                if (held.extendAt - (now + AGAIN) <= 0) {
                    held.isRefusedForNow = false;
                    outbox.report(permitId);
                } else {
                    sweepBy(held.extendAt);
                }
            }
            if (!held.isExtended()) {
                return;
            }
            if (held.extendAt - (now + held.ttl / 8) <= 0) {
                outbox.extend(permitId);
                held.extendAt = now + held.ttl / 2;
            }
            sweepBy(held.extendAt);
        });
        again.entrySet().removeIf(due -> {
            boolean isDue = due.getValue() - (now + AGAIN) <= 0;
            if (isDue) {
                outbox.acquire(due.getKey());
            } else {
                sweepBy(due.getValue());
            }
            return isDue;
        });
    }

    private void sweepBy(long at) {
        if (nextSweep == null || at - nextSweep < 0) {
            nextSweep = at;
        }
    }

    // Going out.

    boolean hasOutgoing() {
        return !outbox.isEmpty();
    }

    /** Whatever is ready, within the bounds of one message. May come out empty where everything was cancelled meanwhile. */
    SessionRequest message(long now) {
        return outbox.message(requestId -> ask(requestId, now), this::reportOf, this::remember);
    }

    private AcquireRequest ask(long requestId, long now) {
        Waiting asked = waiting.get(requestId);
        if (asked == null) {
            return null;
        }
        asked.isSent = true;
        return asked.message(now);
    }

    private ReportRequest reportOf(String permitId) {
        Held held = permits.get(permitId);
        return held == null ? null : held.report;
    }

    private void remember(long requestId) {
        if (cancelling.size() < CANCELLING_MAX) {
            cancelling.add(requestId);
        }
    }

    // Without a server.

    /** All that wait, in the order in which they asked. */
    Collection<Waiting> allWaiting() {
        return List.copyOf(waiting.values());
    }

    /** The request, if it waits; else null. */
    Waiting waiting(long requestId) {
        return waiting.get(requestId);
    }

    /** Callers that wait for advice are told that there is none for now; the reports stay. */
    void letReportersGo(String problem) {
        for (Held held : permits.values()) {
            CompletableFuture<Advice> reply = held.reply;
            held.reply = null;
            answer(reply, PermitException.reportKept(problem), null);
        }
    }

    /** Permits of {@code budget} that the server gave and that have a guard. */
    int live(String budget) {
        return (int) permits.values().stream().filter(held -> held.isLive() && held.budget.equals(budget)).count();
    }

    /** The budget of a permit that the server gave and that is not reported yet; else null. */
    String budgetOfLive(String permitId) {
        Held held = permits.get(permitId);
        return held != null && held.isLive() ? held.budget : null;
    }

    /** Ends everything: what waits is cancelled, what is held is reported as its guard would when closed. */
    void close() {
        for (Waiting asked : allWaiting()) {
            cancel(asked.id());
            asked.refuse(PermitException.closed());
        }
        List<String> live = permits.entrySet().stream()
                .filter(entry -> entry.getValue().isLive())
                .map(Map.Entry::getKey)
                .toList();
        live.forEach(permitId -> report(permitId, Report.failed(), null));
    }

    /** The driver's last act: whoever waits for advice gets none. */
    void abandon() {
        close();
        permits.values().forEach(held -> answer(held.reply, PermitException.closed(), null));
        permits.clear();
    }
}
