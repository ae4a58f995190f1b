package permitd

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// Not before that, whatever the server says, so that nobody asks in a busy loop.
	againWaitMin = 10 * time.Millisecond
	// Requests that are asked again within such a span go along together.
	againTogether = 10 * time.Millisecond
)

// A refusal that passes by itself, such as of a server that can't write to its store: asked again after the wait, it may be granted.
func passesBy(refused *wire.Refused) (wait time.Duration, passes bool) {
	if codes.Code(refused.Code) != codes.Unavailable || refused.RetryAfter == nil {
		return 0, false
	}
	return max(span(refused.RetryAfter), againWaitMin), true
}

// Lets a request wait on where its refusal passes within the time that it has. It gets a new number, since the old one stays refused.
// False if the caller has to be told.
func (s *session) askAgain(waiting *waiting, refused *wire.Refused, now time.Time) bool {
	wait, passes := passesBy(refused)
	at := now.Add(wait)
	if !passes || !waiting.until.IsZero() && waiting.until.Before(at) {
		return false
	}
	delete(s.waiting, waiting.id)
	s.lastID++
	waiting.id, waiting.sent, waiting.againAt = s.lastID, false, at
	s.waiting[waiting.id] = waiting
	s.nextAgain = earlier(s.nextAgain, at)
	return true
}

// Asks again what was refused for now.
func (s *session) askDue(now time.Time) {
	if s.nextAgain.IsZero() || now.Before(s.nextAgain) {
		return
	}
	s.nextAgain = time.Time{}
	for _, id := range s.waitingIDs() {
		switch waiting := s.waiting[id]; {
		case waiting.againAt.IsZero():
		case waiting.againAt.After(now.Add(againTogether)):
			s.nextAgain = earlier(s.nextAgain, waiting.againAt)
		default:
			waiting.againAt = time.Time{}
			s.outbox.acquires.push(id)
		}
	}
}
