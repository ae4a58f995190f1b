package permitd

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Bounds of one report: bytes of an error's body, headers, and bytes of a header's value. The server takes at least as much.
const (
	bodyBytesMax   = 4 * 1024
	headersMax     = 64
	headerBytesMax = 1024
)

// Outcome is how a call went.
type Outcome int

const (
	// Unspecified leaves it to the server, which reads status, headers and body by the provider's profile.
	Unspecified Outcome = iota
	// Success: it worked.
	Success
	// RateLimited: refused for a rate of requests or tokens.
	RateLimited
	// ConcurrencyLimited: refused for too many calls at once.
	ConcurrencyLimited
	// Overloaded: the provider has no capacity for anybody.
	Overloaded
	// AccelerationLimited: refused for growing too steeply.
	AccelerationLimited
	// QuotaExhausted: credit or spend cap used up; no call succeeds before a reset.
	QuotaExhausted
	// TooLarge: this request can never succeed under the provider's limits.
	TooLarge
	// Failed: sent, and failed for another reason.
	Failed
	// Cancelled: never sent; everything goes back to the budget.
	Cancelled
)

// String is the outcome's name as the wire has it, in lower case.
func (o Outcome) String() string {
	return strings.ToLower(strings.TrimPrefix(wire.Outcome(o).String(), "OUTCOME_"))
}

// Report says how the call of one permit went: outright, by Outcome, or by what the provider said, which the server reads by the
// provider's profile. The zero Report is a success with everything as estimated.
type Report struct {
	Outcome Outcome
	// The wait that the provider asked for; wins over headers and body. nil leaves it to them.
	RetryAfter *time.Duration
	// What was used; units that are left out stay as charged.
	Actual Usage
	// The HTTP status; 0 if there was none.
	Status int
	// The response's headers. Only those that can say something about limits are sent: never a cookie or a credential.
	Header http.Header
	// The body of an error, or its beginning; at most 4 KiB are sent.
	Body []byte
	// How long the call took; 0 if not known.
	Latency time.Duration
}

// Whether there is nothing to retry, so that nobody needs the answer.
func (r *Report) isGood() bool {
	return r.Outcome == Success || r.Outcome == Cancelled || r.Outcome == Unspecified && r.Status < http.StatusBadRequest
}

// As far as it can be told without a profile.
func (r *Report) outcome() Outcome {
	switch {
	case r.Outcome != Unspecified:
		return r.Outcome
	case r.isGood():
		return Success
	default:
		return Failed
	}
}

func (r *Report) check() *Error {
	if r.Outcome < Unspecified || r.Outcome > Cancelled {
		return invalid("outcome", "%d is none", r.Outcome)
	}
	if r.Status < 0 {
		return invalid("http_status", "%d is no HTTP status", r.Status)
	}
	return r.Actual.check("actual")
}

func (r *Report) toWire(permitID string) *wire.ReportRequest {
	report := &wire.ReportRequest{
		PermitId:   permitID,
		Outcome:    wire.Outcome(r.Outcome),
		Actual:     r.Actual.toWire(),
		HttpStatus: uint32(r.Status),
		Headers:    tellingHeaders(r.Header),
		Body:       append([]byte(nil), r.Body[:min(len(r.Body), bodyBytesMax)]...),
	}
	if r.RetryAfter != nil {
		report.RetryAfter = durationpb.New(max(*r.RetryAfter, 0))
	}
	if r.Latency > 0 {
		report.Latency = durationpb.New(r.Latency)
	}
	return report
}

// Parts of the names of headers that can say something about limits. Profiles on the server decide which count; this only keeps out
// what no profile could want.
var tellingParts = []string{"limit", "retry", "quota", "remaining", "reset", "throttl", "x-amzn-errortype", "x-should-retry"}

func tellingHeaders(header http.Header) map[string]string {
	var telling map[string]string
	for name, values := range header {
		name = strings.ToLower(name)
		if len(values) == 0 || !tells(name) || len(telling) == headersMax {
			continue
		}
		// A header given several times is one list (RFC 9110, 5.3).
		value := strings.Join(values, ", ")
		if len(value) > headerBytesMax || !utf8.ValidString(value) || !utf8.ValidString(name) {
			continue
		}
		if telling == nil {
			telling = make(map[string]string)
		}
		telling[name] = value
	}
	return telling
}

func tells(name string) bool {
	if name == "date" {
		return true
	}
	for _, part := range tellingParts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// Advice is the answer to a [Report].
type Advice struct {
	// How the call went, as classified.
	Outcome Outcome
	// Whether this report settled the permit. False where it had expired, or was given without a server (FailOpen).
	Settled bool
	// Whether the call is worth acquiring again for.
	Retry bool
	// For information: acquiring again already waits in the queue. nil if no wait is known.
	RetryAfter *time.Duration
}

func adviceFromWire(answer *wire.ReportResponse) Advice {
	advice := Advice{Outcome: Outcome(answer.Outcome), Settled: answer.Settled, Retry: answer.Retry}
	if advice.Outcome <= Unspecified || advice.Outcome > Cancelled {
		// An outcome that a newer server invented.
		advice.Outcome = Failed
	}
	if answer.RetryAfter != nil {
		advice.RetryAfter = new(span(answer.RetryAfter))
	}
	return advice
}

// A duration of the wire, which may be garbage, as a span of time: not negative, and as long as one can be.
func span(duration *durationpb.Duration) time.Duration {
	return max(duration.AsDuration(), 0)
}
