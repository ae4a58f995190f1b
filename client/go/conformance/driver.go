package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"runtime"
	"sync"
	"time"

	permitd "github.com/permitd/permitd/client/go"
)

type event map[string]any

// driver does what commands say. Those that wait run beside the others, and events come as things happen.
type driver struct {
	out     sync.Mutex
	events  *json.Encoder
	closed  bool
	running sync.WaitGroup
	// Whether there was a connect; what ends it; and `ready`, which is closed after it: then there is a client, or there will be none.
	begun      bool
	connecting context.Context
	hangUp     context.CancelFunc
	ready      chan struct{}
	client     *permitd.Client
	// What was there before a client was: it has to be all that is there after it.
	goroutines int

	mu    sync.Mutex
	calls map[string]*called
}

// called is a request by its id: how it is withdrawn, and its guard once it is granted.
type called struct {
	cancel context.CancelFunc
	guard  *permitd.Guard
	// Whether it was reported, cancelled or dropped.
	ended bool
}

func newDriver(out io.Writer) *driver {
	events := json.NewEncoder(out)
	events.SetEscapeHTML(false)
	connecting, hangUp := context.WithCancel(context.Background())
	return &driver{
		events: events, goroutines: runtime.NumGoroutine(), calls: make(map[string]*called),
		connecting: connecting, hangUp: hangUp, ready: make(chan struct{}),
	}
}

func (d *driver) do(command *command) {
	switch command.Op {
	case "connect":
		d.reconnect(command)
	case "acquire":
		d.beside(command, d.acquire)
	case "several":
		d.beside(command, d.several)
	case "call":
		d.beside(command, d.call)
	case "many":
		d.beside(command, d.many)
	case "http":
		d.beside(command, d.http)
	case "report":
		d.running.Go(func() { d.tell(d.report(command)) })
	case "cancel":
		d.cancel(command.ID)
	case "drop":
		d.drop(command.ID)
	case "estimate":
		d.tell(estimate(command))
	case "usage":
		d.tell(used(command))
	case "close":
		d.close()
	default:
		d.tell(event{"event": "unknown", "op": command.Op})
	}
}

// Makes the client that commands from here on mean; one that was there is closed.
func (d *driver) reconnect(command *command) {
	if d.begun {
		<-d.ready
		d.ready = make(chan struct{})
	}
	last := d.client
	d.begun = true
	ready := d.ready
	d.running.Go(func() {
		defer close(ready)
		if last != nil {
			_ = last.Close()
		}
		d.connect(command)
	})
}

func (d *driver) connect(command *command) {
	options, err := command.options()
	if err == nil {
		d.client, err = permitd.Connect(d.connecting, options)
	}
	if err != nil {
		d.tell(failure("failed", "", err))
		return
	}
	d.tell(event{"event": "connected"})
}

// Runs what may wait, with a context that `cancel` ends.
func (d *driver) beside(command *command, run func(context.Context, *command, *called) event) {
	ctx, cancel := context.WithCancel(context.Background())
	if command.Deadline != nil {
		ctx, cancel = context.WithTimeout(context.Background(), milliseconds(*command.Deadline))
	}
	call := &called{cancel: cancel}
	d.mu.Lock()
	d.calls[command.ID] = call
	d.mu.Unlock()
	ready := d.ready
	d.running.Go(func() {
		defer cancel()
		<-ready
		if d.client == nil {
			log.Fatalf("%s without a client", command.Op)
		}
		told := run(ctx, command, call)
		if ctx.Err() == context.Canceled && told["event"] != "granted" {
			told = event{"event": "cancelled", "id": command.ID}
		}
		d.tell(told)
	})
}

// The guard of a request that is granted, and whether this is its first end.
func (d *driver) end(id string) (guard *permitd.Guard, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	call := d.calls[id]
	if call == nil || call.guard == nil {
		return nil, false
	}
	first, call.ended = !call.ended, true
	return call.guard, first
}

func (d *driver) cancel(id string) {
	d.mu.Lock()
	call := d.calls[id]
	waits := call != nil && call.guard == nil
	if waits {
		// Under the lock, so that a grant that crosses is either before this or given back.
		call.ended = true
		call.cancel()
	}
	d.mu.Unlock()
	if guard, _ := d.end(id); guard != nil {
		guard.Cancel()
		d.tell(event{"event": "cancelled", "id": id})
	} else if !waits {
		log.Fatalf("there is no %q to cancel", id)
	}
}

func (d *driver) drop(id string) {
	guard, _ := d.end(id)
	if guard == nil {
		log.Fatalf("there is no %q to drop", id)
	}
	guard.Close()
	d.tell(event{"event": "dropped", "id": id})
}

func (d *driver) acquire(ctx context.Context, command *command, call *called) event {
	request, err := command.request()
	if err != nil {
		return failure("refused", command.ID, err)
	}
	guard, err := d.client.Acquire(ctx, request)
	if err != nil {
		return failure("refused", command.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if call.ended {
		guard.Cancel()
		return event{"event": "cancelled", "id": command.ID}
	}
	call.guard = guard
	return granted(command.ID, guard)
}

// Permits of one request, each of which has an id of its own from here on.
func (d *driver) several(ctx context.Context, command *command, call *called) event {
	request, err := command.request()
	if err != nil {
		return failure("refused", command.ID, err)
	}
	number := 0
	for guard, err := range d.client.AcquireMany(ctx, request, command.Count) {
		if err != nil {
			return failure("refused", command.ID, err)
		}
		number++
		id := fmt.Sprintf("%s%d", command.ID, number)
		d.mu.Lock()
		d.calls[id] = &called{cancel: call.cancel, guard: guard}
		d.mu.Unlock()
		d.tell(granted(id, guard))
	}
	return event{"event": "complete", "id": command.ID}
}

func granted(id string, guard *permitd.Guard) event {
	permit := guard.Permit()
	return event{"event": "granted", "id": id, "from": sources[permit.Source], "charged": amounts(permit.Charged)}
}

var sources = map[permitd.Source]string{
	permitd.FromServer: "server", permitd.FromLocalShare: "local_share", permitd.Unmanaged: "fail_open",
}

func (d *driver) report(command *command) event {
	guard, first := d.end(command.ID)
	if guard == nil {
		return failure("failed", command.ID, errors.New("nothing was granted by that id"))
	}
	report, err := command.report()
	if err != nil {
		return failure("failed", command.ID, err)
	}
	advice, err := guard.Report(context.Background(), report)
	if !first {
		return event{"event": "repeated", "id": command.ID}
	}
	if err != nil {
		return failure("failed", command.ID, err)
	}
	return event{
		"event": "reported", "id": command.ID, "outcome": advice.Outcome.String(), "settled": advice.Settled, "retry": advice.Retry,
		"retry_after_ms": roundedUp(advice.RetryAfter),
	}
}

// Ends the client, and tells how much of it is left.
func (d *driver) close() {
	if d.closed {
		return
	}
	d.closed = true
	d.hangUp()
	if d.begun {
		<-d.ready
	}
	if d.client != nil {
		if err := d.client.Close(); err != nil {
			log.Print(err)
		}
	}
	d.running.Wait()
	d.tell(event{"event": "closed", "leaked": d.leaked()})
}

// Goroutines that were not there before. One that has done its last act may take a moment to be gone.
func (d *driver) leaked() int {
	const looks = 100
	for range looks {
		if runtime.NumGoroutine() <= d.goroutines {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return max(runtime.NumGoroutine()-d.goroutines, 0)
}

func (d *driver) tell(told event) {
	d.out.Lock()
	defer d.out.Unlock()
	if err := d.events.Encode(told); err != nil {
		log.Fatal(err)
	}
}

func failure(kind, id string, err error) event {
	told := event{"event": kind, "message": err.Error(), "reason": "", "limit": "", "retry_after_ms": nil}
	if id != "" {
		told["id"] = id
	}
	var refusal *permitd.Error
	if errors.As(err, &refusal) {
		told["reason"], told["limit"], told["retry_after_ms"] = refusal.Reason, refusal.Limit, roundedUp(refusal.RetryAfter)
	}
	return told
}

func roundedUp(span *time.Duration) any {
	if span == nil {
		return nil
	}
	return (*span + time.Millisecond - 1).Milliseconds()
}
