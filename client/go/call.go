package permitd

import (
	"context"
	"time"
)

// Attempts where nobody said a number.
const attemptsDefault = 4

// CallOption sets something about one [Client.Call].
type CallOption func(*callSettings)

type callSettings struct {
	attempts int
}

// Attempts is how often the call is made at most; at least once. Default: 4.
func Attempts(attempts int) CallOption {
	return func(settings *callSettings) { settings.attempts = max(attempts, 1) }
}

// Call acquires a permit, runs `call`, and reports what it says of how it went; and again, waiting in the queue, while the server advises
// it, attempts are left and the context goes on. A zero report with an error counts as failed. With a context that ends during the
// call, `call` has to return by itself.
//
// The error is an [*Error] if there was no permit for the first attempt, else the last call's own. A refusal that `call` reports without
// an error, such as status 429, is no error of Call: with its attempts used up, what `call` kept is the answer.
func (c *Client) Call(
	ctx context.Context, request Request, call func(context.Context, *Permit) (Report, error), options ...CallOption,
) error {
	settings := callSettings{attempts: attemptsDefault}
	for _, set := range options {
		set(&settings)
	}
	var last error
	for attempt := 1; ; attempt++ {
		guard, err := c.Acquire(ctx, request)
		if err != nil {
			if attempt == 1 {
				return err
			}
			// There is something better to tell than that it cannot be tried again.
			return last
		}
		var again bool
		if again, last = guard.run(ctx, call, attempt < settings.attempts); !again {
			return last
		}
	}
}

// Makes one attempt. The answer to its report is waited for only where it matters.
func (g *Guard) run(
	ctx context.Context, call func(context.Context, *Permit) (Report, error), attemptsLeft bool,
) (again bool, failed error) {
	// Also if it panics.
	defer g.Close()
	began := time.Now()
	report, failed := call(ctx, g.Permit())
	if failed != nil && report.Outcome == Unspecified && report.Status == 0 {
		report.Outcome = Failed
	}
	if report.Latency == 0 {
		report.Latency = time.Since(began)
	}
	if report.isGood() || !attemptsLeft {
		if err := g.ReportDetached(report); err != nil && failed == nil {
			failed = err
		}
		return false, failed
	}
	advice, err := g.Report(ctx, report)
	return err == nil && advice.Retry, failed
}
