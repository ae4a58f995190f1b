package permitd

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"runtime"
	"time"

	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// The ceiling of the first wait before another attempt; it doubles up to the ceiling of every wait.
	backoffBase, backoffMax = 50 * time.Millisecond, 5 * time.Second
	// A stream that lived as long as this was a good one.
	goodLife = time.Second
)

// What the session knows of its stream; under its lock.
type linkState struct {
	// nil while none stands.
	stream *stream
	// When a server that is about to stop is left; zero if none is.
	leavesAt time.Time
	// Nothing more will be said: half-close.
	ends bool
}

// Keeps a stream open until the context ends, or until the session has said all it has to say.
func (s *session) keepLink(ctx context.Context) {
	hello := &wire.Hello{
		SessionId: rand.Text(),
		Client:    s.settings.Name,
		Tenant:    s.settings.Tenant,
	}
	failures, at := 0, 0
	for {
		endpoint := s.settings.endpoints[at]
		stream, problem := dial(ctx, s.settings, endpoint, hello)
		wasUp := problem == nil
		if wasUp {
			began := time.Now()
			problem = s.serve(stream)
			problem.text = endpoint.text + " " + problem.text
			if time.Since(began) >= goodLife {
				failures = 0
			}
		}
		if !s.lost(problem) || ctx.Err() != nil {
			return
		}
		if problem.elsewhere || problem.definitive || !wasUp {
			at = (at + 1) % len(s.settings.endpoints)
		}
		if !sleep(ctx, backoff(failures)) {
			return
		}
		failures++
	}
}

// Full jitter, so that the clients of a server that comes back do not come all at once.
func backoff(failures int) time.Duration {
	ceiling := min(backoffBase<<min(failures, 16), backoffMax)
	return mathrand.N(ceiling + 1)
}

// False if the context ended first.
func sleep(ctx context.Context, span time.Duration) bool {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Hands out what comes and sends what is ready, until the stream ends; says why it did.
func (s *session) serve(stream *stream) *problem {
	s.stands(stream)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write(stream)
	}()
	problem := s.read(stream)
	stream.close()
	<-written
	return problem
}

func (s *session) stands(stream *stream) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link.stream, s.link.leavesAt = stream, time.Time{}
	s.outage.end(now)
	s.welcome(stream.first.Welcome.Resumed, now)
	s.take(stream.first, now)
	s.stir()
}

func (s *session) read(stream *stream) *problem {
	for {
		response, err := stream.Recv()
		if err != nil {
			if own := causeOf(stream.ctx); own != nil {
				return own
			}
			if errors.Is(err, io.EOF) {
				return passing("ended the session")
			}
			return midway(err)
		}
		s.mu.Lock()
		s.take(response, time.Now())
		s.leaveIfDrained()
		s.tellIfQuiet()
		s.stir()
		s.mu.Unlock()
	}
}

// Sends whatever is ready in one message. What becomes ready while one is being sent goes with the next.
func (s *session) write(stream *stream) {
	for {
		select {
		case <-s.wake:
		case <-stream.ctx.Done():
			return
		}
		// Callers that were woken together have something to say together.
		runtime.Gosched()
		for {
			s.mu.Lock()
			message := s.message(time.Now())
			ends := message == nil && s.link.ends
			s.tellIfQuiet()
			s.mu.Unlock()
			if ends {
				_ = stream.CloseSend()
				return
			}
			if message == nil {
				break
			}
			if stream.Send(message) != nil {
				// The reader hears why; what has no answer is sent again.
				return
			}
		}
	}
}

// No stream: either one broke or an attempt failed. False if there is nothing more to be said to anybody.
func (s *session) lost(problem *problem) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link.stream, s.link.leavesAt = nil, time.Time{}
	s.outage.lost(problem, now)
	if s.outage.isHopeless() {
		s.beginOutage(now)
	}
	s.tellIfQuiet()
	s.stir()
	return !s.link.ends
}

// Once the last report is answered, nothing keeps the session at a server that is about to stop.
func (s *session) leaveIfDrained() {
	if !s.link.leavesAt.IsZero() && s.reporting == 0 {
		s.leave()
	}
}

func (s *session) leave() {
	if s.link.stream != nil {
		s.link.stream.abandon(&problem{text: "is about to stop", elsewhere: true})
	}
}
