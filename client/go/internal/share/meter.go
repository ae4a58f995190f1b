package share

import (
	"math"
	"math/bits"
	"time"
)

// Amounts are cut to this, on the safe side, so that sums of two fit.
const amountMax = math.MaxInt64 / 4

// A window is kept as at most so many entries, and one more.
const windowEntries = 1024

// meter is how much of one rate limit is left. All integers: nothing is rounded. Levels below zero are debt.
type meter interface {
	// What may be taken at once after idle time.
	capacity() int64
	// Whether so much is there by now.
	fits(amount int64, now time.Time) bool
	// When so much, which the capacity holds, will be there if nothing more is taken.
	readyAt(amount int64, now time.Time) time.Time
	take(amount int64, now time.Time) taken
	// Replaces what was taken by what was used.
	settle(taken taken, used int64, now time.Time)
}

// taken is one charge of one meter.
type taken struct {
	meter  meter
	amount int64
	// Where it counts, for a window.
	entry *entry
}

// bucket refills continuously.
type bucket struct {
	// So much comes back in each `per`.
	amount int64
	per    time.Duration
	burst  int64
	level  int64
	// What has come back beyond the level, in parts: a unit has as many of them as `per` has nanoseconds.
	parts uint64
	at    time.Time
}

func (b *bucket) refill(now time.Time) {
	elapsed := now.Sub(b.at)
	if elapsed <= 0 {
		return
	}
	b.at = now
	high, low := bits.Mul64(uint64(elapsed), uint64(b.amount))
	low, carry := bits.Add64(low, b.parts, 0)
	room := uint64(b.burst - b.level)
	if high += carry; high < uint64(b.per) {
		gained, rest := bits.Div64(high, low, uint64(b.per))
		if gained < room {
			b.level, b.parts = b.level+int64(gained), rest
			return
		}
	}
	b.level, b.parts = b.burst, 0
}

func (b *bucket) capacity() int64 { return b.burst }

func (b *bucket) fits(amount int64, now time.Time) bool {
	b.refill(now)
	return b.level >= amount
}

func (b *bucket) readyAt(amount int64, now time.Time) time.Time {
	if b.fits(amount, now) {
		return now
	}
	high, low := bits.Mul64(uint64(amount-b.level), uint64(b.per))
	low, borrow := bits.Sub64(low, b.parts, 0)
	high -= borrow
	if high >= uint64(b.amount) {
		return never(now)
	}
	wait, rest := bits.Div64(high, low, uint64(b.amount))
	if rest > 0 {
		wait++
	}
	if wait > uint64(farAway) {
		return never(now)
	}
	return now.Add(time.Duration(wait))
}

func (b *bucket) take(amount int64, _ time.Time) taken {
	b.level -= amount
	return taken{meter: b, amount: amount}
}

func (b *bucket) settle(taken taken, used int64, now time.Time) {
	b.refill(now)
	// Debt is at most one window's amount, so that an absurd number does not stop the share for good.
	b.level = min(max(b.level+taken.amount-used, -b.amount), b.burst)
	if b.level == b.burst {
		b.parts = 0
	}
}

// window lets no more than the amount be taken in any stretch of `per`.
type window struct {
	amount  int64
	per     time.Duration
	used    int64
	entries []*entry
}

// What was taken within a small part of the window leaves together with the latest of it.
type entry struct {
	first, last time.Time
	used        int64
	gone        bool
}

func (w *window) expire(now time.Time) {
	for len(w.entries) > 0 && now.Sub(w.entries[0].last) >= w.per {
		w.used -= w.entries[0].used
		w.entries[0].gone = true
		w.entries = w.entries[1:]
	}
}

func (w *window) capacity() int64 { return w.amount }

func (w *window) fits(amount int64, now time.Time) bool {
	w.expire(now)
	return w.used+amount <= w.amount
}

func (w *window) readyAt(amount int64, now time.Time) time.Time {
	w.expire(now)
	used := w.used
	for _, entry := range w.entries {
		if used+amount <= w.amount {
			break
		}
		used -= entry.used
		if used+amount <= w.amount {
			return entry.last.Add(w.per)
		}
	}
	return now
}

func (w *window) take(amount int64, now time.Time) taken {
	w.used += amount
	last := len(w.entries) - 1
	if last < 0 || now.Sub(w.entries[last].first) > w.per/windowEntries {
		w.entries = append(w.entries, &entry{first: now})
		last++
	}
	entry := w.entries[last]
	entry.last = now
	entry.used += amount
	return taken{meter: w, amount: amount, entry: entry}
}

func (w *window) settle(taken taken, used int64, now time.Time) {
	w.expire(now)
	if taken.entry.gone {
		return
	}
	// Debt as for a bucket.
	change := min(used-taken.amount, max(2*w.amount-w.used, 0))
	w.used += change
	taken.entry.used += change
}

// Longer than any share is valid.
const farAway = 400 * 24 * time.Hour

func never(now time.Time) time.Time {
	return now.Add(farAway)
}
