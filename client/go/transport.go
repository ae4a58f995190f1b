package permitd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/permitd/permitd/client/go/internal/reading"
)

// Bytes that are read of a response which is not wanted any more, so that its connection can be used again.
const discardBytesMax = 256 * 1024

// Transport is an [http.RoundTripper] that puts a permit in front of every request: it reads from the body what the request is
// expected to use, waits in the queue, sends it, reports status, headers and what the response says was used, streams included, and
// sends again, waiting in the queue, while the server advises it. Make one with [Client.Transport].
//
// A permit is held until the body of the response is read to its end, or closed. The context of the request is that of the wait too. An
// error of the client is an [*Error] behind the [*url.Error] of an [http.Client]; use [errors.As].
//
// The last response of a request that permitd does not advise to send again, or not any more, has the header `x-should-retry: false`, by
// which SDKs leave off retries of their own.
type Transport struct {
	client *Client
	// What each request asks for: its budget, and perhaps a tenant, a priority, MaxWait. What it leaves open of model and estimate is
	// read from the body.
	Request Request
	// Chooses what a request asks for, in place of Request, if there are several budgets.
	For func(*http.Request) Request
	// Sends requests; nil means [http.DefaultTransport].
	Base http.RoundTripper
	// How often a request is sent at most; 0 means 4.
	Attempts int
}

// Transport puts a permit of this budget in front of every request of an HTTP client:
//
//	http := &http.Client{Transport: client.Transport(permitd.Request{Provider: "anthropic", Key: "prod"})}
func (c *Client) Transport(request Request) *Transport {
	return &Transport{client: c, Request: request}
}

// RoundTrip is for [http.Client].
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := readBody(request)
	if err != nil {
		return nil, err
	}
	ask := t.ask(request, body)
	attempts := t.Attempts
	if attempts < 1 {
		attempts = attemptsDefault
	}
	if !body.isWhole {
		attempts = 1
	}
	var last *http.Response
	for attempt := 1; ; attempt++ {
		guard, err := t.client.Acquire(request.Context(), ask)
		if err != nil && last != nil {
			// There is something better to tell than that it cannot be tried again.
			return last, nil
		}
		if err != nil {
			body.close()
			return nil, err
		}
		if last != nil {
			discard(last)
		}
		response, again, err := t.send(body.request(request), guard, attempt < attempts)
		if !again {
			return response, err
		}
		last = response
	}
}

func (t *Transport) ask(request *http.Request, body *sentBody) Request {
	ask := t.Request
	if t.For != nil {
		ask = t.For(request)
	}
	estimate, known := reading.ReadEstimate(body.text)
	if !known {
		return ask
	}
	if ask.Model == "" {
		ask.Model = estimate.Model
	}
	if ask.Tokens == 0 && ask.Estimate.IsEmpty() {
		ask.Estimate = Usage{InputTokens: Of(estimate.InputTokens), MaxOutputTokens: amountFromWire(estimate.MaxOutputTokens)}
	}
	return ask
}

// Sends a request once. With `again` it is worth another try, and the response is what there is to tell until then.
func (t *Transport) send(request *http.Request, guard *Guard, attemptsLeft bool) (response *http.Response, again bool, err error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	began := time.Now()
	response, err = base.RoundTrip(request)
	if err != nil {
		if isUnsent(err) {
			guard.Cancel()
		} else {
			_ = guard.ReportDetached(Report{Outcome: Failed, Latency: time.Since(began)})
		}
		return nil, false, err
	}
	report := Report{Status: response.StatusCode, Header: response.Header.Clone(), Latency: time.Since(began)}
	if response.StatusCode < http.StatusBadRequest {
		follow(response, guard, report)
		return response, false, nil
	}
	return response, t.failed(request.Context(), response, guard, report, attemptsLeft), nil
}

// Reports a response that is an error, with the beginning of its body, which stays to be read.
func (t *Transport) failed(ctx context.Context, response *http.Response, guard *Guard, report Report, attemptsLeft bool) (again bool) {
	excerpt, failed := io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
	report.Body = excerpt
	// What is read already comes first; then the rest, or why there is none.
	rest := io.Reader(response.Body)
	if failed != nil {
		rest = failing{failed}
	}
	response.Body = &joined{Reader: io.MultiReader(bytes.NewReader(excerpt), rest), Closer: response.Body}
	if !attemptsLeft {
		_ = guard.ReportDetached(report)
		response.Header.Set("x-should-retry", "false")
		return false
	}
	advice, err := guard.Report(ctx, report)
	if err != nil {
		// Nobody advises anything: whoever sends again will wait for a permit again.
		return false
	}
	if !advice.Retry {
		response.Header.Set("x-should-retry", "false")
	}
	return advice.Retry
}

// Whether a request was certainly not sent: there was no connection.
func isUnsent(err error) bool {
	var dialing *net.OpError
	return errors.As(err, &dialing) && dialing.Op == "dial"
}

// Lets a response go, so that its connection can be used again.
func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, discardBytesMax)
	_ = response.Body.Close()
}
