package share

import (
	"net/http"
	"time"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Report is how a call went, as far as a share goes by it.
type Report struct {
	Outcome wire.Outcome
	Status  int
	Wait    *time.Duration
	Actual  *wire.Usage
}

// What a report means for the share. There is no profile here: what is not said outright is read from the status alone.
func (r *running) hear(granted *grant, outcome wire.Outcome, report Report, now time.Time) {
	if granted.ended {
		return
	}
	used := actual(report.Actual, granted.usage)
	if outcome == wire.Outcome_OUTCOME_CANCELLED {
		used = usage{}
	}
	r.settle(granted, used, now)
	switch outcome {
	case wire.Outcome_OUTCOME_RATE_LIMITED, wire.Outcome_OUTCOME_CONCURRENCY_LIMITED, wire.Outcome_OUTCOME_OVERLOADED,
		wire.Outcome_OUTCOME_ACCELERATION_LIMITED:
		r.freeze(report.Wait, now)
	case wire.Outcome_OUTCOME_QUOTA_EXHAUSTED:
		r.exhaust(report.Wait, now)
	}
}

func classify(report Report) wire.Outcome {
	switch {
	case report.Outcome != wire.Outcome_OUTCOME_UNSPECIFIED:
		return report.Outcome
	case report.Status < http.StatusBadRequest:
		return wire.Outcome_OUTCOME_SUCCESS
	case report.Status == http.StatusTooManyRequests:
		return wire.Outcome_OUTCOME_RATE_LIMITED
	case report.Status == http.StatusServiceUnavailable || report.Status == 529:
		return wire.Outcome_OUTCOME_OVERLOADED
	case report.Status == http.StatusRequestEntityTooLarge:
		return wire.Outcome_OUTCOME_TOO_LARGE
	default:
		return wire.Outcome_OUTCOME_FAILED
	}
}

// As the server advises: every 4xx would fail again, but for a timeout; without a status it was a timeout or a connection that broke.
func worthAnother(outcome wire.Outcome, status int) bool {
	switch outcome {
	case wire.Outcome_OUTCOME_RATE_LIMITED, wire.Outcome_OUTCOME_CONCURRENCY_LIMITED, wire.Outcome_OUTCOME_OVERLOADED,
		wire.Outcome_OUTCOME_ACCELERATION_LIMITED:
		return true
	case wire.Outcome_OUTCOME_FAILED:
		return status == http.StatusRequestTimeout || status < 400 || status > 499
	default:
		return false
	}
}
