package share_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/share"
	"github.com/permitd/permitd/client/go/internal/wire"
)

const budget = "api/prod"

var start = time.Unix(1_000_000_000, 0)

func rate(unit string, amount uint64, per time.Duration) *wire.Limit {
	return &wire.Limit{Unit: unit, Amount: amount, Per: durationpb.New(per)}
}

func slots(amount uint64) *wire.Limit {
	return &wire.Limit{Unit: "in_flight", Amount: amount}
}

// A book in an outage, in virtual time.
type outage struct {
	*share.Book
	t      *testing.T
	now    time.Time
	lastID uint64
	held   int
}

func begin(t *testing.T, limits ...*wire.Limit) *outage {
	t.Helper()
	book := share.NewBook("web")
	book.Learn(&wire.LocalShare{Limits: limits, ValidFor: durationpb.New(time.Hour)}, budget, start)
	return &outage{Book: book, t: t, now: start}
}

func (o *outage) ask(request *wire.AcquireRequest, wait time.Duration) uint64 {
	o.lastID++
	ask := &share.Ask{ID: o.lastID, Budget: budget, Request: request, Held: func() int { return o.held }}
	if wait >= 0 {
		ask.Until = o.now.Add(wait)
	}
	o.Acquire(ask, o.now)
	return o.lastID
}

func tokens(amount uint64) *wire.AcquireRequest {
	return &wire.AcquireRequest{Tokens: amount}
}

const forever = -1

// Goes on for so long, stopping wherever the book says, and collects who is granted when.
func (o *outage) goOn(span time.Duration) (granted []uint64, at []time.Duration) {
	o.t.Helper()
	end := o.now.Add(span)
	for range 100_000 {
		for _, answer := range o.Answers() {
			if answer.Permit != nil {
				granted, at = append(granted, answer.ID), append(at, o.now.Sub(start))
			}
		}
		next := o.NextPoll(o.now)
		if next.IsZero() || next.After(end) {
			o.now = end
			return granted, at
		}
		if next.Before(o.now) {
			o.t.Fatalf("something was due at %v and not done", next)
		}
		o.now = next
		o.Poll(o.now)
	}
	o.t.Fatal("it is always something due: a busy loop")
	return nil, nil
}

func (o *outage) permit() *share.Permit {
	o.t.Helper()
	answers := o.Answers()
	if len(answers) != 1 || answers[0].Permit == nil {
		o.t.Fatalf("no permit but %+v", answers)
	}
	return answers[0].Permit
}

func (o *outage) refusal() *wire.Refused {
	o.t.Helper()
	answers := o.Answers()
	if len(answers) != 1 || answers[0].Refused == nil {
		o.t.Fatalf("no refusal but %+v", answers)
	}
	return answers[0].Refused
}

// Goal: a share starts empty and fills as its limit says, however the provider counts: to the nanosecond.
func TestSharesStartEmpty(t *testing.T) {
	for window, wanted := range map[wire.Window][]time.Duration{
		wire.Window_WINDOW_BUCKET:    {time.Second, 2 * time.Second, 3 * time.Second},
		wire.Window_WINDOW_SLIDING:   {time.Minute, time.Minute, time.Minute},
		wire.Window_WINDOW_FIXED:     {time.Minute, time.Minute, time.Minute},
		wire.Window_WINDOW_QUANTISED: {time.Second, 2 * time.Second, 3 * time.Second},
	} {
		limit := rate("requests", 60, time.Minute)
		limit.Window = window
		outage := begin(t, limit)
		for range 3 {
			outage.ask(tokens(0), forever)
		}
		if _, at := outage.goOn(10 * time.Minute); !slices.Equal(at, wanted) {
			t.Errorf("%v: %v", window, at)
		}
	}
}

// Goal: never over: whatever is asked, reported and cancelled, what is granted within any stretch of time stays within burst and rate.
func TestNeverOver(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		amount, per := 1+random.Uint64N(100), time.Duration(1+random.Int64N(10_000))*time.Millisecond
		limit := rate("input_tokens", amount, per)
		limit.Window = []wire.Window{wire.Window_WINDOW_BUCKET, wire.Window_WINDOW_SLIDING}[random.IntN(2)]
		limit.Burst = 1 + random.Uint64N(amount)
		capacity := amount
		if limit.Window == wire.Window_WINDOW_BUCKET {
			capacity = limit.Burst
		}
		flight := 1 + random.IntN(5)
		outage := begin(t, limit, slots(uint64(flight)))
		outage.held = random.IntN(3)
		type event struct {
			at   time.Time
			used uint64
		}
		var granted []event
		var live []*share.Permit
		asked := make(map[uint64]uint64)
		take := func() {
			for _, answer := range outage.Answers() {
				if answer.Permit != nil {
					granted = append(granted, event{outage.now, asked[answer.ID]})
					live = append(live, answer.Permit)
				}
			}
		}
		for range 300 {
			outage.now = outage.now.Add(time.Duration(random.Int64N(int64(per)/4 + 1)))
			outage.Poll(outage.now)
			take()
			switch random.IntN(4) {
			case 0, 1:
				used := random.Uint64N(capacity + 1)
				asked[outage.lastID+1] = used
				outage.ask(tokens(used), forever)
			case 2:
				if len(live) > 0 {
					// As charged, so that what is granted is what counts.
					outage.Report(live[0], share.Report{Outcome: wire.Outcome_OUTCOME_SUCCESS}, outage.now)
					live = live[1:]
				}
			case 3:
				outage.Cancel(1+random.Uint64N(outage.lastID+1), budget, outage.now)
			}
			take()
			if len(live)+outage.held > max(flight, outage.held) {
				t.Fatalf("seed %d: %d in flight beside %d from before, of %d", seed, len(live), outage.held, flight)
			}
		}
		for i := range granted {
			used := uint64(0)
			for _, event := range granted[i:] {
				used += event.used
				stretch := event.at.Sub(granted[i].at)
				bound := capacity + uint64(stretch)*amount/uint64(per) + 1
				if limit.Window == wire.Window_WINDOW_SLIDING {
					bound = amount
					if stretch >= per {
						break
					}
				}
				if used > bound {
					t.Fatalf("seed %d: %d within %v of %d in %v (burst %d, %v)", seed, used, stretch, amount, per, limit.Burst, limit.Window)
				}
			}
		}
	}
}

// Goal: who waits first goes first, also the large; a request for other limits passes.
func TestOrder(t *testing.T) {
	of := func(models string) *wire.Limit {
		limit := rate("tokens", 60, time.Minute)
		limit.Models = models
		return limit
	}
	outage := begin(t, of("a*"), of("b?/*"))
	outage.ask(&wire.AcquireRequest{Model: "a1", Tokens: 30}, forever)
	outage.ask(&wire.AcquireRequest{Model: "a2", Tokens: 1}, forever)
	outage.ask(&wire.AcquireRequest{Model: "b1/x", Tokens: 1}, forever)
	outage.ask(&wire.AcquireRequest{Model: "none"}, forever)
	granted, at := outage.goOn(time.Hour - time.Second)
	if !slices.Equal(granted, []uint64{4, 3, 1, 2}) {
		t.Errorf("granted %v at %v", granted, at)
	}
}

// Goal: permits from before the outage hold their slots until they end.
func TestPermitsFromBeforeHoldSlots(t *testing.T) {
	outage := begin(t, slots(2))
	outage.held = 3
	id := outage.ask(tokens(0), forever)
	outage.Ended(budget, outage.now)
	if granted, _ := outage.goOn(time.Second); len(granted) > 0 {
		t.Errorf("granted %v over three that are held", granted)
	}
	outage.Ended(budget, outage.now)
	permit := outage.permit()
	if permit.Charged.GetRequests() != 1 || id == 0 {
		t.Errorf("charged %v", permit.Charged)
	}
	// One of an outage before this one counts as held.
	outage.Leave()
	outage.held = 0
	outage.ask(tokens(0), forever)
	outage.permit()
	outage.ask(tokens(0), forever)
	if granted, _ := outage.goOn(time.Second); len(granted) > 0 {
		t.Errorf("granted %v", granted)
	}
	if answer := outage.Report(permit, share.Report{}, outage.now); answer.Settled {
		t.Error("a permit of another outage was settled")
	}
	outage.permit()
}

// Goal: what is used beyond the estimate is paid back first, and what was not used is there again.
func TestSettling(t *testing.T) {
	outage := begin(t, rate("tokens", 60, time.Minute))
	outage.now = start.Add(time.Second)
	outage.ask(tokens(0), forever)
	outage.Answers()
	outage.now = outage.now.Add(time.Minute)
	outage.ask(tokens(60), forever)
	permit := outage.permit()
	outage.Report(permit, share.Report{Actual: &wire.Usage{Tokens: new(uint64(90))}}, outage.now)
	outage.ask(tokens(1), forever)
	if _, at := outage.goOn(time.Hour / 2); len(at) != 1 || at[0] != 61*time.Second+31*time.Second {
		t.Errorf("after a debt of 30: %v", at)
	}
	outage.ask(tokens(60), forever)
	outage.Report(outage.permit(), share.Report{Outcome: wire.Outcome_OUTCOME_CANCELLED}, outage.now)
	outage.ask(tokens(60), forever)
	outage.permit()
}

// Goal: what can't be, or can't be in time, is refused at once and says when; who waits is refused when its time is over.
func TestRefusals(t *testing.T) {
	outage := begin(t, rate("tokens", 60, time.Minute), slots(1))
	outage.ask(tokens(61), forever)
	if refused := outage.refusal(); refused.Reason != "LARGER_THAN_LIMIT" || refused.RetryAfter != nil || refused.Limit != "tokens/1m0s" {
		t.Errorf("%v", refused)
	}
	outage.ask(tokens(10), 9*time.Second)
	if refused := outage.refusal(); refused.Reason != "NOT_IN_TIME" || refused.RetryAfter.AsDuration() != 10*time.Second {
		t.Errorf("%v", refused)
	}
	outage.ask(tokens(10), 11*time.Second)
	if _, at := outage.goOn(10 * time.Second); len(at) != 1 {
		t.Errorf("in time: %v", at)
	}
	outage.ask(tokens(0), 5*time.Second)
	outage.now = outage.now.Add(5 * time.Second)
	outage.Poll(outage.now)
	if refused := outage.refusal(); refused.Reason != "NOT_IN_TIME" {
		t.Errorf("%v", refused)
	}
	// A guess of the output never makes a request too large.
	outage.ask(&wire.AcquireRequest{Estimate: &wire.Usage{MaxOutputTokens: new(uint64(1_000))}}, forever)
	if answers := outage.Answers(); len(answers) != 0 {
		t.Errorf("%+v", answers)
	}
}

// Goal: what the provider refuses holds the share as well.
func TestProvidersRefusals(t *testing.T) {
	for outcome, retry := range map[wire.Outcome]bool{
		wire.Outcome_OUTCOME_RATE_LIMITED: true, wire.Outcome_OUTCOME_OVERLOADED: true, wire.Outcome_OUTCOME_FAILED: false,
	} {
		outage := begin(t, slots(9))
		outage.ask(tokens(0), forever)
		answer := outage.Report(outage.permit(), share.Report{Outcome: outcome, Wait: new(7 * time.Second), Status: 400}, outage.now)
		if answer.Retry != retry || !answer.Settled {
			t.Errorf("%v: %v", outcome, answer)
		}
		outage.ask(tokens(0), forever)
		if _, at := outage.goOn(time.Minute); len(at) != 1 || (at[0] == 7*time.Second) != retry {
			t.Errorf("%v: %v", outcome, at)
		}
	}
	outage := begin(t, slots(9))
	outage.ask(tokens(0), forever)
	outage.Report(outage.permit(), share.Report{Outcome: wire.Outcome_OUTCOME_QUOTA_EXHAUSTED}, outage.now)
	outage.ask(tokens(0), forever)
	if refused := outage.refusal(); refused.Reason != "QUOTA_EXHAUSTED" || refused.RetryAfter != nil {
		t.Errorf("%v", refused)
	}
	for status, wanted := range map[int]wire.Outcome{
		0: wire.Outcome_OUTCOME_SUCCESS, 200: wire.Outcome_OUTCOME_SUCCESS, 429: wire.Outcome_OUTCOME_RATE_LIMITED,
		503: wire.Outcome_OUTCOME_OVERLOADED, 413: wire.Outcome_OUTCOME_TOO_LARGE, 404: wire.Outcome_OUTCOME_FAILED,
	} {
		outage := begin(t, slots(9))
		outage.ask(tokens(0), forever)
		if answer := outage.Report(outage.permit(), share.Report{Status: status}, outage.now); answer.Outcome != wanted {
			t.Errorf("%d: %v", status, answer.Outcome)
		}
	}
}

// Goal: a share holds for as long as the server said, and one that makes no sense, or is taken back, is none.
func TestValidity(t *testing.T) {
	outage := begin(t, rate("requests", 1, 24*time.Hour))
	id := outage.ask(tokens(0), forever)
	outage.now = start.Add(time.Hour)
	outage.Poll(outage.now)
	if answers := outage.Answers(); len(answers) != 1 || answers[0].ID != id || answers[0].Gone != budget {
		t.Errorf("%+v", answers)
	}
	for name, told := range map[string]*wire.LocalShare{
		"taken back":    {},
		"no time":       {Limits: []*wire.Limit{slots(1)}},
		"no amount":     {Limits: []*wire.Limit{slots(0)}, ValidFor: durationpb.New(time.Hour)},
		"no unit":       {Limits: []*wire.Limit{{Amount: 1}}, ValidFor: durationpb.New(time.Hour)},
		"no window":     {Limits: []*wire.Limit{{Unit: "tokens", Amount: 1}}, ValidFor: durationpb.New(time.Hour)},
		"negative":      {Limits: []*wire.Limit{rate("tokens", 1, -time.Hour)}, ValidFor: durationpb.New(time.Hour)},
		"less than one": {Limits: []*wire.Limit{{Unit: "a", Amount: 1, Per: durationpb.New(time.Hour), Window: 4}}, ValidFor: durationpb.New(time.Hour)},
		"too many":      {Limits: slices.Repeat([]*wire.Limit{slots(1)}, 129), ValidFor: durationpb.New(time.Hour)},
	} {
		outage := begin(t, slots(1))
		outage.Learn(told, budget, outage.now)
		outage.ask(tokens(0), forever)
		if answers := outage.Answers(); len(answers) != 1 || answers[0].Gone != budget {
			t.Errorf("%s: %+v", name, answers)
		}
	}
}
