package permitd

import (
	"context"
	"iter"
	"sync"
	"time"
)

const (
	// How long Close waits for the answers to reports, and then for the server to end its side of the stream.
	closePatience = 5 * time.Second
	endPatience   = time.Second
)

// Client asks for permits over one session, which all its users share. It may be used from any number of goroutines.
type Client struct {
	session *session
	cancel  context.CancelFunc
	// Ends when the stream is gone, and when all of the client's goroutines are.
	linkDone chan struct{}
	running  sync.WaitGroup
	ending   sync.Once
	ended    error
}

// Connect opens a session with the first endpoint that answers. The context counts for that only.
//
// The error is [ErrInvalid] if an option makes no sense, and [ErrUnavailable] if no server can be reached in time; the latter only with
// [FailClosed]: the other policies let a client start in an outage.
func Connect(ctx context.Context, options Options) (*Client, error) {
	settings, err := options.check()
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	client := &Client{session: newSession(settings), cancel: cancel, linkDone: make(chan struct{})}
	client.running.Go(func() {
		defer close(client.linkDone)
		client.session.keepLink(running)
	})
	client.running.Go(func() { client.session.keepTime(running) })
	if err := client.ready(ctx); err != nil {
		// What went wrong is told already.
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

// Waits for the first stream, or for the outage policy to take over.
func (c *Client) ready(ctx context.Context) error {
	select {
	case <-c.session.outage.decided:
	case <-ctx.Done():
		return errContext(ctx.Err())
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if outage := &c.session.outage; outage.active && c.session.settings.Outage == FailClosed {
		return errNoServer(outage.problem)
	}
	return nil
}

// Acquire waits in the queue of the budget until there is a permit, the context ends, or the request's MaxWait is over. Who gives up
// leaves the queue. Settle the guard, at best by deferring its Close.
//
// The error is an [*Error].
func (c *Client) Acquire(ctx context.Context, request Request) (*Guard, error) {
	var granted *Guard
	take := func(guard *Guard) bool { granted = guard; return true }
	if err := c.session.acquire(ctx, &request, 1, take); err != nil {
		return nil, err
	}
	return granted, nil
}

// AcquireMany asks for `count` permits at once, from 1 to [CountMax], each for the whole estimate. The request has one place in the
// queue; its permits come as they become possible. The sequence, to be ranged over once, ends after the last of them or the first error,
// which is an [*Error]. Whoever leaves the loop withdraws what has not come; guards that came are the caller's to settle.
func (c *Client) AcquireMany(ctx context.Context, request Request, count int) iter.Seq2[*Guard, error] {
	return func(yield func(*Guard, error) bool) {
		err := c.session.acquire(ctx, &request, count, func(guard *Guard) bool { return yield(guard, nil) })
		if err != nil {
			yield(nil, err)
		}
	}
}

// IsConnected says whether a session stands at the moment.
func (c *Client) IsConnected() bool {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.session.link.stream != nil
}

// Close ends the session politely. Requests that wait end with [ErrClosed]; permits in hand are settled as [Guard.Close] does. Reports
// that are on their way are answered first, within 5 seconds. When it returns, no goroutine of the client is left.
//
// The error is [ErrUnavailable] if reports were left without an answer.
func (c *Client) Close() error {
	c.ending.Do(func() { c.ended = c.end() })
	return c.ended
}

func (c *Client) end() error {
	s := c.session
	s.close()
	wait(s.quiet, closePatience)
	s.mu.Lock()
	pending, up := s.reporting, s.link.stream != nil
	s.link.ends = true
	s.stir()
	s.mu.Unlock()
	if up {
		wait(c.linkDone, endPatience)
	}
	c.cancel()
	c.running.Wait()
	if pending > 0 {
		return errReportsPending(pending)
	}
	return nil
}

// Nothing new is asked from here on.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	close(s.closed)
	for _, id := range s.waitingIDs() {
		waiting := s.waiting[id]
		s.forget(waiting)
		s.answer(waiting, acquired{err: errClosed()})
	}
	for id, held := range s.held {
		if held.isLive() {
			s.report(id, held, &Report{Outcome: Failed}, nil)
		}
	}
	s.tellIfQuiet()
	s.stir()
}

// Whether all has been said that a closing client has to say, or there is nobody to hear it.
func (s *session) tellIfQuiet() {
	if !s.closing || !s.outage.active && (s.reporting > 0 || !s.outbox.isEmpty()) {
		return
	}
	select {
	case <-s.quiet:
	default:
		close(s.quiet)
	}
}

// Waits for the channel to be closed, but not for ever.
func wait(done <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
