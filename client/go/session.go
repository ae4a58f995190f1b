package permitd

import (
	"context"
	"sync"
	"time"

	"github.com/permitd/permitd/client/go/internal/share"
	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// What the server's answer may take beyond MaxWait, before the client stops waiting for it.
	answerSlack = time.Second
	// Cancels that are remembered for the case that the stream breaks.
	cancellingMax = 10_000
	// The longest life of a permit that counts.
	ttlMax = 24 * time.Hour
)

// session is what has no end yet, whatever happens to the stream: requests without an answer, permits without a report, reports without an
// answer. Each leaves it in exactly one way. A grant that nobody waits for is reported as cancelled.
//
// Callers, the stream's reader and writer, and the alarm all come in by its lock, which is never held across anything that waits.
type session struct {
	settings *settings
	// A place for each request that is on its way or in a queue.
	slots chan struct{}
	// Closed with the client: nobody waits for anything any more.
	closed chan struct{}
	// Tells the writer that there is something to send, and the alarm that something may have to be done earlier.
	wake, rearm chan struct{}

	mu sync.Mutex
	// From 1: 0 is the wire's "none".
	lastID  uint64
	waiting map[uint64]*waiting
	held    map[string]*held
	// How many of `held` have a report without an answer.
	reporting int
	// Cancels that the server has perhaps not seen.
	cancelling map[uint64]struct{}
	outbox     outbox
	link       linkState
	outage     outage
	// When permits are extended next, when requests are asked again, and for when the alarm is set; zero for never.
	nextSweep, nextAgain, armed time.Time
	// Nothing new is taken; what is on its way may be answered. Then `quiet` is closed, once.
	closing bool
	quiet   chan struct{}
}

// A request without its last answer.
type waiting struct {
	// Another one each time it is asked again.
	id uint64
	// As sent, but for the wait and the count, which shrink.
	ask     *wire.AcquireRequest
	askedAt time.Time
	// Until when it may wait; zero if nobody says.
	until time.Time
	// Permits still to be granted.
	remaining int
	// Has room for every permit and an error.
	answer chan acquired
	// Whether the server of the present stream may know of it.
	sent bool
	// When it is asked again; zero unless the server refused it for now.
	againAt time.Time
}

type acquired struct {
	guard *Guard
	err   *Error
}

// A permit that the server gave.
type held struct {
	// When it is extended, or once it is reported, when the report is sent again; zero if never.
	extendAt time.Time
	ttl      time.Duration
	budget   string
	// Once it is reported: what is said, and who waits for the advice, if anybody does.
	report *Report
	reply  chan<- advised
	// Whether a report with all that the caller said was refused, and its outcome alone is tried.
	bare bool
}

func newSession(settings *settings) *session {
	return &session{
		settings:   settings,
		slots:      make(chan struct{}, settings.WaitingMax),
		closed:     make(chan struct{}),
		wake:       make(chan struct{}, 1),
		rearm:      make(chan struct{}, 1),
		waiting:    make(map[uint64]*waiting),
		held:       make(map[string]*held),
		cancelling: make(map[uint64]struct{}),
		outage:     newOutage(settings, time.Now()),
		quiet:      make(chan struct{}),
	}
}

// Waits for `count` permits until the context ends, or the time that the request gives is over, and has each of them taken as it
// comes. What is not taken is withdrawn.
func (s *session) acquire(ctx context.Context, request *Request, count int, take func(*Guard) bool) *Error {
	ask, err := request.toWire()
	if err != nil {
		return err
	}
	if count < 1 || count > CountMax {
		return invalid("count", "%d is outside 1 to %d", count, CountMax)
	}
	if ctx.Err() != nil {
		return errContext(ctx.Err())
	}
	now := time.Now()
	waiting := &waiting{
		ask: ask, askedAt: now, until: request.until(ctx, now), remaining: count, answer: make(chan acquired, count+1),
	}
	if err := s.takeSlot(ctx, request.MaxWait); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	if !s.post(waiting) {
		return errClosed()
	}
	var gaveUp <-chan time.Time
	if request.MaxWait != nil {
		timer := time.NewTimer(*request.MaxWait + min(answerSlack, 1<<63-1-*request.MaxWait))
		defer timer.Stop()
		gaveUp = timer.C
	}
	for range count {
		select {
		case answer := <-waiting.answer:
			if answer.err != nil {
				return answer.err
			}
			if !take(answer.guard.handOver()) {
				s.cancel(waiting)
				return nil
			}
		case <-ctx.Done():
			s.cancel(waiting)
			return errContext(ctx.Err())
		case <-gaveUp:
			s.cancel(waiting)
			return errNoAnswerInTime()
		}
	}
	return nil
}

func (s *session) takeSlot(ctx context.Context, maxWait *time.Duration) *Error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	var gaveUp <-chan time.Time
	if maxWait != nil {
		timer := time.NewTimer(*maxWait)
		defer timer.Stop()
		gaveUp = timer.C
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errContext(ctx.Err())
	case <-gaveUp:
		return errClientFull(s.settings.WaitingMax)
	case <-s.closed:
		return errClosed()
	}
}

// False if the client is closed.
func (s *session) post(waiting *waiting) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.lastID++
	waiting.id = s.lastID
	s.waiting[waiting.id] = waiting
	if s.link.stream != nil {
		s.outbox.acquires.push(waiting.id)
		s.outbox.forgetGone(s.waiting)
	}
	if s.outage.active {
		s.answerWithoutServer(waiting, time.Now())
	}
	s.stir()
	return true
}

// Somebody does not wait any more. Grants that crossed go back unused: nobody can have sent the calls.
func (s *session) cancel(waiting *waiting) {
	s.mu.Lock()
	_, open := s.waiting[waiting.id]
	if open {
		s.forget(waiting)
		s.locally(func(shares *share.Book, now time.Time) { shares.Cancel(waiting.id, waiting.budget(), now) })
		s.stir()
	}
	s.mu.Unlock()
	// Nothing more comes: answers are given under the lock, to what is open.
	close(waiting.answer)
	for answer := range waiting.answer {
		if answer.guard != nil {
			answer.guard.lease.end(&Report{Outcome: Cancelled}, nil)
		}
	}
}

// Takes a request out. A server that may have it in its queue has to be told.
func (s *session) forget(waiting *waiting) {
	delete(s.waiting, waiting.id)
	if !waiting.sent {
		return
	}
	if s.link.stream != nil {
		s.outbox.cancels.push(waiting.id)
	}
	if len(s.cancelling) < cancellingMax {
		s.cancelling[waiting.id] = struct{}{}
	}
}

func (w *waiting) budget() string {
	return budgetName(w.ask.Provider, w.ask.Key)
}

func (s *session) answer(waiting *waiting, answer acquired) {
	if answer.guard != nil {
		waiting.remaining--
	}
	if answer.err != nil || waiting.remaining == 0 {
		delete(s.waiting, waiting.id)
	}
	waiting.answer <- answer
}

// The lessor of a permit that the server gave.
type serverLease struct {
	session *session
	id      string
}

func (l *serverLease) settle(report *Report, reply chan<- advised) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[l.id]
	if held == nil || held.report != nil {
		// The client was closed, and settled it.
		if reply != nil {
			reply <- advised{err: errClosed()}
		}
		return
	}
	if s.outage.active {
		if reply != nil {
			reply <- advised{err: errReportKept(s.outage.problem)}
			reply = nil
		}
		s.locally(func(shares *share.Book, now time.Time) { shares.Ended(held.budget, now) })
	}
	s.report(l.id, held, report, reply)
	s.stir()
}

func (s *session) report(permitID string, held *held, report *Report, reply chan<- advised) {
	held.report, held.reply, held.extendAt = report, reply, time.Time{}
	s.reporting++
	if s.link.stream != nil {
		s.outbox.reports.push(permitID)
	}
}

// Something may have to go out, or to be done earlier than was thought.
func (s *session) stir() {
	if !s.outbox.isEmpty() || s.link.ends {
		notify(s.wake)
	}
	if at := s.alarmAt(time.Now()); !at.IsZero() && (s.armed.IsZero() || at.Before(s.armed)) {
		notify(s.rearm)
	}
}

// Never waits: whoever looks at the channel looks at everything.
func notify(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
