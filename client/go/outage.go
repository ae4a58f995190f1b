package permitd

import (
	"time"

	"github.com/permitd/permitd/client/go/internal/share"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// outage is how long there has been no stream, and what of it; under the session's lock.
type outage struct {
	// Zero while a stream stands.
	since time.Time
	// While a stream stands that has not proven itself: what `since` was before, and when the stream came; else zero.
	unproven, came time.Time
	// Whether the policy holds.
	active bool
	// Whether an attempt has ended: until then nobody can say whether there is a server, however slow this process is.
	tried bool
	// The last one, for people.
	problem string
	// Definitive ones in a row, and how many make it hopeless to wait: one for each endpoint.
	definitive, endpoints int
	shares                *share.Book
	keepsShares           bool
	// Closed when a stream stands, or the policy holds, for the first time.
	decided   chan struct{}
	isDecided bool
}

func newOutage(settings *settings, now time.Time) outage {
	return outage{
		since:       now,
		endpoints:   len(settings.endpoints),
		shares:      share.NewBook(settings.Tenant),
		keepsShares: settings.Outage == LocalShare,
		decided:     make(chan struct{}),
	}
}

func (o *outage) decide() {
	if !o.isDecided {
		o.isDecided = true
		close(o.decided)
	}
}

// A stream stands. It has to answer something, or to live for a while, before the time without one is forgotten: a server that welcomes
// and parts, again and again, is none.
func (o *outage) end(now time.Time) {
	o.unproven, o.came = o.since, now
	o.since, o.active, o.problem, o.definitive = time.Time{}, false, "", 0
	o.shares.Leave()
	o.decide()
}

func (o *outage) lost(problem *problem, now time.Time) {
	o.tried = true
	if o.since.IsZero() {
		o.since = now
		if !o.unproven.IsZero() && now.Sub(o.came) < goodLife {
			o.since = o.unproven
		}
	}
	o.problem = problem.text
	if problem.definitive {
		o.definitive++
	} else {
		o.definitive = 0
	}
}

// The server has answered something.
func (o *outage) proven() {
	o.unproven = time.Time{}
}

func (o *outage) isHopeless() bool {
	return o.definitive >= o.endpoints
}

func (o *outage) learn(share *wire.LocalShare, now time.Time) {
	if o.keepsShares {
		o.shares.Learn(share, budgetName(share.Provider, share.Key), now)
	}
}

// From here on the policy stands in for the server.
func (s *session) beginOutage(now time.Time) {
	if s.outage.active {
		return
	}
	s.outage.active = true
	s.outage.decide()
	for _, held := range s.held {
		if held.reply != nil {
			held.reply <- advised{err: errReportKept(s.outage.problem)}
			held.reply = nil
		}
	}
	for _, id := range s.waitingIDs() {
		if waiting := s.waiting[id]; waiting != nil {
			s.answerWithoutServer(waiting, now)
		}
	}
	s.tellIfQuiet()
}

func (s *session) answerWithoutServer(waiting *waiting, now time.Time) {
	switch s.settings.Outage {
	case FailOpen:
		for waiting.remaining > 0 {
			s.standIn(waiting, acquired{guard: unmanaged(waiting, now)})
		}
	case LocalShare:
		s.locally(func(shares *share.Book, now time.Time) { shares.Acquire(s.askOf(waiting), now) })
	default:
		s.standIn(waiting, acquired{err: errNoServer(s.outage.problem)})
	}
}

// Answers in the server's place. One that still has the request in its queue has to be told when it is back.
func (s *session) standIn(waiting *waiting, answer acquired) {
	if answer.err != nil || waiting.remaining == 1 {
		s.forget(waiting)
	}
	s.answer(waiting, answer)
}

func unmanaged(waiting *waiting, now time.Time) *Guard {
	ask := waiting.ask
	charged := usageFromWire(ask.Estimate)
	if ask.Estimate == nil && ask.Tokens > 0 {
		charged = Usage{Tokens: Of(ask.Tokens)}
	}
	return newGuard(Permit{
		Provider: ask.Provider,
		Key:      ask.Key,
		Charged:  charged,
		Waited:   now.Sub(waiting.askedAt),
		Source:   Unmanaged,
	}, nobody{})
}

func (s *session) askOf(waiting *waiting) *share.Ask {
	budget := waiting.budget()
	return &share.Ask{ID: waiting.id, Budget: budget, Request: waiting.ask, Until: waiting.until, Held: func() int {
		live := 0
		for _, held := range s.held {
			if held.isLive() && held.budget == budget {
				live++
			}
		}
		return live
	}}
}

// Does something with the shares, and hands out what becomes of it.
func (s *session) locally(act func(shares *share.Book, now time.Time)) {
	shares, now := s.outage.shares, time.Now()
	act(shares, now)
	// The share gives one permit at a time: where several are wanted, it is asked for the next one.
	for answers := shares.Answers(); len(answers) > 0; answers = shares.Answers() {
		for _, answer := range answers {
			waiting := s.waiting[answer.ID]
			switch {
			case waiting == nil:
			case answer.Permit != nil:
				s.standIn(waiting, acquired{guard: s.local(waiting, answer.Permit)})
				if waiting.remaining > 0 {
					shares.Acquire(s.askOf(waiting), now)
				}
			case answer.Refused != nil:
				s.standIn(waiting, acquired{err: errRefused(answer.Refused)})
			default:
				s.standIn(waiting, acquired{err: errNoLocalShare(answer.Gone, s.outage.problem)})
			}
		}
	}
}

func (s *session) local(waiting *waiting, permit *share.Permit) *Guard {
	return newGuard(Permit{
		Provider: waiting.ask.Provider,
		Key:      waiting.ask.Key,
		Charged:  usageFromWire(permit.Charged),
		Waited:   permit.Waited,
		Source:   FromLocalShare,
	}, &localLease{session: s, permit: permit})
}

// The lessor of a permit of the local share.
type localLease struct {
	session *session
	permit  *share.Permit
}

func (l *localLease) settle(report *Report, reply chan<- advised) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	var answer *wire.ReportResponse
	s.locally(func(shares *share.Book, now time.Time) {
		answer = shares.Report(l.permit, share.Report{
			Outcome: wire.Outcome(report.Outcome), Status: report.Status, Wait: report.RetryAfter, Actual: report.Actual.toWire(),
		}, now)
	})
	s.stir()
	if reply != nil {
		reply <- advised{advice: adviceFromWire(answer)}
	}
}
