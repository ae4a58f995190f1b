package permitd

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// CountMax is how many permits one request may ask for; the server's bound.
const CountMax = 10_000

// Bytes in a name; the server's bound.
const nameBytesMax = 256

// Priority is the class of a request. Classes share a budget by weight, 16 : 4 : 1, so that none starves.
type Priority int

const (
	// Standard is the default.
	Standard Priority = iota
	// Interactive is for what somebody waits for at a screen.
	Interactive
	// Batch is for whenever there is room.
	Batch
)

// Request asks for one permit of the budget of a provider and key.
type Request struct {
	// The API to be called: "anthropic", "openai", "github", any name. At most 256 bytes, not empty.
	Provider string
	// An alias for the credential in use there, never the secret itself. Empty means "default".
	Key string
	// The model to be called; limits may differ by model.
	Model string
	// Who shares the budget. Empty means the client's tenant.
	Tenant string
	// How many tokens go in: short for Estimate.Tokens. What comes out is learned from reports and charged on top.
	Tokens uint64
	// What the call is expected to use. An output that is left open is learned from what this tenant and model used before.
	Estimate Usage
	Priority Priority
	// How long to wait in the queue at most; 0 means now or not at all. nil means the budget's default. The deadline of the context
	// counts beside it, and the server is told the shorter of the two.
	MaxWait *time.Duration
}

// What is sent, but for the request id and the wait.
func (r *Request) toWire() (*wire.AcquireRequest, *Error) {
	if r.Provider == "" {
		return nil, invalid("provider", "is empty; name the API to be called, for example anthropic")
	}
	for _, name := range [...]struct{ field, text string }{
		{"provider", r.Provider}, {"key", r.Key}, {"model", r.Model}, {"tenant", r.Tenant},
	} {
		if err := checkName(name.field, name.text); err != nil {
			return nil, err
		}
	}
	if err := r.Estimate.check("estimate"); err != nil {
		return nil, err
	}
	if r.MaxWait != nil && *r.MaxWait < 0 {
		return nil, invalid("max_wait", "%v is negative; 0 means now or not at all", *r.MaxWait)
	}
	priority, known := priorities[r.Priority]
	if !known {
		return nil, invalid("priority", "%d is none of Interactive, Standard, Batch", r.Priority)
	}
	return &wire.AcquireRequest{
		Provider: r.Provider,
		Key:      r.Key,
		Tokens:   r.Tokens,
		Estimate: r.Estimate.toWire(),
		Model:    r.Model,
		Tenant:   r.Tenant,
		Priority: priority,
	}, nil
}

var priorities = map[Priority]wire.Priority{
	Standard:    wire.Priority_PRIORITY_STANDARD,
	Interactive: wire.Priority_PRIORITY_INTERACTIVE,
	Batch:       wire.Priority_PRIORITY_BATCH,
}

// Until when the request may wait: the earlier of MaxWait from `now` and the context's deadline; zero if there is neither.
func (r *Request) until(ctx context.Context, now time.Time) time.Time {
	until, _ := ctx.Deadline()
	if r.MaxWait != nil {
		if at := now.Add(*r.MaxWait); until.IsZero() || at.Before(until) {
			return at
		}
	}
	return until
}

// A name that is not UTF-8 could not be sent at all.
func checkName(field, name string) *Error {
	if len(name) > nameBytesMax {
		return invalid(field, "%d bytes; a name has at most %d", len(name), nameBytesMax)
	}
	if !utf8.ValidString(name) {
		return invalid(field, "%.40q is not UTF-8", name)
	}
	return nil
}
