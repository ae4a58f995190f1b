package permitd

import (
	"maps"
	"slices"
	"time"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// How long a server that is about to stop is still given for the answers to reports.
const drainPatience = 500 * time.Millisecond

// A new stream stands. With `resumed` the server still knows everything; without, nothing. Everything that has no answer is said again:
// that is harmless, since a repeated id gets the same answer.
func (s *session) welcome(resumed bool, now time.Time) {
	s.outbox = outbox{}
	for _, id := range s.waitingIDs() {
		s.outbox.acquires.push(id)
		s.waiting[id].sent = s.waiting[id].sent && resumed
	}
	for id, held := range s.held {
		switch {
		case held.report != nil:
			held.extendAt = time.Time{}
			s.outbox.reports.push(id)
		case held.ttl > 0 && held.extendAt.IsZero():
			// Whatever the last server thought of it, this one is asked.
			held.extendAt = now
		}
	}
	if resumed {
		for id := range s.cancelling {
			s.outbox.cancels.push(id)
		}
	} else {
		clear(s.cancelling)
	}
	s.nextSweep = now
}

// All that wait, in the order in which they asked.
func (s *session) waitingIDs() []uint64 {
	return slices.Sorted(maps.Keys(s.waiting))
}

func (s *session) take(response *wire.SessionResponse, now time.Time) {
	if len(response.Granted)+len(response.Refused)+len(response.Reported) > 0 {
		s.outage.proven()
	}
	for _, granted := range response.Granted {
		s.granted(granted, now)
	}
	for _, refused := range response.Refused {
		s.refused(refused, now)
	}
	for _, answer := range response.Reported {
		s.reported(answer.PermitId, advised{advice: adviceFromWire(answer)})
	}
	for _, share := range response.Shares {
		s.outage.learn(share, now)
	}
}

func (s *session) granted(granted *wire.Granted, now time.Time) {
	permit := granted.Permit
	if permit == nil {
		return
	}
	ttl := min(span(permit.Ttl), ttlMax)
	if known := s.held[permit.PermitId]; known != nil {
		// Sent again on resume, or with a new end.
		if known.isLive() {
			s.extendLater(known, now)
		}
		return
	}
	delete(s.cancelling, granted.RequestId)
	waiting := s.waiting[granted.RequestId]
	if waiting == nil && s.reporting >= unansweredMax {
		// From a server that gives what nobody asked for, and answers nothing. What is not reported ends with its ttl.
		return
	}
	held := &held{ttl: ttl, budget: budgetName(permit.Provider, permit.Key)}
	s.held[permit.PermitId] = held
	if waiting == nil {
		s.report(permit.PermitId, held, &Report{Outcome: Cancelled}, nil)
		return
	}
	s.extendLater(held, now)
	guard := newGuard(Permit{
		ID:        permit.PermitId,
		Provider:  permit.Provider,
		Key:       permit.Key,
		Charged:   usageFromWire(permit.Charged),
		Waited:    span(permit.Waited),
		ExpiresAt: permit.ExpiresAt.AsTime(),
		Source:    FromServer,
	}, &serverLease{session: s, id: permit.PermitId})
	s.answer(waiting, acquired{guard: guard})
}

func (s *session) refused(refused *wire.Refused, now time.Time) {
	if refused.PermitId != "" {
		s.permitRefused(refused, now)
		return
	}
	delete(s.cancelling, refused.RequestId)
	if refused.Reason == reasonDraining {
		// The request stays, for another server: this one is about to stop.
		if s.link.leavesAt.IsZero() {
			s.link.leavesAt = now.Add(drainPatience)
		}
		return
	}
	if waiting := s.waiting[refused.RequestId]; waiting != nil && !s.askAgain(waiting, refused, now) {
		s.answer(waiting, acquired{err: errRefused(refused)})
	}
}

// A report, or an extension.
func (s *session) permitRefused(refused *wire.Refused, now time.Time) {
	held := s.held[refused.PermitId]
	wait, passes := passesBy(refused)
	switch {
	case held == nil:
	case passes:
		held.extendAt = now.Add(wait)
		s.nextSweep = earlier(s.nextSweep, held.extendAt)
	case held.isLive():
		held.extendAt = time.Time{}
	case refused.Reason == reasonPermitUnknown:
		// The refusal of an extension, while the report was on its way: that has an answer of its own.
	case held.bare:
		// Even the outcome alone is refused: there is nothing left to say, the permit will expire.
		s.reported(refused.PermitId, advised{err: errRefused(refused)})
	default:
		if held.reply != nil {
			held.reply <- advised{err: errRefused(refused)}
			held.reply = nil
		}
		held.report, held.bare = &Report{Outcome: held.report.outcome()}, true
		s.outbox.reports.push(refused.PermitId)
	}
}

func (s *session) reported(permitID string, answer advised) {
	held := s.held[permitID]
	if held == nil || held.isLive() {
		return
	}
	delete(s.held, permitID)
	s.reporting--
	if held.reply != nil {
		held.reply <- answer
	}
}

// Whether it is in somebody's hand.
func (h *held) isLive() bool {
	return h != nil && h.report == nil
}

// A permit without a life is not extended.
func (s *session) extendLater(held *held, now time.Time) {
	if held.ttl <= 0 {
		return
	}
	held.extendAt = now.Add(held.ttl / 2)
	s.nextSweep = earlier(s.nextSweep, held.extendAt)
}

// Extends the permits of guards that live long, and sends reports again that were refused for now. Everything that is due soon goes along, so that a sweep is seldom: not more often than
// eight times in a permit's life.
func (s *session) sweep(now time.Time) {
	if s.nextSweep.IsZero() || now.Before(s.nextSweep) {
		return
	}
	s.nextSweep = time.Time{}
	for id, held := range s.held {
		if held.extendAt.IsZero() {
			continue
		}
		switch {
		case held.report != nil:
			if !held.extendAt.After(now) {
				s.outbox.reports.push(id)
				held.extendAt = time.Time{}
			}
		case !held.extendAt.After(now.Add(held.ttl / 8)):
			// A server that reads nothing finds each of them once.
			if s.outbox.extends.len() < len(s.held) {
				s.outbox.extends.push(id)
			}
			held.extendAt = now.Add(held.ttl / 2)
		}
		s.nextSweep = earlier(s.nextSweep, held.extendAt)
	}
}

// The earlier of two moments, of which a zero one never comes.
func earlier(one, other time.Time) time.Time {
	if one.IsZero() || !other.IsZero() && other.Before(one) {
		return other
	}
	return one
}

// How budgets are named in the client: as the server does.
func budgetName(provider, key string) string {
	if key == "" {
		key = "default"
	}
	return provider + "/" + key
}
