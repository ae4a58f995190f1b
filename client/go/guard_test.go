package permitd_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// Goal: however a guard ends, its permit is settled, once.
func TestGuardsSettleOnce(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	for _, end := range []struct {
		how     func(*permitd.Guard)
		outcome wire.Outcome
	}{
		{(*permitd.Guard).Close, wire.Outcome_OUTCOME_FAILED},
		{(*permitd.Guard).Cancel, wire.Outcome_OUTCOME_CANCELLED},
		{func(guard *permitd.Guard) { _ = guard.ReportDetached(permitd.Report{Outcome: permitd.Success}) }, wire.Outcome_OUTCOME_SUCCESS},
	} {
		guard := granted(t, client, session, "p1")
		end.how(guard)
		guard.Close()
		guard.Cancel()
		if _, err := guard.Report(patience(t), permitd.Report{}); !errors.Is(err, permitd.ErrInvalid) {
			t.Errorf("a second report: %v", err)
		}
		report := session.Report()
		if report.Outcome != end.outcome {
			t.Errorf("%v and not %v", report.Outcome, end.outcome)
		}
		session.Settle(report, false)
	}
}

// Goal: a guard that somebody forgot does not keep its slot for ever.
func TestForgottenGuardSettles(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	granted(t, client, session, "p1")
	collecting := make(chan struct{})
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for {
			select {
			case <-collecting:
				return
			default:
				runtime.GC()
			}
		}
	}()
	report := session.Report()
	close(collecting)
	<-collected
	if report.PermitId != "p1" || report.Outcome != wire.Outcome_OUTCOME_FAILED {
		t.Errorf("reported %v", report)
	}
}

// Goal: a permit is extended while its guard lives, and not any more once the server does not know it.
func TestGuardsThatLiveLongAreExtended(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	answers := asking(t.Context(), client, budget)
	session.GrantFor(session.Acquire(), "p1", 40*time.Millisecond)
	guard := fake.Soon(t, answers).guard
	for range 3 {
		if item := session.Item(); item != fake.Extend("p1") {
			t.Fatalf("%v", item)
		}
	}
	session.Refuse(&wire.Refused{PermitId: "p1", Code: 5, Reason: "PERMIT_UNKNOWN"})
	// One may have been on its way; then there is nothing but the report.
	guard.Cancel()
	item := session.Item()
	for item == fake.Extend("p1") {
		item = session.Item()
	}
	if report, ok := item.(*wire.ReportRequest); !ok || report.PermitId != "p1" {
		t.Errorf("%v", item)
	}
}

// Goal: a report that the server refuses settles the permit by its outcome alone, and the caller is told.
func TestRefusedReport(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	guard := granted(t, client, session, "p1")
	failed := make(chan error, 1)
	go func() {
		_, err := guard.Report(patience(t), permitd.Report{Status: 503, Body: []byte("?")})
		failed <- err
	}()
	session.Report()
	session.Refuse(&wire.Refused{PermitId: "p1", Code: 3, Reason: "INVALID_ARGUMENT", Message: "body: no"})
	if err := fake.Soon(t, failed); !errors.Is(err, permitd.ErrInvalid) {
		t.Errorf("%v", err)
	}
	report := session.Report()
	if report.Outcome != wire.Outcome_OUTCOME_FAILED || report.HttpStatus != 0 || len(report.Body) != 0 {
		t.Errorf("reported %v", report)
	}
}

// Goal: closing settles what is held, ends what waits, sends what is unsaid, and lets the server end the stream.
func TestClose(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	held := granted(t, client, session, "held")
	waits := asking(t.Context(), client, budget)
	ask := session.Acquire()
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	report := session.Report()
	if report.PermitId != "held" || report.Outcome != wire.Outcome_OUTCOME_FAILED {
		t.Errorf("reported %v", report)
	}
	if id := session.Cancel(); id != ask.RequestId {
		t.Errorf("cancelled %d", id)
	}
	if answer := fake.Soon(t, waits); !errors.Is(answer.err, permitd.ErrClosed) {
		t.Errorf("%v", answer.err)
	}
	session.Settle(report, false)
	if item := session.Item(); item != (fake.HalfClose{}) {
		t.Errorf("%v", item)
	}
	session.End(nil)
	if err := fake.Soon(t, closed); err != nil {
		t.Error(err)
	}
	if _, err := client.Acquire(patience(t), budget); !errors.Is(err, permitd.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := held.Report(patience(t), permitd.Report{}); !errors.Is(err, permitd.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}
