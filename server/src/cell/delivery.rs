//! Answers on their way from the heart to whoever waits for them, outside of the lock.

use std::{mem, sync::Arc};

use permitd_budget::{Event, PermitKey};

use super::Cell;
use crate::inbox::{Delivery, Inbox, News, Waiter};

impl Cell {
    /// Delivers without the lock. What nobody takes any more goes back, which may grant to others: hence the loop.
    pub(super) fn deliver(&self, mut events: Vec<Event<Waiter>>) {
        loop {
            let returned = self.put_all(&mut events);
            if returned.is_empty() {
                return;
            }
            let mut state = self.footing.contention.lock(&self.state);
            let now = self.footing.clock.now();
            state.give_back(now, &returned, &mut events);
            self.set_alarm(&mut state);
            self.note(&mut state);
            state.note_events(now, &events);
            let finished = mem::take(&mut state.finished);
            drop(state);
            Self::tell_finished(finished);
        }
    }

    /// Puts every event into its inbox and wakes each reader once. Hands back the permits that nobody takes.
    fn put_all(&self, events: &mut Vec<Event<Waiter>>) -> Vec<PermitKey> {
        let mut returned = Vec::new();
        let mut sleepers: Vec<Arc<Inbox>> = Vec::new();
        for event in events.drain(..) {
            let (waiter, what) = match event {
                Event::Granted { waiter, grant, .. } => (waiter, News::Granted { cell: self.id, grant }),
                Event::Refused { waiter, refusal } => (waiter, News::Refused { cell: self.id, refusal }),
                Event::Expired { waiter, permit } => (waiter, News::Ended(permit)),
            };
            match waiter.inbox.put(Delivery { request_id: waiter.request_id, what }) {
                Ok(true) => sleepers.push(waiter.inbox),
                Ok(false) => {}
                Err(Delivery { what: News::Granted { grant, .. }, .. }) => returned.push(grant.permit),
                Err(_) => {}
            }
        }
        for inbox in sleepers {
            inbox.wake();
        }
        returned
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{Acquired, Outcome, Report, Request};

    use super::{
        super::{Footing, sample},
        *,
    };
    use crate::{alarm::Alarms, clock::Clock};

    fn request(inbox: &Arc<Inbox>, request_id: u64) -> Request<'static, Waiter> {
        sample::request(Waiter { inbox: Arc::clone(inbox), request_id, trace: None })
    }

    /// Goal: a grant that nobody takes any more goes back by itself, and on to the next in line, however many are gone.
    #[test]
    fn undeliverable_grants_go_on() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let cell = sample::cell(1, 1, &Arc::new(Footing::in_memory(clock, alarms)));
        let (gone, alive) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
        let Ok(Acquired::Granted(first)) = cell.acquire(request(&alive, 0)) else {
            panic!("granted at once")
        };
        for request_id in 1..1_000 {
            assert!(matches!(cell.acquire(request(&gone, request_id)), Ok(Acquired::Waiting(_))));
        }
        assert!(matches!(cell.acquire(request(&alive, 1_000)), Ok(Acquired::Waiting(_))));
        gone.close();
        let (reported, _) = cell.report(first.permit, &Report::new(Outcome::Success)).expect("here");
        assert!(reported.settled);
        let mut deliveries = Vec::new();
        alive.take(&mut deliveries);
        let [Delivery { request_id: 1_000, what: News::Granted { cell: 1, grant } }] = deliveries.as_slice()
        else {
            panic!("one grant, not {deliveries:?}")
        };
        assert!(cell.grant(grant.permit).is_some());
        assert_eq!(cell.in_flight(), 1);
    }
}
