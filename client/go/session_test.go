package permitd_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// Goal: everything that a caller says is on the wire, large amounts to the last digit, and everything that the server says comes back.
func TestAcquireAndReport(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{Tenant: "web", Name: "test/1"})
	if session.Hello.Tenant != "web" || session.Hello.Client != "test/1" || len(session.Hello.SessionId) < 20 {
		t.Errorf("Hello %v", session.Hello)
	}
	const large = ^uint64(0)
	answers := asking(t.Context(), client, permitd.Request{
		Provider: "anthropic", Key: "schlüssel", Model: "claude-✓", Tenant: "nightly", Priority: permitd.Batch,
		Estimate: permitd.Usage{
			InputTokens: permitd.Of(large), MaxOutputTokens: permitd.Of(0), Others: map[string]uint64{"points": large - 1},
		},
		MaxWait: new(time.Hour),
	})
	ask := session.Acquire()
	estimate := ask.Estimate
	if ask.Provider != "anthropic" || ask.Key != "schlüssel" || ask.Model != "claude-✓" || ask.Tenant != "nightly" ||
		ask.Priority != wire.Priority_PRIORITY_BATCH || *estimate.InputTokens != large || *estimate.MaxOutputTokens != 0 ||
		estimate.OutputTokens != nil || estimate.Tokens != nil || estimate.Other["points"] != large-1 {
		t.Errorf("asked %v", ask)
	}
	if wait := ask.MaxWait.AsDuration(); wait <= 59*time.Minute || wait > time.Hour {
		t.Errorf("max_wait %v", wait)
	}
	session.Say(&wire.SessionResponse{Granted: []*wire.Granted{{RequestId: ask.RequestId, Permit: &wire.Permit{
		PermitId: "p1", Provider: "anthropic", Key: "schlüssel", Ttl: durationpb.New(time.Minute),
		Waited: durationpb.New(7 * time.Second), Charged: &wire.Usage{InputTokens: new(large)},
	}}}})
	answer := fake.Soon(t, answers)
	if answer.err != nil {
		t.Fatal(answer.err)
	}
	permit := answer.guard.Permit()
	if permit.ID != "p1" || permit.Waited != 7*time.Second || permit.Charged.InputTokens != permitd.Of(large) ||
		permit.Source != permitd.FromServer {
		t.Errorf("permit %+v", permit)
	}
	reporting := make(chan permitd.Advice, 1)
	go func() {
		advice, err := answer.guard.Report(patience(t), permitd.Report{
			Status: 429, Header: http.Header{"Retry-After": {"7"}, "Set-Cookie": {"secret"}}, Body: []byte("{}"),
			Actual: permitd.Usage{OutputTokens: permitd.Of(0)}, Latency: time.Second,
		})
		if err != nil {
			t.Error(err)
		}
		reporting <- advice
	}()
	report := session.Report()
	if report.PermitId != "p1" || report.HttpStatus != 429 || len(report.Headers) != 1 || report.Headers["retry-after"] != "7" ||
		string(report.Body) != "{}" || *report.Actual.OutputTokens != 0 || report.Actual.InputTokens != nil {
		t.Errorf("reported %v", report)
	}
	session.Settle(report, true)
	advice := fake.Soon(t, reporting)
	if advice.Outcome != permitd.RateLimited || !advice.Settled || !advice.Retry || advice.RetryAfter != nil {
		t.Errorf("advice %+v", advice)
	}
}

// Goal: a refusal keeps what the server said, and answers each question about it.
func TestRefusals(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	refusal := func(refused *wire.Refused) *permitd.Error {
		t.Helper()
		answers := asking(t.Context(), client, budget)
		refused.RequestId = session.Acquire().RequestId
		session.Refuse(refused)
		var err *permitd.Error
		if answer := fake.Soon(t, answers); !errors.As(answer.err, &err) {
			t.Fatalf("%v is no *permitd.Error", answer.err)
		}
		return err
	}
	err := refusal(&wire.Refused{
		Code: 8, Reason: "NOT_IN_TIME", Message: "tokens/1m is short", Limit: "tokens/1m", RetryAfter: durationpb.New(2500 * time.Millisecond),
	})
	if err.Code != codes.ResourceExhausted || err.Reason != "NOT_IN_TIME" || err.Limit != "tokens/1m" ||
		err.RetryAfter == nil || *err.RetryAfter != 2500*time.Millisecond || !strings.Contains(err.Error(), "tokens/1m is short") {
		t.Errorf("%+v", err)
	}
	for target, holds := range map[error]bool{
		permitd.ErrRefused: true, permitd.ErrNotInTime: true, permitd.ErrInvalid: false, permitd.ErrUnavailable: false,
		permitd.ErrImpossible: false, permitd.ErrClosed: false, context.DeadlineExceeded: false,
	} {
		if errors.Is(err, target) != holds {
			t.Errorf("errors.Is(%v): %v", target, !holds)
		}
	}
	if err := refusal(&wire.Refused{Code: 11, Reason: "LARGER_THAN_LIMIT"}); !errors.Is(err, permitd.ErrImpossible) || err.RetryAfter != nil {
		t.Errorf("%+v", err)
	}
	if err := refusal(&wire.Refused{Code: 3, Reason: "INVALID_ARGUMENT"}); !errors.Is(err, permitd.ErrInvalid) || errors.Is(err, permitd.ErrRefused) {
		t.Errorf("%+v", err)
	}
}

// Goal: what makes no sense is refused before it is sent, with the field named; also text that no message can hold.
func TestBadRequestsNameTheField(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	long := strings.Repeat("x", 257)
	for field, request := range map[string]permitd.Request{
		"provider: is empty":        {},
		"provider: 257 bytes":       {Provider: long},
		"key: 257":                  {Provider: "a", Key: long},
		"model: 257":                {Provider: "a", Model: long},
		"tenant: \"\\xff\" is not":  {Provider: "a", Tenant: "\xff"},
		"priority: 7":               {Provider: "a", Priority: 7},
		"max_wait: -1s":             {Provider: "a", MaxWait: new(-time.Second)},
		"estimate.other: \"\" is":   {Provider: "a", Estimate: permitd.Usage{Others: map[string]uint64{"": 1}}},
		"estimate.other: \"\\xff\"": {Provider: "a", Estimate: permitd.Usage{Others: map[string]uint64{"\xff": 1}}},
	} {
		_, err := client.Acquire(patience(t), request)
		if !errors.Is(err, permitd.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not say %q", err, field)
		}
	}
	guard := granted(t, client, session, "p1")
	for field, report := range map[string]permitd.Report{
		"outcome: 99":     {Outcome: 99},
		"http_status: -1": {Status: -1},
		"actual.other":    {Actual: permitd.Usage{Others: map[string]uint64{"\xff": 1}}},
	} {
		_, err := guard.Report(patience(t), report)
		if !errors.Is(err, permitd.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not say %q", err, field)
		}
	}
	// The guard lives on, and headers that are no text do not keep its report from being sent.
	if err := guard.ReportDetached(permitd.Report{Status: 429, Header: http.Header{"X-Ratelimit-Reset": {"\xff"}}}); err != nil {
		t.Error(err)
	}
	if report := session.Report(); len(report.Headers) != 0 {
		t.Errorf("reported %v", report)
	}
}

// Goal: who gives up leaves the queue, and a grant that crosses goes back unused.
func TestCancel(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	ctx, cancel := context.WithCancel(patience(t))
	answers := asking(ctx, client, budget)
	ask := session.Acquire()
	cancel()
	if answer := fake.Soon(t, answers); !errors.Is(answer.err, context.Canceled) {
		t.Errorf("%v", answer.err)
	}
	if id := session.Cancel(); id != ask.RequestId {
		t.Errorf("cancelled %d and not %d", id, ask.RequestId)
	}
	session.Grant(ask, "p1")
	if report := session.Report(); report.PermitId != "p1" || report.Outcome != wire.Outcome_OUTCOME_CANCELLED {
		t.Errorf("reported %v", report)
	}
}

// Goal: the context's deadline is told to the server, and kept whatever the server does.
func TestDeadline(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	answers := asking(ctx, client, permitd.Request{Provider: "api", MaxWait: new(time.Hour)})
	if wait := session.Acquire().MaxWait; wait == nil || wait.AsDuration() > 100*time.Millisecond {
		t.Errorf("max_wait %v", wait)
	}
	answer := fake.Soon(t, answers)
	if !errors.Is(answer.err, context.DeadlineExceeded) || !errors.Is(answer.err, permitd.ErrNotInTime) {
		t.Errorf("%v", answer.err)
	}
	session.Cancel()
}

// Goal: MaxWait is kept by the client too, where a server does not answer; 0 is sent as what it is.
func TestMaxWait(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	answers := asking(t.Context(), client, permitd.Request{Provider: "api", MaxWait: new(time.Duration(0))})
	if wait := session.Acquire().MaxWait; wait == nil || wait.AsDuration() != 0 {
		t.Errorf("max_wait %v", wait)
	}
	if answer := fake.Soon(t, answers); !errors.Is(answer.err, permitd.ErrNotInTime) {
		t.Errorf("%v", answer.err)
	}
	session.Cancel()
}

// Goal: more requests than may wait at a server wait inside the client, as long as they say.
func TestWaitingMax(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{WaitingMax: 1})
	first := asking(t.Context(), client, budget)
	ask := session.Acquire()
	_, err := client.Acquire(patience(t), permitd.Request{Provider: "api", MaxWait: new(time.Duration(0))})
	var refusal *permitd.Error
	if !errors.As(err, &refusal) || refusal.Reason != "CLIENT_FULL" || !errors.Is(err, permitd.ErrRefused) {
		t.Errorf("%v", err)
	}
	second := asking(t.Context(), client, budget)
	session.Grant(ask, "p1")
	defer fake.Soon(t, first).guard.Cancel()
	session.Grant(session.Acquire(), "p2")
	defer fake.Soon(t, second).guard.Cancel()
}

// Goal: a token or a tenant by which nobody could be told apart, and addresses that are none, are refused before anything is connected.
func TestBadOptionsNameTheField(t *testing.T) {
	here := []string{"http://127.0.0.1:1"}
	for field, options := range map[string]permitd.Options{
		"endpoints: none":                {},
		`endpoints: "ftp://a:1" is no`:   {Endpoints: []string{"ftp://a:1"}},
		`endpoints: "http://" is no`:     {Endpoints: []string{"http://"}},
		`endpoints: "" is no`:            {Endpoints: []string{""}},
		"write https://":                 {Endpoints: here, TLS: &permitd.TLS{}},
		"token: is empty, or has":        {Endpoints: here, Token: "a\nb"},
		"token: would be sent":           {Endpoints: []string{"http://elsewhere:1"}, Token: "t"},
		"token_file: can't be read":      {Endpoints: here, TokenFile: "/nowhere/at/all"},
		"token_file: is given beside":    {Endpoints: here, Token: "t", TokenFile: "/nowhere/at/all"},
		"tls.ca: has no certificate":     {Endpoints: []string{"https://a:1"}, TLS: &permitd.TLS{CA: []byte("garbage")}},
		"tls.ca_file: can't be read":     {Endpoints: []string{"https://a:1"}, TLS: &permitd.TLS{CAFile: "/nowhere/at/all"}},
		"tls.cert_file: can't be used":   {Endpoints: []string{"https://a:1"}, TLS: &permitd.TLS{CertFile: "/nowhere/at/all"}},
		"tenant: 257 bytes":              {Endpoints: here, Tenant: strings.Repeat("x", 257)},
		"outage: 9 is none":              {Endpoints: here, Outage: 9},
		"waiting_max: -1":                {Endpoints: here, WaitingMax: -1},
		"keepalive: 1s is less than":     {Endpoints: here, Keepalive: time.Second},
		"connect_timeout: -1s is negati": {Endpoints: here, ConnectTimeout: -time.Second},
	} {
		_, err := permitd.Connect(patience(t), options)
		if !errors.Is(err, permitd.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not say %q", err, field)
		}
	}
}
