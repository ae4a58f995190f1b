package permitd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// An API that answers as the test says, and an HTTP client that asks permitd first.
func api(t *testing.T, client *permitd.Client, answer http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	server := httptest.NewServer(answer)
	base := server.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(func() {
		base.CloseIdleConnections()
		server.Close()
	})
	transport := client.Transport(budget)
	transport.Base = base
	return &http.Client{Transport: transport}, server.URL
}

type responded struct {
	status int
	header http.Header
	body   string
	err    error
}

func posting(client *http.Client, request *http.Request) <-chan responded {
	done := make(chan responded, 1)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			done <- responded{err: err}
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		done <- responded{response.StatusCode, response.Header, string(body), err}
	}()
	return done
}

func post(t *testing.T, url, body string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return request
}

// Goal: the permit is asked for by what the body tells, a refusal is reported as it came and sent again with the whole body, and what
// was used is reported from the answer.
func TestTransport(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	bodies := make(chan string, 2)
	http, url := api(t, client, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		if len(bodies) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"error": "slow down"}`)
			return
		}
		_, _ = io.WriteString(w, `{"usage": {"input_tokens": 9, "output_tokens": 4}}`)
	})
	body := `{"model": "claude-9", "max_tokens": 64, "messages": [{"content": "` + strings.Repeat("x", 400) + `"}]}`
	done := posting(http, post(t, url, body))
	ask := session.Acquire()
	if ask.Model != "claude-9" || *ask.Estimate.InputTokens != 102 || *ask.Estimate.MaxOutputTokens != 64 {
		t.Errorf("asked %v", ask)
	}
	session.Grant(ask, "p1")
	report := session.Report()
	if report.HttpStatus != 429 || report.Headers["retry-after"] != "7" || !strings.Contains(string(report.Body), "slow down") {
		t.Errorf("reported %v", report)
	}
	session.Settle(report, true)
	session.Grant(session.Acquire(), "p2")
	report = session.Report()
	if report.HttpStatus != 200 || *report.Actual.InputTokens != 9 || *report.Actual.OutputTokens != 4 || len(report.Body) != 0 {
		t.Errorf("reported %v", report)
	}
	answer := fake.Soon(t, done)
	if answer.err != nil || answer.status != 200 || !strings.Contains(answer.body, `"output_tokens": 4`) {
		t.Errorf("%+v", answer)
	}
	if first, second := <-bodies, <-bodies; first != body || second != body {
		t.Errorf("sent %q, then %q", first, second)
	}
}

// Goal: a stream is passed on as it comes, and its permit is held until its end, or until it is let go; then what it told is reported.
func TestTransportFollowsStreams(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	goOn := make(chan struct{})
	const start = "data: {\"message\": {\"usage\": {\"input_tokens\": 9, \"output_tokens\": 1}}}\n\n"
	http, url := api(t, client, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, start)
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
			_, _ = fmt.Fprint(w, "data: {\"usage\": {\"output_tokens\": 25}}\n\n")
		case <-r.Context().Done():
		}
	})
	open := func() *response {
		opened := make(chan *response, 1)
		request := post(t, url, "{}")
		go func() {
			got, err := http.Do(request)
			opened <- &response{got, err}
		}()
		session.Grant(session.Acquire(), fmt.Sprintf("p%p", request))
		return fake.Soon(t, opened)
	}
	stream := open()
	first := make([]byte, len(start))
	if _, err := io.ReadFull(stream.Body, first); err != nil {
		t.Fatal(err)
	}
	// Had it been reported already, that would stand before this.
	guard := granted(t, client, session, "between")
	guard.Cancel()
	if report := session.Report(); report.PermitId != "between" {
		t.Errorf("reported %v", report)
	}
	goOn <- struct{}{}
	rest, err := io.ReadAll(stream.Body)
	if err != nil || string(first) != start || !strings.Contains(string(rest), "25") {
		t.Errorf("%q: %v", rest, err)
	}
	report := session.Report()
	if *report.Actual.InputTokens != 9 || *report.Actual.OutputTokens != 25 {
		t.Errorf("reported %v", report)
	}
	if err := stream.Body.Close(); err != nil {
		t.Error(err)
	}

	stream = open()
	if _, err := io.ReadFull(stream.Body, make([]byte, len(start))); err != nil {
		t.Fatal(err)
	}
	if err := stream.Body.Close(); err != nil {
		t.Error(err)
	}
	if report := session.Report(); report.HttpStatus != 200 || *report.Actual.OutputTokens != 1 {
		t.Errorf("reported %v", report)
	}
}

type response struct {
	*http.Response
	err error
}

// Goal: the last refusal comes to the caller as it is, whole, and says to SDKs that there is nothing to retry.
func TestTransportGivesUp(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	text := strings.Repeat("no ", 10_000)
	http, url := api(t, client, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		_, _ = io.WriteString(w, text)
	})
	done := posting(http, post(t, url, "{}"))
	session.Grant(session.Acquire(), "p1")
	report := session.Report()
	if len(report.Body) != 4096 {
		t.Errorf("%d bytes of the body", len(report.Body))
	}
	session.Settle(report, false)
	answer := fake.Soon(t, done)
	if answer.err != nil || answer.status != 400 || answer.body != text || answer.header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %v %v, %d bytes", answer.status, answer.header, answer.err, len(answer.body))
	}
}

// Goal: where there is no permit, or no API, callers get an error that they can read; what was certainly not sent goes back.
func TestTransportErrors(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	http, url := api(t, client, func(w http.ResponseWriter, r *http.Request) { panic(httpAbort) })
	done := posting(http, post(t, url, "{}"))
	session.Refuse(&wire.Refused{RequestId: session.Acquire().RequestId, Code: 8, Reason: "QUOTA_EXHAUSTED", Message: "used up"})
	var refusal *permitd.Error
	if answer := fake.Soon(t, done); !errors.As(answer.err, &refusal) || refusal.Reason != "QUOTA_EXHAUSTED" {
		t.Errorf("%v", answer.err)
	}

	done = posting(http, post(t, closedPort(t), "{}"))
	session.Grant(session.Acquire(), "p1")
	if report := session.Report(); report.Outcome != wire.Outcome_OUTCOME_CANCELLED {
		t.Errorf("reported %v", report)
	}
	if answer := fake.Soon(t, done); answer.err == nil {
		t.Errorf("%+v", answer)
	}

	done = posting(http, post(t, url, "{}"))
	session.Grant(session.Acquire(), "p2")
	if report := session.Report(); report.Outcome != wire.Outcome_OUTCOME_FAILED {
		t.Errorf("reported %v", report)
	}
	if answer := fake.Soon(t, done); answer.err == nil {
		t.Errorf("%+v", answer)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done = posting(http, post(t, url, "{}").WithContext(ctx))
	ask := session.Acquire()
	cancel()
	if answer := fake.Soon(t, done); !errors.Is(answer.err, context.Canceled) {
		t.Errorf("%v", answer.err)
	}
	if id := session.Cancel(); id != ask.RequestId {
		t.Errorf("cancelled %d", id)
	}
}

// What ends a handler without an answer.
var httpAbort = http.ErrAbortHandler

// Goal: a body that can't be read whole is sent as it is, once; one without a body asks for what it was told to.
func TestTransportSendsWhatItCannotRead(t *testing.T) {
	client, session := connected(t, fake.Start(t), permitd.Options{})
	got := make(chan string, 1)
	http, url := api(t, client, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
		w.WriteHeader(503)
	})
	request := post(t, url, "")
	request.Body, request.GetBody, request.ContentLength = io.NopCloser(strings.NewReader("a stream")), nil, -1
	request.Header.Set("Content-Type", "application/octet-stream")
	done := posting(http, request)
	ask := session.Acquire()
	if ask.Estimate != nil || ask.Model != "" {
		t.Errorf("asked %v", ask)
	}
	session.Grant(ask, "p1")
	if answer := fake.Soon(t, done); answer.status != 503 || <-got != "a stream" {
		t.Errorf("%+v", answer)
	}
	if report := session.Report(); report.HttpStatus != 503 {
		t.Errorf("reported %v", report)
	}
}
