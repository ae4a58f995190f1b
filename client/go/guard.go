package permitd

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// Source is who granted a permit.
type Source int

const (
	// FromServer: a permitd server.
	FromServer Source = iota
	// FromLocalShare: this client's local share, while no server could be reached.
	FromLocalShare
	// Unmanaged: nobody; no server could be reached, and the policy is to go on ([FailOpen]).
	Unmanaged
)

// Permit is what is known of the leave to make one call.
type Permit struct {
	// The server's opaque id; empty if no server granted it.
	ID       string
	Provider string
	// The alias of the credential to be used.
	Key string
	// What the permit holds.
	Charged Usage
	// How long the request was in the queue.
	Waited time.Duration
	// When the permit was to end by itself, by the server's clock, as it was granted. While its guard lives the client extends it. Zero
	// if no server granted it.
	ExpiresAt time.Time
	Source    Source
}

// Guard is a permit in the hand. However it ends, its permit is settled: by [Guard.Report], by [Guard.Cancel], or by [Guard.Close],
// which is best deferred. One that is forgotten settles when it is collected as garbage. While it lives, its permit is extended whenever
// half of its life is over. A guard may be used from several goroutines; the first end counts.
type Guard struct {
	permit  Permit
	lease   *lease
	cleanup runtime.Cleanup
}

// What has to be settled, apart from the guard, so that the guard can be collected.
type lease struct {
	from    lessor
	settled atomic.Bool
}

// Who has to hear of a permit's end. Never waits; `reply`, which has room, gets the answer if it is there.
type lessor interface {
	settle(report *Report, reply chan<- advised)
}

// The lessor of a permit that nobody manages.
type nobody struct{}

func (nobody) settle(report *Report, reply chan<- advised) {
	if reply != nil {
		reply <- advised{advice: Advice{Outcome: report.outcome()}}
	}
}

// The answer to a report.
type advised struct {
	advice Advice
	err    *Error
}

func newGuard(permit Permit, from lessor) *Guard {
	return &Guard{permit: permit, lease: &lease{from: from}}
}

// The caller has it now: from here on the call may have been sent.
func (g *Guard) handOver() *Guard {
	g.cleanup = runtime.AddCleanup(g, func(lease *lease) { lease.end(&Report{Outcome: Failed}, nil) }, g.lease)
	return g
}

// Permit is what is known of the permit.
func (g *Guard) Permit() *Permit {
	return &g.permit
}

// Report settles the permit, and waits for what the server advises. The report is on its way as soon as Report is called; a context that
// ends only gives up the answer.
//
// The error is [ErrUnavailable] if no server can be reached: the report is kept and sent later. It is [ErrInvalid] if the guard was
// settled before, or if the report makes no sense: then the guard lives on if this client saw it, and the permit is settled with the
// outcome alone if the server did.
func (g *Guard) Report(ctx context.Context, report Report) (Advice, error) {
	if err := report.check(); err != nil {
		return Advice{}, err
	}
	reply := make(chan advised, 1)
	if !g.end(&report, reply) {
		return Advice{}, invalid("permit", "was settled before: a permit has one report")
	}
	select {
	case answer := <-reply:
		if answer.err != nil {
			return Advice{}, answer.err
		}
		return answer.advice, nil
	case <-ctx.Done():
		return Advice{}, errContext(ctx.Err())
	}
}

// ReportDetached settles the permit without waiting for advice. The error is [ErrInvalid] as for [Guard.Report].
func (g *Guard) ReportDetached(report Report) error {
	if err := report.check(); err != nil {
		return err
	}
	if !g.end(&report, nil) {
		return invalid("permit", "was settled before: a permit has one report")
	}
	return nil
}

// Cancel gives the permit back unused: the call was certainly not sent. Settled before, it does nothing.
func (g *Guard) Cancel() {
	g.end(&Report{Outcome: Cancelled}, nil)
}

// Close settles a permit that was not reported. The call may have been sent, so it counts as failed: its charge stays, its slot returns.
// Settled before, it does nothing.
func (g *Guard) Close() {
	g.end(&Report{Outcome: Failed}, nil)
}

func (g *Guard) end(report *Report, reply chan<- advised) bool {
	g.cleanup.Stop()
	return g.lease.end(report, reply)
}

// False if it had ended already.
func (l *lease) end(report *Report, reply chan<- advised) bool {
	if l.settled.Swap(true) {
		return false
	}
	l.from.settle(report, reply)
	return true
}
