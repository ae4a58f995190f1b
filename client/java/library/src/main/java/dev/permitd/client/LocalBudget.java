package dev.permitd.client;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import permitd.v1.BudgetOuterClass.Limit;

/**
 * A local share in use: limits that are taken together, and a queue in which whoever asked first is first among those that touch the
 * same limits. Told the time, in nanoseconds.
 */
final class LocalBudget {
    /** The wait after a refusal by the provider that gives none, in nanoseconds: the first step of the server's ladder. */
    private static final long FREEZE_DEFAULT = 1_000_000_000L;

    /** The longest wait that is believed, in nanoseconds: a day. */
    private static final long FREEZE_MAX = 86_400_000_000_000L;

    /** One limit of the share. */
    private record Counted(Limit limit, String name, Meter meter) {
        /** A limit for each tenant is one for all tenants of this client. Who is in flight counts for every model. */
        boolean touches(String model, String tenant) {
            if (isSlots()) {
                return true;
            }
            boolean tenants = limit.getTenants().equals("each") || Glob.matches(limit.getTenants(), tenant);
            return tenants && Glob.matches(limit.getModels(), model);
        }

        boolean isSlots() {
            return limit.getUnit().equals("in_flight");
        }

        long cost(Amounts amounts) {
            return isSlots() ? 1 : amounts.of(limit.getUnit());
        }
    }

    /** A request, and once it is granted, the permit. */
    static final class Entry {
        private final long requestId;
        private final Amounts charged;
        private final List<Counted> touched;
        private final long deadline;
        private long takenAt;

        private Entry(long requestId, Amounts charged, List<Counted> touched, long deadline) {
            this.requestId = requestId;
            this.charged = charged;
            this.touched = touched;
            this.deadline = deadline;
        }

        Amounts charged() {
            return charged;
        }
    }

    /** What became of requests. */
    interface Answers {
        void granted(long requestId, Entry entry);

        void refused(long requestId, PermitException problem);
    }

    private final List<Counted> limits = new ArrayList<>();
    private final Answers answers;
    private final Map<Long, Entry> waiting = new LinkedHashMap<>();
    private long frozenUntil;

    /** When somebody who waits could go, or has to be told that the time is over; {@link Meter#UNKNOWN} if nobody knows. */
    private long nextPoll = Meter.UNKNOWN;

    /** Empty, but for {@code inFlight} permits that are held from before. */
    LocalBudget(List<Limit> share, int inFlight, Answers answers, long now) {
        this.answers = answers;
        this.frozenUntil = now;
        for (Limit limit : share) {
            Meter meter = Meter.of(limit, inFlight, now);
            if (meter != null) {
                limits.add(new Counted(limit, LimitNames.name(limit), meter));
            }
        }
    }

    /** Whether every limit makes sense: if not, the share can't be kept. */
    static boolean isSound(List<Limit> share) {
        return !share.isEmpty() && share.stream().allMatch(limit -> Meter.of(limit, 0, 0) != null);
    }

    /** Answers now, or later. {@code wait} in nanoseconds; negative means as long as it takes. */
    void acquire(long requestId, Amounts amounts, String model, String tenant, long wait, long now) {
        List<Counted> touched = limits.stream().filter(limit -> limit.touches(model, tenant)).toList();
        for (Counted limit : touched) {
            if (limit.cost(amounts) > limit.meter.most()) {
                String message = limit.cost(amounts) + " is more than " + limit.name + " ever holds, "
                        + limit.meter.most() + "; split the request";
                answers.refused(
                        requestId,
                        PermitException.refusedLocally(PermitException.LARGER_THAN_LIMIT, message, limit.name, null));
                return;
            }
        }
        long deadline = wait < 0 ? Meter.UNKNOWN : now + wait;
        Entry entry = new Entry(requestId, amounts, touched, deadline);
        if (readyAt(entry, now) > deadline && readyAt(entry, now) != Meter.UNKNOWN) {
            answers.refused(requestId, notInTime(entry, now));
            return;
        }
        waiting.put(requestId, entry);
        poll(now);
    }

    void cancel(long requestId, long now) {
        if (waiting.remove(requestId) != null) {
            poll(now);
        }
    }

    /** Settles a permit that was granted here. */
    void settle(Entry entry, Amounts actual, long now) {
        for (Counted limit : entry.touched) {
            long used = limit.isSlots() ? 0 : limit.cost(actual);
            limit.meter.settle(limit.cost(entry.charged), used, entry.takenAt, now);
        }
        poll(now);
    }

    /** A permit from before has ended: its slot is free. */
    void carriedEnded(long now) {
        limits.stream().filter(Counted::isSlots).forEach(limit -> limit.meter.settle(1, 0, now, now));
        poll(now);
    }

    /** The provider refused: nothing is granted for a while. */
    void freeze(long span, long now) {
        long kept = span < 0 ? FREEZE_DEFAULT : Math.min(span, FREEZE_MAX);
        frozenUntil = Math.max(frozenUntil, now + kept);
    }

    long nextPoll() {
        return nextPoll;
    }

    Set<Long> waiting() {
        return new HashSet<>(waiting.keySet());
    }

    /** Grants what has become possible, and refuses those whose time is over. */
    void poll(long now) {
        nextPoll = Meter.UNKNOWN;
        Set<Counted> reserved = new HashSet<>();
        List<Runnable> told = new ArrayList<>();
        Iterator<Entry> entries = waiting.values().iterator();
        // Once every limit is reserved for somebody, only deadlines are left to look at.
        while (entries.hasNext()) {
            Entry entry = entries.next();
            boolean isFree = reserved.size() < limits.size() || limits.isEmpty();
            isFree = isFree && entry.touched.stream().noneMatch(reserved::contains);
            long readyAt = isFree ? readyAt(entry, now) : Meter.UNKNOWN;
            if (readyAt <= now) {
                entries.remove();
                take(entry, now);
                told.add(() -> answers.granted(entry.requestId, entry));
            } else if (entry.deadline <= now) {
                entries.remove();
                PermitException problem = notInTime(entry, now);
                told.add(() -> answers.refused(entry.requestId, problem));
            } else {
                reserved.addAll(entry.touched);
                nextPoll = Math.min(nextPoll, Math.min(readyAt, entry.deadline));
            }
        }
        told.forEach(Runnable::run);
    }

    private void take(Entry entry, long now) {
        entry.takenAt = now;
        for (Counted limit : entry.touched) {
            limit.meter.take(limit.cost(entry.charged), now);
        }
    }

    private long readyAt(Entry entry, long now) {
        long readyAt = Math.max(now, frozenUntil);
        for (Counted limit : entry.touched) {
            readyAt = Math.max(readyAt, limit.meter.readyAt(limit.cost(entry.charged), now));
        }
        return readyAt;
    }

    private PermitException notInTime(Entry entry, long now) {
        Counted worst = null;
        long readyAt = now;
        for (Counted limit : entry.touched) {
            long ready = limit.meter.readyAt(limit.cost(entry.charged), now);
            if (ready >= readyAt) {
                worst = limit;
                readyAt = ready;
            }
        }
        readyAt = Math.max(readyAt, frozenUntil);
        String name = worst == null ? null : worst.name;
        java.time.Duration wait = readyAt == Meter.UNKNOWN ? null : java.time.Duration.ofNanos(readyAt - now);
        String message = "not in time: " + (name == null ? "the queue" : name) + " is short; allow more time (maxWait)";
        return PermitException.refusedLocally(PermitException.NOT_IN_TIME, message, name, wait);
    }
}
