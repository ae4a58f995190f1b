package permitd

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// The server's bounds on one message,
const (
	acquiresMax = 1_000
	cancelsMax  = 10_000
)

// and ours, well within the server's bytes: it takes 4 MiB, and one more item is at most a tenth of the rest.
const (
	reportsMax      = 4_000
	extendsMax      = 4_000
	messageBytesMax = 2 * 1024 * 1024
)

// Reports without an answer, past which nothing new is asked until the server catches up.
const unansweredMax = 100_000

// outbox is what goes out next: ids only, in order. What they stand for is looked up when the message is built, so that what was
// cancelled meanwhile is not sent at all.
type outbox struct {
	acquires, cancels fifo[uint64]
	reports, extends  fifo[string]
}

func (o *outbox) isEmpty() bool {
	return o.acquires.len()+o.cancels.len()+o.reports.len()+o.extends.len() == 0
}

// Requests whose callers have left do not pile up while the server reads nothing.
func (o *outbox) forgetGone(open map[uint64]*waiting) {
	if o.acquires.len() > 2*len(open)+acquiresMax {
		o.acquires.keep(func(id uint64) bool { return open[id] != nil })
	}
}

// Whatever is ready, within the bounds of one message; nil if that is nothing.
func (s *session) message(now time.Time) *wire.SessionRequest {
	message := new(wire.SessionRequest)
	bytes := 0
	// Reports first: they make room in the budget for what is asked next.
	for s.outbox.reports.len() > 0 && len(message.Report) < reportsMax && bytes < messageBytesMax {
		id := s.outbox.reports.pop()
		if held := s.held[id]; held != nil && held.report != nil {
			report := held.report.toWire(id)
			bytes += reportBytes(report)
			message.Report = append(message.Report, report)
		}
	}
	for s.outbox.acquires.len() > 0 && len(message.Acquire) < acquiresMax && bytes < messageBytesMax && s.reporting < unansweredMax {
		if waiting := s.waiting[s.outbox.acquires.pop()]; waiting != nil {
			waiting.sent, waiting.againAt = true, time.Time{}
			ask := waiting.message(now)
			bytes += acquireBytes(ask)
			message.Acquire = append(message.Acquire, ask)
		}
	}
	for s.outbox.cancels.len() > 0 && len(message.Cancel) < cancelsMax {
		message.Cancel = append(message.Cancel, s.outbox.cancels.pop())
	}
	for s.outbox.extends.len() > 0 && len(message.Extend) < extendsMax {
		if id := s.outbox.extends.pop(); s.held[id].isLive() {
			message.Extend = append(message.Extend, id)
		}
	}
	if len(message.Report)+len(message.Acquire)+len(message.Cancel)+len(message.Extend) == 0 {
		return nil
	}
	return message
}

// The request with the wait that is left. Whoever sends it has no part in `ask`, which may be sent again.
func (w *waiting) message(now time.Time) *wire.AcquireRequest {
	ask := &wire.AcquireRequest{
		Provider: w.ask.Provider, Key: w.ask.Key, Tokens: w.ask.Tokens, Estimate: w.ask.Estimate, Model: w.ask.Model,
		Tenant: w.ask.Tenant, Priority: w.ask.Priority, RequestId: w.id, Count: uint32(w.remaining),
	}
	if !w.until.IsZero() {
		ask.MaxWait = durationpb.New(max(w.until.Sub(now), 0))
	}
	return ask
}

// What is of fixed size in an item, generously.
const fixedBytes = 96

func reportBytes(report *wire.ReportRequest) int {
	bytes := fixedBytes + len(report.PermitId) + len(report.Body) + usageBytes(report.Actual)
	for name, value := range report.Headers {
		bytes += len(name) + len(value) + 8
	}
	return bytes
}

func acquireBytes(ask *wire.AcquireRequest) int {
	return fixedBytes + len(ask.Provider) + len(ask.Key) + len(ask.Model) + len(ask.Tenant) + usageBytes(ask.Estimate)
}

func usageBytes(usage *wire.Usage) int {
	bytes := fixedBytes
	for unit := range usage.GetOther() {
		bytes += len(unit) + 16
	}
	return bytes
}

// fifo gives back what was put in, in order. The room is used again.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int {
	return len(f.items) - f.head
}

func (f *fifo[T]) push(item T) {
	if f.head > len(f.items)/2 && len(f.items) == cap(f.items) {
		kept := copy(f.items, f.items[f.head:])
		clear(f.items[kept:])
		f.items, f.head = f.items[:kept], 0
	}
	f.items = append(f.items, item)
}

func (f *fifo[T]) keep(wanted func(T) bool) {
	f.items = slices.DeleteFunc(f.items[f.head:], func(item T) bool { return !wanted(item) })
	f.head = 0
}

// Only of one that has something.
func (f *fifo[T]) pop() T {
	var none T
	item := f.items[f.head]
	f.items[f.head] = none
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return item
}
