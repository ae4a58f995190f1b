package permitd_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// Shorter than anybody would want it, so that outages begin soon; and longer than it takes to connect.
const soonOut = 500 * time.Millisecond

// Goal: by default nobody gets a permit while no server can be reached, is told why, and the client goes on when one is back. A report is
// kept until then.
func TestFailClosed(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{OutageAfter: soonOut})
	guard := granted(t, client, session, "p1")
	address := server.Kill()
	_, err := client.Acquire(t.Context(), budget)
	var refusal *permitd.Error
	if !errors.As(err, &refusal) || refusal.Reason != "NO_SERVER" || !errors.Is(err, permitd.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := guard.Report(t.Context(), permitd.Report{Outcome: permitd.RateLimited}); !errors.Is(err, permitd.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	server = fake.StartAt(t, address)
	session = server.Welcomed(t, false)
	if report := session.Report(); report.PermitId != "p1" || report.Outcome != wire.Outcome_OUTCOME_RATE_LIMITED {
		t.Errorf("reported %v", report)
	}
	if !client.IsConnected() {
		t.Error("it has a session and says that it has none")
	}
	waits := asking(t.Context(), client, budget)
	session.Grant(session.Acquire(), "p2")
	fake.Soon(t, waits).guard.Cancel()
	server.Rest()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// Goal: with FailOpen everybody goes on, also before there was any server; such a permit owes nobody a report.
func TestFailOpen(t *testing.T) {
	client := connect(t, permitd.Options{Endpoints: []string{closedPort(t)}, Outage: permitd.FailOpen, OutageAfter: soonOut})
	guard, err := client.Acquire(t.Context(), permitd.Request{Provider: "api", Tokens: 7})
	if err != nil {
		t.Fatal(err)
	}
	permit := guard.Permit()
	if permit.Source != permitd.Unmanaged || permit.ID != "" || permit.Charged.Tokens != permitd.Of(7) {
		t.Errorf("%+v", permit)
	}
	advice, err := guard.Report(t.Context(), permitd.Report{Status: 429})
	if err != nil || advice.Settled || advice.Retry || advice.Outcome != permitd.Failed {
		t.Errorf("%+v %v", advice, err)
	}
}

// Goal: with LocalShare the share is enforced: it starts empty, permits from before hold its slots, and who waits is granted in turn;
// without a share nobody is.
func TestLocalShare(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{Outage: permitd.LocalShare, OutageAfter: soonOut})
	guard := granted(t, client, session, "p1")
	session.Say(&wire.SessionResponse{Shares: []*wire.LocalShare{{
		Provider: "api", Key: "prod", ValidFor: durationpb.New(time.Hour), Limits: []*wire.Limit{{Unit: "in_flight", Amount: 1}},
	}}})
	// What was said before it has been taken in with its answer.
	other := granted(t, client, session, "p2")
	server.Kill()

	first, second := asking(t.Context(), client, budget), asking(t.Context(), client, budget)
	_, err := client.Acquire(t.Context(), permitd.Request{Provider: "api", Key: "other"})
	var refusal *permitd.Error
	if !errors.As(err, &refusal) || refusal.Reason != "NO_LOCAL_SHARE" {
		t.Errorf("%v", err)
	}
	other.Close()
	select {
	case answer := <-first:
		t.Fatalf("%+v beside the permit from before", answer)
	case answer := <-second:
		t.Fatalf("%+v beside the permit from before", answer)
	default:
	}
	guard.Close()
	var granted acquired
	waits := second
	select {
	case granted = <-first:
	case granted = <-second:
		waits = first
	}
	if granted.err != nil || granted.guard.Permit().Source != permitd.FromLocalShare {
		t.Fatalf("%+v", granted)
	}
	advice, err := granted.guard.Report(t.Context(), permitd.Report{Outcome: permitd.Success})
	if err != nil || !advice.Settled || advice.Retry {
		t.Errorf("%+v %v", advice, err)
	}
	next := fake.Soon(t, waits)
	if next.err != nil || next.guard.Permit().Source != permitd.FromLocalShare {
		t.Fatalf("%+v", next)
	}
	next.guard.Close()
}

// Goal: whoever waits in a share waits at the server again when it is back, in the old order.
func TestSharesAreLeft(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{Outage: permitd.LocalShare, OutageAfter: soonOut})
	session.Say(&wire.SessionResponse{Shares: []*wire.LocalShare{{
		Provider: "api", Key: "prod", ValidFor: durationpb.New(time.Hour),
		Limits: []*wire.Limit{{Unit: "requests", Amount: 1, Per: durationpb.New(time.Hour)}},
	}}})
	guard := granted(t, client, session, "p1")
	settled := make(chan error, 1)
	go func() {
		_, err := guard.Report(t.Context(), permitd.Report{})
		settled <- err
	}()
	session.Settle(session.Report(), false)
	if err := fake.Soon(t, settled); err != nil {
		t.Error(err)
	}
	address := server.Kill()
	waits := asking(t.Context(), client, budget)
	_, err := client.Acquire(t.Context(), permitd.Request{Provider: "api", Key: "prod", MaxWait: new(time.Duration(0))})
	if !errors.Is(err, permitd.ErrNotInTime) || !errors.Is(err, permitd.ErrRefused) {
		t.Errorf("%v", err)
	}
	server = fake.StartAt(t, address)
	session = server.Welcomed(t, false)
	session.Grant(session.Acquire(), "p2")
	answer := fake.Soon(t, waits)
	if answer.err != nil || answer.guard.Permit().ID != "p2" {
		t.Errorf("%+v", answer)
	}
	server.Rest()
	answer.guard.Close()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}
