package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	permitd "github.com/permitd/permitd/client/go"
)

type event map[string]any

// driver does what commands say. Those that wait run beside the others.
type driver struct {
	out     sync.Mutex
	events  *json.Encoder
	client  *permitd.Client
	closed  bool
	running sync.WaitGroup
	// What was there before a client was: it has to be all that is there after it.
	goroutines int

	mu      sync.Mutex
	cancels map[string]context.CancelFunc
	guards  map[string]*permitd.Guard
}

func newDriver(out io.Writer) *driver {
	events := json.NewEncoder(out)
	events.SetEscapeHTML(false)
	return &driver{
		events: events, goroutines: runtime.NumGoroutine(),
		cancels: make(map[string]context.CancelFunc), guards: make(map[string]*permitd.Guard),
	}
}

func (d *driver) do(command *command) {
	switch command.Op {
	case "connect":
		d.connect(command)
	case "acquire":
		d.beside(command, d.acquire)
	case "call":
		d.beside(command, d.call)
	case "many":
		d.beside(command, d.many)
	case "report":
		d.beside(command, d.report)
	case "cancel":
		d.cancel(command.ID)
	case "drop":
		if guard := d.take(command.ID); guard != nil {
			guard.Close()
		}
	case "close":
		d.close()
	default:
		d.tell(event{"event": "unknown", "op": command.Op})
	}
}

func (d *driver) connect(command *command) {
	options, err := command.options()
	if err == nil {
		d.client, err = permitd.Connect(context.Background(), options)
	}
	if err != nil {
		d.tell(failure("failed", "", err))
		return
	}
	d.tell(event{"event": "connected"})
}

// Runs what may wait, with a context that `cancel` ends.
func (d *driver) beside(command *command, run func(context.Context, *command) event) {
	if d.client == nil {
		log.Fatalf("%s before connect", command.Op)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if command.Deadline != nil {
		ctx, cancel = context.WithTimeout(context.Background(), milliseconds(*command.Deadline))
	}
	if command.Op != "report" {
		d.mu.Lock()
		d.cancels[command.ID] = cancel
		d.mu.Unlock()
	}
	d.running.Go(func() {
		defer cancel()
		d.tell(run(ctx, command))
	})
}

func (d *driver) cancel(id string) {
	d.mu.Lock()
	cancel := d.cancels[id]
	d.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (d *driver) acquire(ctx context.Context, command *command) event {
	request, err := command.request()
	if err != nil {
		return failure("failed", command.ID, err)
	}
	guard, err := d.client.Acquire(ctx, request)
	if errors.Is(err, context.Canceled) {
		return event{"event": "cancelled", "id": command.ID}
	}
	if err != nil {
		return failure("refused", command.ID, err)
	}
	d.mu.Lock()
	d.guards[command.ID] = guard
	d.mu.Unlock()
	return event{"event": "granted", "id": command.ID, "from": sources[guard.Permit().Source]}
}

var sources = map[permitd.Source]string{
	permitd.FromServer: "server", permitd.FromLocalShare: "local_share", permitd.Unmanaged: "fail_open",
}

func (d *driver) take(id string) *permitd.Guard {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guards[id]
}

func (d *driver) report(ctx context.Context, command *command) event {
	guard := d.take(command.ID)
	if guard == nil {
		return failure("failed", command.ID, errors.New("nothing was granted by that id"))
	}
	report, err := command.report()
	if err != nil {
		return failure("failed", command.ID, err)
	}
	advice, err := guard.Report(ctx, report)
	if err != nil {
		return failure("failed", command.ID, err)
	}
	told := event{
		"event": "reported", "id": command.ID, "retry": advice.Retry, "settled": advice.Settled, "outcome": advice.Outcome.String(),
	}
	if advice.RetryAfter != nil {
		told["retry_after_ms"] = advice.RetryAfter.Milliseconds()
	}
	return told
}

// Makes a call whose attempts end as the command says, one after the other; the last answer is given again.
func (d *driver) call(ctx context.Context, command *command) event {
	request, err := command.request()
	if err != nil {
		return failure("failed", command.ID, err)
	}
	attempts := 0
	err = d.client.Call(ctx, request, func(context.Context, *permitd.Permit) (permitd.Report, error) {
		answer := command.Answers[min(attempts, len(command.Answers)-1)]
		attempts++
		return answer.report()
	}, callOptions(command)...)
	if err != nil {
		return failure("refused", command.ID, err)
	}
	return event{"event": "called", "id": command.ID, "attempts": attempts}
}

func callOptions(command *command) []permitd.CallOption {
	if command.Attempts == 0 {
		return nil
	}
	return []permitd.CallOption{permitd.Attempts(command.Attempts)}
}

func (d *driver) many(ctx context.Context, command *command) event {
	request, err := command.request()
	if err != nil {
		return failure("failed", command.ID, err)
	}
	var granted, refused atomic.Int64
	var all sync.WaitGroup
	for range command.Count {
		all.Go(func() {
			guard, err := d.client.Acquire(ctx, request)
			if err == nil {
				_, err = guard.Report(ctx, permitd.Report{Outcome: permitd.Success})
			}
			if err != nil {
				refused.Add(1)
			} else {
				granted.Add(1)
			}
		})
	}
	all.Wait()
	return event{"event": "many", "id": command.ID, "granted": granted.Load(), "refused": refused.Load()}
}

// Ends the client, and tells how much of it is left.
func (d *driver) close() {
	if d.closed {
		return
	}
	d.closed = true
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
	told := event{"event": kind, "message": err.Error()}
	if id != "" {
		told["id"] = id
	}
	var refusal *permitd.Error
	if errors.As(err, &refusal) {
		told["code"], told["reason"] = code.Code(refusal.Code).String(), refusal.Reason
		if refusal.Limit != "" {
			told["limit"] = refusal.Limit
		}
		if refusal.RetryAfter != nil {
			told["retry_after_ms"] = refusal.RetryAfter.Milliseconds()
		}
	}
	return told
}
