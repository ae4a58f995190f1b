package permitd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

var errCall = errors.New("the call's own")

// Makes calls that end so, one after the other, beside the test.
func calling(client *permitd.Client, options []permitd.CallOption, ends ...permitd.Report) (made func() int, done <-chan error) {
	attempts, errs := 0, make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		errs <- client.Call(context.Background(), budget, func(context.Context, *permitd.Permit) (permitd.Report, error) {
			attempts++
			report := ends[attempts-1]
			if report.Status == 0 {
				return permitd.Report{}, errCall
			}
			return report, nil
		}, options...)
	}()
	return func() int { <-finished; return attempts }, errs
}

// Goal: a call is made again while the server advises it, each time with a permit of its own; the report has what the call said.
func TestCallIsMadeAgainWhenAdvised(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	made, done := calling(client, nil, permitd.Report{Status: 429, RetryAfter: new(time.Minute)}, permitd.Report{Status: 200})
	session.Grant(session.Acquire(), "p1")
	report := session.Report()
	if report.HttpStatus != 429 || report.RetryAfter.AsDuration() != time.Minute || report.Latency == nil {
		t.Errorf("reported %v", report)
	}
	session.Settle(report, true)
	session.Grant(session.Acquire(), "p2")
	// Nobody needs the answer to that one.
	if err := fake.Soon(t, done); err != nil || made() != 2 {
		t.Errorf("%v after %d", err, made())
	}
	if report := session.Report(); report.PermitId != "p2" || report.HttpStatus != 200 {
		t.Errorf("reported %v", report)
	}
}

// Goal: attempts are bounded, and what is not advised is not made again; the caller gets the call's own error.
func TestCallEnds(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	made, done := calling(client, []permitd.CallOption{permitd.Attempts(2)}, permitd.Report{Status: 429}, permitd.Report{Status: 429})
	session.Grant(session.Acquire(), "p1")
	session.Settle(session.Report(), true)
	session.Grant(session.Acquire(), "p2")
	if err := fake.Soon(t, done); err != nil || made() != 2 {
		t.Errorf("%v after %d", err, made())
	}
	session.Report()

	made, done = calling(client, nil, permitd.Report{})
	session.Grant(session.Acquire(), "p3")
	report := session.Report()
	if report.Outcome != wire.Outcome_OUTCOME_FAILED {
		t.Errorf("reported %v", report)
	}
	session.Settle(report, false)
	if err := fake.Soon(t, done); !errors.Is(err, errCall) || made() != 1 {
		t.Errorf("%v after %d", err, made())
	}

	_, done = calling(client, nil)
	session.Refuse(&wire.Refused{RequestId: session.Acquire().RequestId, Code: 8, Reason: "QUEUE_FULL"})
	if err := fake.Soon(t, done); !errors.Is(err, permitd.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// Goal: a call that panics does not keep its permit.
func TestCallThatPanicsIsSettled(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	panicked := make(chan any, 1)
	go func() {
		defer func() { panicked <- recover() }()
		_ = client.Call(context.Background(), budget, func(context.Context, *permitd.Permit) (permitd.Report, error) { panic("no") })
	}()
	session.Grant(session.Acquire(), "p1")
	if report := session.Report(); report.Outcome != wire.Outcome_OUTCOME_FAILED {
		t.Errorf("reported %v", report)
	}
	if caught := fake.Soon(t, panicked); caught != "no" {
		t.Errorf("%v", caught)
	}
}
