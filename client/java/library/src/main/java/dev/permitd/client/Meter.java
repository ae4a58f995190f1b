package dev.permitd.client;

import java.math.BigInteger;
import java.util.ArrayDeque;
import permitd.v1.BudgetOuterClass.Limit;
import permitd.v1.BudgetOuterClass.Window;

/** How one limit of a local share counts. Begins empty: what the server granted last is not in it. Times are in nanoseconds. */
interface Meter {
    /** The most that may ever be taken at once. */
    long most();

    /** When {@code cost} could be taken if nothing else was: not after {@code now} if at once, {@link #UNKNOWN} if nobody can say. */
    long readyAt(long cost, long now);

    void take(long cost, long now);

    /** What was taken as {@code charged} at {@code takenAt} turned out to be {@code actual}. */
    void settle(long charged, long actual, long takenAt, long now);

    /** It takes somebody's report. */
    long UNKNOWN = Long.MAX_VALUE;

    /** The meter of a limit; null for a limit that makes no sense. */
    static Meter of(Limit limit, int inFlight, long now) {
        long amount = limit.getAmount() < 0 ? Long.MAX_VALUE : limit.getAmount();
        long per = Spans.nanos(Spans.fromWire(limit.getPer()));
        if (amount == 0) {
            return null;
        }
        if (limit.getUnit().equals("in_flight")) {
            return new Slots(amount, inFlight);
        }
        if (limit.getUnit().isEmpty() || per == 0) {
            return null;
        }
        Window window = limit.getWindow();
        if (window == Window.WINDOW_UNSPECIFIED || window == Window.WINDOW_BUCKET) {
            long burst = limit.getBurst() == 0 ? amount : Math.min(limit.getBurst() & Long.MAX_VALUE, amount);
            return new Bucket(amount, per, burst, now);
        }
        if (window != Window.WINDOW_QUANTISED) {
            // A phase is not kept: a sliding window holds for every phase.
            return new Sliding(amount, per, now);
        }
        long quantum = limit.hasQuantum() ? Spans.nanos(Spans.fromWire(limit.getQuantum())) : Sliding.DEFAULT_QUANTUM;
        long part = Bucket.part(amount, quantum, per);
        return part == 0 ? null : new Sliding(Math.min(part, amount), quantum, now);
    }

    /** A token bucket, kept as the moment at which it will be full again. Rounded by less than a nanosecond of the rate. */
    final class Bucket implements Meter {
        private final long amount;
        private final long per;
        private final long burst;
        private final long span;
        private long fullAt;

        Bucket(long amount, long per, long burst, long now) {
            this.amount = amount;
            this.per = per;
            this.burst = burst;
            this.span = spanOf(burst);
            this.fullAt = now + span;
        }

        @Override
        public long most() {
            return burst;
        }

        @Override
        public long readyAt(long cost, long now) {
            return Math.max(now, fullAt + spanOf(cost) - span);
        }

        @Override
        public void take(long cost, long now) {
            fullAt = Math.max(fullAt, now) + spanOf(cost);
        }

        @Override
        public void settle(long charged, long actual, long takenAt, long now) {
            if (actual < charged) {
                fullAt -= Math.min(spanOf(charged - actual), Math.max(0, fullAt - now));
            } else {
                // Debt is at most one window's amount.
                fullAt = Math.min(Math.max(fullAt, now) + spanOf(actual - charged), Math.max(fullAt, now + span + per));
            }
        }

        /** How long it takes to refill, rounded up. */
        private long spanOf(long units) {
            BigInteger product = BigInteger.valueOf(units).multiply(BigInteger.valueOf(per));
            BigInteger[] parts = product.divideAndRemainder(BigInteger.valueOf(amount));
            BigInteger rounded = parts[0].add(BigInteger.valueOf(parts[1].signum()));
            return rounded.min(BigInteger.valueOf(Spans.FOREVER)).longValueExact();
        }

        /** {@code amount * part / whole}, rounded down. */
        static long part(long amount, long part, long whole) {
            BigInteger product = BigInteger.valueOf(amount).multiply(BigInteger.valueOf(part));
            return product.divide(BigInteger.valueOf(whole)).min(BigInteger.valueOf(Long.MAX_VALUE)).longValueExact();
        }
    }

    /** Never more than the amount in any stretch of the window. */
    final class Sliding implements Meter {
        /** What a quantised limit is judged over where nobody says: a second. */
        static final long DEFAULT_QUANTUM = 1_000_000_000L;

        /** What was taken within such a part of the window leaves together with the latest of it, so that entries are bounded. */
        private static final long PARTS = 1_024;

        private static final class Entry {
            private final long began;
            private long at;
            private long amount;

            Entry(long at, long amount) {
                this.began = at;
                this.at = at;
                this.amount = amount;
            }
        }

        private final long amount;
        private final long per;
        private final ArrayDeque<Entry> entries = new ArrayDeque<>();
        private long used;

        Sliding(long amount, long per, long now) {
            this.amount = amount;
            this.per = per;
            take(amount, now);
        }

        @Override
        public long most() {
            return amount;
        }

        @Override
        public long readyAt(long cost, long now) {
            leave(now);
            long over = used - amount + cost;
            long at = now;
            for (Entry entry : entries) {
                if (over <= 0) {
                    break;
                }
                over -= entry.amount;
                at = entry.at + per;
            }
            return at;
        }

        @Override
        public void take(long cost, long now) {
            leave(now);
            Entry last = entries.peekLast();
            if (last == null || now - last.began >= per / PARTS) {
                last = new Entry(now, 0);
                entries.add(last);
            }
            last.at = now;
            // Debt is at most one window's amount.
            long added = Math.min(cost, Math.max(0, Math.min(amount, Long.MAX_VALUE / 2) * 2 - used));
            last.amount += added;
            used += added;
        }

        @Override
        public void settle(long charged, long actual, long takenAt, long now) {
            leave(now);
            if (actual > charged) {
                take(actual - charged, now);
            } else if (now - takenAt < per) {
                // From the oldest: what is left counts for longer, which is the safe side.
                long back = charged - actual;
                for (Entry entry : entries) {
                    long given = Math.min(back, entry.amount);
                    entry.amount -= given;
                    used -= given;
                    back -= given;
                }
            }
        }

        private void leave(long now) {
            while (!entries.isEmpty() && now - entries.peekFirst().at >= per) {
                used -= entries.pollFirst().amount;
            }
        }
    }

    /** Calls in flight. */
    final class Slots implements Meter {
        private final long amount;
        private long used;

        Slots(long amount, long used) {
            this.amount = amount;
            this.used = used;
        }

        @Override
        public long most() {
            return amount;
        }

        @Override
        public long readyAt(long cost, long now) {
            return used + cost <= amount ? now : UNKNOWN;
        }

        @Override
        public void take(long cost, long now) {
            used += cost;
        }

        @Override
        public void settle(long charged, long actual, long takenAt, long now) {
            used -= charged - actual;
        }
    }
}
