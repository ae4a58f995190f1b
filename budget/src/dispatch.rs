//! Granting to those who wait, in the order of their tags. Whoever is first and does not fit reserves what it needs; those behind
//! go ahead only with what is left over.

use smallvec::SmallVec;

use crate::{
    acquire::Asker,
    admission::{self, Obstacle},
    budget::Budget,
    limit::Reserved,
    refusal::{Reason, Refusal},
    request::{Event, HeldBy, Ticket},
    slab::serial_of,
    time::Time,
};

/// Grants in one go at most, so that a raise which releases a long queue does not keep everyone else from the budget; the rest follows
/// at once with the next poll.
const GRANTS_MAX: u32 = 4096;

impl<W: Clone> Budget<W> {
    /// Grants what can be granted now, and works out when to look again.
    pub(crate) fn dispatch(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        self.wake = None;
        self.ledger.withheld = false;
        if self.waiting.len() == 0 || self.paused {
            return;
        }
        if !self.may_grant(now) {
            self.wake = self.feedback.frozen(now);
            self.ledger.withheld = !self.ledger.serials.covers(1);
            if self.ledger.withheld && self.ledger.failing {
                let retry_after = Refusal::store_unavailable().retry_after;
                self.refuse_waiting(Reason::StoreUnavailable, retry_after, events);
            }
            return;
        }
        self.unpark_due(now);
        self.reserve_nothing();
        // Groups whose first cannot go: everyone else in them needs the same limits.
        let mut held: SmallVec<[u32; 8]> = SmallVec::new();
        let mut granted = 0;
        while let Some((lane, is_due)) = self.next_lane(now, &held) {
            if self.offer((lane, is_due), now, &mut held, events) {
                granted += 1;
                if !held.is_empty() {
                    // What those ahead have to keep depends on what is left now.
                    held.clear();
                    self.reserve_nothing();
                }
                if granted == GRANTS_MAX || self.permits.is_full() {
                    self.wake_by(if self.permits.is_full() { Time::MAX } else { now });
                    break;
                }
                // A probe has gone.
                if let Some(until) = self.feedback.frozen(now).filter(|_| !self.spec.shadow) {
                    self.wake_by(until);
                    break;
                }
            }
        }
        if let Some((until, _)) = self.queue.first_parked() {
            self.wake_by(until);
        }
    }

    fn reserve_nothing(&mut self) {
        for limit in &mut self.limits {
            limit.rule.reserved = Reserved::default();
        }
    }

    /// The lane of a tenant that is due its part, or else the first in the order; groups that are held are passed over. Says which.
    fn next_lane(&self, now: Time, held: &[u32]) -> Option<(u32, bool)> {
        let due = self.guaranteed_lane(now, held).map(|lane| (lane, true));
        due.or_else(|| Some((self.first_lane(held)?, false)))
    }

    fn first_lane(&self, held: &[u32]) -> Option<u32> {
        self.fair.order().into_iter().find_map(|class| {
            if self.queue.waiting_in(class) == 0 {
                return None;
            }
            self.queue.first(class, |group| !held.contains(&group))
        })
    }

    /// Grants one permit to the head of a lane, or works out what is in its way.
    fn offer(
        &mut self,
        (lane, is_due): (u32, bool),
        now: Time,
        held: &mut SmallVec<[u32; 8]>,
        events: &mut Vec<Event<W>>,
    ) -> bool {
        let set = self.queue.limits(lane);
        let slot = self.queue.head(lane);
        let (tenant, class, group) = {
            let lane = self.queue.lane(lane);
            (lane.tenant, lane.class, lane.group)
        };
        self.guess_again(slot, tenant, set);
        let Self { limits, tenants, waiting, .. } = self;
        let head = waiting.at(slot);
        let entry = &mut tenants[tenant];
        if admission::fits(limits, entry, set, &head.charge, now) || self.spec.shadow {
            let asker =
                Asker { tenant, model: head.model, class, set, guess: head.guess, call: head.call, is_due };
            self.grant_head(lane, slot, asker, now, events);
            return true;
        }
        let obstacle = admission::obstacle(limits, entry, set, &head.charge, now);
        match obstacle {
            Obstacle::Own { until, .. } => {
                self.queue.hold_lane(lane, now, obstacle.held_by());
                self.queue.park(lane, until);
                return false;
            }
            Obstacle::Rate { until, .. } => self.wake_by(until),
            Obstacle::Slots { .. } => {}
            Obstacle::Store if self.ledger.failing => {
                let ticket = Ticket(self.waiting.key_at(slot).expect("the head of a lane waits"));
                self.refuse(ticket, Refusal::store_unavailable(), events);
                return false;
            }
            Obstacle::Store => {
                admission::want(limits, entry, set, &head.charge);
                self.ledger.withheld = true;
            }
        }
        self.queue.hold_group(group, now, obstacle.held_by());
        admission::reserve(&mut self.limits, set, &self.waiting.at(slot).charge, now, obstacle);
        held.push(group);
        false
    }

    fn grant_head(&mut self, lane: u32, slot: u32, asker: Asker, now: Time, events: &mut Vec<Event<W>>) {
        let ticket = Ticket(self.waiting.key_at(slot).expect("the head of a lane waits"));
        let held_by = self.held_since(self.waiting.at(slot).asked, now, lane);
        let head = self.waiting.at_mut(slot);
        head.remaining -= 1;
        let (remaining, asked) = (head.remaining, head.asked);
        let (waiter, charge) = if remaining == 0 {
            let left = self.leave(ticket).expect("the head of a lane waits");
            (left.waiter, left.charge)
        } else {
            // The work that is still to come.
            let done = head.work / u64::from(remaining + 1);
            head.work -= done;
            let copy = (head.waiter.clone(), head.charge.clone());
            let entry = self.queue.lane_mut(lane);
            entry.work = entry.work.saturating_sub(done.into());
            copy
        };
        let grant = self.grant_now(now, asker, charge, waiter.clone(), asked);
        self.queue.reorder(&self.tenants[asker.tenant].flows[asker.class.index()]);
        events.push(Event::Granted { waiter, grant, remaining, held_by });
    }

    /// What a request at the head of a lane waited for last since it came.
    fn held_since(&self, asked: Time, now: Time, lane: u32) -> HeldBy {
        let frozen = (self.feedback.gate.thaws(), HeldBy::Frozen);
        let paused = (self.resumed, HeldBy::Paused);
        let ended = [frozen, paused].into_iter().filter(|(at, _)| *at >= asked && *at <= now);
        let holds = ended.chain(self.queue.held_since(lane, asked));
        holds.max_by_key(|(at, _)| *at).map_or(HeldBy::Turn, |(_, held_by)| held_by)
    }

    /// The name of the limit that a request waited for, if it was one.
    #[must_use]
    pub fn limit_at(&self, held_by: HeldBy) -> Option<String> {
        Some(self.limits.get(held_by.limit()?)?.rule.spec.to_string())
    }

    pub(crate) fn unpark_due(&mut self, now: Time) {
        while let Some((until, lane)) = self.queue.first_parked()
            && until <= now
        {
            self.unpark(lane);
        }
    }

    /// Puts a lane back into the order: what held it back was its tenant's own.
    pub(crate) fn unpark(&mut self, lane: u32) {
        let (tenant, class) = (self.queue.lane(lane).tenant, self.queue.lane(lane).class);
        let serial = serial_of(self.waiting.key_at(self.queue.head(lane)).expect("the head of a lane waits"));
        let first = self.queue.first_start(class, self.queue.limits(lane));
        let flow = &mut self.tenants[tenant].flows[class.index()];
        self.fair.flow_wakes(class, flow, first);
        self.queue.unpark(lane, flow.start, serial);
        self.queue.reorder(flow);
    }

    fn wake_by(&mut self, time: Time) {
        if time < Time::MAX {
            self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
        }
    }
}
