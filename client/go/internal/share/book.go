// Package share enforces the safe shares that the server sends ahead of time, while no server can be reached. It is pure: time comes in
// as an argument.
//
// Invariant: a share never adds to what the server may just have granted. Rate limits start empty, and permits that are still held from
// before the outage count against the share's concurrency.
package share

import (
	"cmp"
	"slices"
	"time"

	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// Shares that are kept; more than a client uses in practice.
	sharesMax = 10_000
	// Longer than any outage through which a share should be trusted.
	validMax = 7 * 24 * time.Hour
)

// Book is all that is known of shares.
type Book struct {
	// Of requests that name none.
	tenant string
	// Outages are counted, so that permits of an earlier one are told apart.
	outage uint64
	shares map[string]*kept
	// Permits of any outage that are not reported, per budget.
	live    map[string]int
	answers []Answer
}

type kept struct {
	limits     []*wire.Limit
	validUntil time.Time
	// nil while nobody has asked in this outage.
	running *running
}

// Ask is what a request asks of its share.
type Ask struct {
	ID      uint64
	Budget  string
	Request *wire.AcquireRequest
	// Until when it may wait; zero if nobody says.
	Until time.Time
	// Permits of the budget that the server gave and that are still held. Asked for once in an outage.
	Held func() int
}

// Answer is what became of a request: exactly one of the three.
type Answer struct {
	ID      uint64
	Permit  *Permit
	Refused *wire.Refused
	// The share is not valid any more: its budget.
	Gone string
}

// Permit is a permit of a share, to be reported to the book.
type Permit struct {
	Budget  string
	Charged *wire.Usage
	Waited  time.Duration
	outage  uint64
	grant   *grant
}

// NewBook knows nothing yet. `tenant` is the one of requests that name none.
func NewBook(tenant string) *Book {
	return &Book{tenant: tenant, shares: make(map[string]*kept), live: make(map[string]int)}
}

// Learn takes the server's newest word. A share that makes no sense, or is none, takes away what was known.
func (b *Book) Learn(told *wire.LocalShare, budget string, now time.Time) {
	_, sound := readLimits(told.Limits, now)
	valid := min(told.ValidFor.AsDuration(), validMax)
	if _, known := b.shares[budget]; sound && valid > 0 && (known || len(b.shares) < sharesMax) {
		b.shares[budget] = &kept{limits: told.Limits, validUntil: now.Add(valid)}
	} else {
		delete(b.shares, budget)
	}
}

// Acquire asks in the server's place. Answers may be for other requests too.
func (b *Book) Acquire(ask *Ask, now time.Time) {
	share := b.shares[ask.Budget]
	if share == nil || !now.Before(share.validUntil) {
		b.answers = append(b.answers, Answer{ID: ask.ID, Gone: ask.Budget})
		return
	}
	if share.running == nil {
		limits, _ := readLimits(share.limits, now)
		share.running = start(limits, ask.Held()+b.live[ask.Budget])
	}
	tenant := ask.Request.Tenant
	if tenant == "" {
		tenant = b.tenant
	}
	if tenant == "" {
		tenant = "default"
	}
	grant, refused := share.running.acquire(ask, tenant, now)
	switch {
	case grant != nil:
		b.granted(ask.Budget, ask.ID, grant, 0)
	case refused != nil:
		b.answers = append(b.answers, Answer{ID: ask.ID, Refused: refused})
	}
}

func (b *Book) granted(budget string, id uint64, grant *grant, waited time.Duration) {
	b.live[budget]++
	permit := &Permit{Budget: budget, Charged: grant.usage.toWire(), Waited: waited, outage: b.outage, grant: grant}
	b.answers = append(b.answers, Answer{ID: id, Permit: permit})
}

// Cancel takes a request out of the queue, if it is in one.
func (b *Book) Cancel(id uint64, budget string, now time.Time) {
	running := b.running(budget)
	if running == nil {
		return
	}
	if place := running.byID[id]; place != nil {
		running.remove(place.Value.(*queued))
		b.dispatch(budget, running, now)
	}
}

// Report settles a permit of this or an earlier outage, and answers as a server would.
func (b *Book) Report(permit *Permit, report Report, now time.Time) *wire.ReportResponse {
	b.live[permit.Budget]--
	if b.live[permit.Budget] == 0 {
		delete(b.live, permit.Budget)
	}
	outcome := classify(report)
	answer := &wire.ReportResponse{Outcome: outcome}
	if running := b.running(permit.Budget); running != nil {
		if permit.outage == b.outage {
			answer.Settled, answer.Retry = true, worthAnother(outcome, report.Status)
			running.hear(permit.grant, outcome, report, now)
		} else {
			running.slotEnded()
		}
		b.dispatch(permit.Budget, running, now)
	}
	return answer
}

// Ended says that a permit from before the outage was reported: its slot is free.
func (b *Book) Ended(budget string, now time.Time) {
	if running := b.running(budget); running != nil {
		running.slotEnded()
		b.dispatch(budget, running, now)
	}
}

// Poll grants what has become possible, and ends shares that are not valid any more.
func (b *Book) Poll(now time.Time) {
	for budget, share := range b.shares {
		if share.running == nil {
			continue
		}
		b.dispatch(budget, share.running, now)
		if now.Before(share.validUntil) {
			continue
		}
		for id := range share.running.byID {
			b.answers = append(b.answers, Answer{ID: id, Gone: budget})
		}
		delete(b.shares, budget)
	}
}

// NextPoll is when Poll has something to do; zero if never.
func (b *Book) NextPoll(now time.Time) time.Time {
	var next time.Time
	for _, share := range b.shares {
		if share.running == nil {
			continue
		}
		for _, at := range [...]time.Time{share.validUntil, share.running.nextAt(now)} {
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

// Leave says that a server is back: nothing more is granted, and who waits here waits there again.
func (b *Book) Leave() {
	b.outage++
	for _, share := range b.shares {
		share.running = nil
	}
}

// Answers hands out what has become of requests since the last time.
func (b *Book) Answers() []Answer {
	answers := b.answers
	b.answers = nil
	// The order of maps is nobody's.
	slices.SortStableFunc(answers, func(one, other Answer) int { return cmp.Compare(one.ID, other.ID) })
	return answers
}

func (b *Book) running(budget string) *running {
	if share := b.shares[budget]; share != nil {
		return share.running
	}
	return nil
}

func (b *Book) dispatch(budget string, running *running, now time.Time) {
	running.dispatch(now,
		func(entry *queued, grant *grant) { b.granted(budget, entry.id, grant, now.Sub(entry.asked)) },
		func(entry *queued, refused *wire.Refused) {
			b.answers = append(b.answers, Answer{ID: entry.id, Refused: refused})
		})
}
