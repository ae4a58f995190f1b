package permitd

import (
	"context"
	"time"

	"github.com/permitd/permitd/client/go/internal/share"
)

// Does what is due by itself, when it is due, until the context ends.
func (s *session) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.rearm:
		}
		s.mu.Lock()
		s.onTime(time.Now())
		s.armed = s.alarmAt(time.Now())
		at := s.armed
		s.mu.Unlock()
		timer.Stop()
		if !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}
}

// The next moment at which something has to be done unasked; zero if none.
func (s *session) alarmAt(now time.Time) time.Time {
	switch {
	case s.link.stream != nil:
		return earlier(earlier(s.nextSweep, s.nextAgain), s.link.leavesAt)
	case s.outage.active:
		return s.outage.shares.NextPoll(now)
	case !s.outage.tried:
		return time.Time{}
	default:
		return s.outage.since.Add(s.settings.OutageAfter)
	}
}

func (s *session) onTime(now time.Time) {
	switch {
	case s.link.stream != nil:
		s.sweep(now)
		s.askDue(now)
		if !s.link.leavesAt.IsZero() && !now.Before(s.link.leavesAt) {
			s.link.leavesAt = time.Time{}
			s.leave()
		}
	case s.outage.active:
		s.locally((*share.Book).Poll)
	case s.outage.tried && now.Sub(s.outage.since) >= s.settings.OutageAfter:
		s.beginOutage(now)
	}
	if !s.outbox.isEmpty() {
		notify(s.wake)
	}
}
