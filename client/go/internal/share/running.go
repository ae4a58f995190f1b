package share

import (
	"cmp"
	"container/heap"
	"container/list"
	"slices"
	"time"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Waits without a word from the provider, and the longest that counts.
const (
	waitDefault = time.Second
	waitMax     = 24 * time.Hour
)

// running is a share in use: first come, first served, but for requests that touch other limits than those that wait. Whoever waits
// keeps what comes back on the limits that it touches for itself, so that small requests do not starve a large one.
type running struct {
	limits
	inFlight int64
	lanes    map[touched]*list.List
	byID     map[uint64]*list.Element
	arrivals uint64
	times    deadlines
	// Nothing is granted before.
	frozenUntil time.Time
	// The provider said that there is nothing left; until then, where that is known.
	exhausted      bool
	exhaustedUntil time.Time
}

// What a request takes: in all, and of each rate that it touches.
type charge struct {
	usage usage
	rates []int
	of    []int64
}

// grant is what a permit of the share holds.
type grant struct {
	usage usage
	taken []taken
	units []string
	ended bool
}

func start(limits limits, carried int) *running {
	return &running{
		limits:   limits,
		inFlight: int64(carried),
		lanes:    make(map[touched]*list.List),
		byID:     make(map[uint64]*list.Element),
	}
}

// A grant, or a place in the queue, or a refusal.
func (r *running) acquire(ask *Ask, tenant string, now time.Time) (*grant, *wire.Refused) {
	charge, lane, refused := r.charge(ask, tenant)
	if refused == nil && r.isExhausted(now) {
		refused = r.quotaExhausted(now)
	}
	if refused != nil {
		return nil, refused
	}
	r.arrivals++
	entry := &queued{id: ask.ID, arrival: r.arrivals, lane: lane, ask: charge, asked: now, until: ask.Until}
	if r.isFree(lane) && r.fits(entry, now) {
		return r.grant(entry, now), nil
	}
	if ready, limit := r.readyAt(entry, now); !ask.Until.IsZero() && !ready.Before(ask.Until) {
		return nil, notInTime(ready.Sub(now), limit)
	}
	r.enqueue(entry)
	return nil, nil
}

func (r *running) charge(ask *Ask, tenant string) (charge, touched, *wire.Refused) {
	made := charge{usage: estimated(ask.Request)}
	var lane touched
	for i := range r.rates {
		rate := &r.rates[i]
		if !rate.counts(ask.Request.Model, tenant) {
			continue
		}
		lane[i/64] |= 1 << (i % 64)
		amount, guessed := made.usage.of(rate.unit)
		if clamp(minus(amount, guessed)) > rate.capacity() {
			return charge{}, lane, larger(rate, amount)
		}
		// A guess never makes a request too large.
		made.rates = append(made.rates, i)
		made.of = append(made.of, min(clamp(amount), rate.capacity()))
	}
	return made, lane, nil
}

// Whether nobody waits for any of these limits.
func (r *running) isFree(lane touched) bool {
	for other := range r.lanes {
		if other == lane || other.overlaps(lane) {
			return false
		}
	}
	return true
}

func (r *running) hasSlot() bool {
	return r.limits.inFlight == 0 || r.inFlight < r.limits.inFlight
}

func (r *running) fits(entry *queued, now time.Time) bool {
	if !r.hasSlot() || now.Before(r.frozenUntil) {
		return false
	}
	for i, rate := range entry.ask.rates {
		if !r.rates[rate].fits(entry.ask.of[i], now) {
			return false
		}
	}
	return true
}

// When it could go if it were alone, and what holds it until then. A slot comes back nobody knows when: perhaps at once.
func (r *running) readyAt(entry *queued, now time.Time) (ready time.Time, limit string) {
	ready, limit = now, inFlight
	if r.frozenUntil.After(ready) {
		ready, limit = r.frozenUntil, "frozen"
	}
	for i, rate := range entry.ask.rates {
		if at := r.rates[rate].readyAt(entry.ask.of[i], now); at.After(ready) {
			ready, limit = at, r.rates[rate].name
		}
	}
	return ready, limit
}

func (r *running) enqueue(entry *queued) {
	lane := r.lanes[entry.lane]
	if lane == nil {
		lane = list.New()
		r.lanes[entry.lane] = lane
	}
	r.byID[entry.id] = lane.PushBack(entry)
	if !entry.until.IsZero() {
		heap.Push(&r.times, entry)
	}
}

func (r *running) remove(entry *queued) {
	lane := r.lanes[entry.lane]
	lane.Remove(r.byID[entry.id])
	delete(r.byID, entry.id)
	if lane.Len() == 0 {
		delete(r.lanes, entry.lane)
	}
	if !entry.until.IsZero() {
		heap.Remove(&r.times, entry.index)
	}
}

func (r *running) grant(entry *queued, now time.Time) *grant {
	granted := &grant{usage: entry.ask.usage}
	for i, rate := range entry.ask.rates {
		granted.taken = append(granted.taken, r.rates[rate].take(entry.ask.of[i], now))
		granted.units = append(granted.units, r.rates[rate].unit)
	}
	r.inFlight++
	return granted
}

// Refuses what is late, then grants what has become possible.
func (r *running) dispatch(now time.Time, granted func(*queued, *grant), refused func(*queued, *wire.Refused)) {
	for len(r.times) > 0 && !now.Before(r.times[0].until) && !r.fits(r.times[0], now) {
		entry := r.times[0]
		ready, limit := r.readyAt(entry, now)
		r.remove(entry)
		refused(entry, notInTime(ready.Sub(now), limit))
	}
	if r.isExhausted(now) {
		for _, place := range r.byID {
			entry := place.Value.(*queued)
			r.remove(entry)
			refused(entry, r.quotaExhausted(now))
		}
	}
	for entry := r.next(now); entry != nil; entry = r.next(now) {
		r.remove(entry)
		granted(entry, r.grant(entry, now))
	}
}

// The first that can go, of those that touch no limit that somebody before them waits for.
func (r *running) next(now time.Time) *queued {
	if len(r.lanes) == 0 || !r.hasSlot() {
		return nil
	}
	var blocked touched
	for _, entry := range r.heads() {
		if !entry.lane.overlaps(blocked) && r.fits(entry, now) {
			return entry
		}
		blocked.add(entry.lane)
	}
	return nil
}

// The first of each lane, in the order in which they came.
func (r *running) heads() []*queued {
	heads := make([]*queued, 0, len(r.lanes))
	for _, lane := range r.lanes {
		heads = append(heads, lane.Front().Value.(*queued))
	}
	slices.SortFunc(heads, func(one, other *queued) int { return cmp.Compare(one.arrival, other.arrival) })
	return heads
}

// When dispatch has something to do by itself; zero if never.
func (r *running) nextAt(now time.Time) time.Time {
	var next time.Time
	if r.hasSlot() {
		var blocked touched
		for _, entry := range r.heads() {
			if entry.lane.overlaps(blocked) {
				continue
			}
			if ready, _ := r.readyAt(entry, now); next.IsZero() || ready.Before(next) {
				next = ready
			}
			blocked.add(entry.lane)
		}
	}
	if len(r.times) > 0 && (next.IsZero() || r.times[0].until.Before(next)) {
		next = r.times[0].until
	}
	return next
}

// A permit from before, or of this share, has ended: its slot is free.
func (r *running) slotEnded() {
	r.inFlight = max(r.inFlight-1, 0)
}

func (r *running) settle(granted *grant, used usage, now time.Time) {
	granted.ended = true
	r.slotEnded()
	for i, taken := range granted.taken {
		amount, _ := used.of(granted.units[i])
		taken.meter.settle(taken, clamp(amount), now)
	}
}

func (r *running) freeze(wait *time.Duration, now time.Time) {
	span := waitDefault
	if wait != nil {
		span = min(*wait, waitMax)
	}
	if until := now.Add(span); until.After(r.frozenUntil) {
		r.frozenUntil = until
	}
}

func (r *running) exhaust(wait *time.Duration, now time.Time) {
	r.exhausted, r.exhaustedUntil = true, time.Time{}
	if wait != nil {
		r.exhaustedUntil = now.Add(min(*wait, waitMax))
	}
}

func (r *running) isExhausted(now time.Time) bool {
	if r.exhausted && !r.exhaustedUntil.IsZero() && !now.Before(r.exhaustedUntil) {
		r.exhausted = false
	}
	return r.exhausted
}
