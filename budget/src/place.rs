//! Telling those who wait where they are: what binds them, how many are ahead, and how long it is likely to take.

use std::time::Duration;

use crate::{
    admission::{self, Alone},
    budget::Budget,
    fair::share,
    limit::{LimitSet, Ticks},
    queue::Lane,
    refusal::{Reason, Refusal},
    request::{Place, Priority, Ticket},
    slab::{serial_of, slot_of},
    time::Time,
};

/// Requests ahead in the same lane that are counted one by one; beyond, the lane's length stands in.
const STEPS_MAX: usize = 256;
/// Other lanes that are looked at one by one; beyond, they are taken to be like those.
const LANES_MAX: usize = 128;

/// Who is expected to be served before.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    requests: u64,
    work: Ticks,
}

impl<W: Clone> Budget<W> {
    /// Where a waiting request is. `None` if it does not wait any more.
    pub fn place(&mut self, now: Time, ticket: Ticket) -> Option<Place> {
        let now = self.now.max(now);
        let ahead = self.ahead(ticket)?;
        let alone = self.alone(now, ticket, ahead.work)?;
        let limit = self.binding(ticket, &alone).map(|at| self.limits[at].rule.spec.to_string());
        let frozen = self.feedback.frozen(now);
        let held_by = if self.paused {
            "paused".to_owned()
        } else if frozen.is_some()
            || alone.binding.is_some_and(|at| self.limits[at].rule.gate.frozen(now).is_some())
        {
            "frozen".to_owned()
        } else if self.ledger.withheld && alone.binding.is_none() && alone.full.is_none() {
            "store".to_owned()
        } else {
            limit.clone().unwrap_or_default()
        };
        let known = !self.paused && (alone.binding.is_some() || frozen.is_some());
        let ready = alone.ready.max(frozen.unwrap_or(now));
        let estimated_wait = known.then(|| ready.since(now));
        let position = u32::try_from(ahead.requests).unwrap_or(u32::MAX);
        Some(Place { position, estimated_wait, held_by, limit })
    }

    /// The refusal of a waiting request whose time is over: which limit was short, and when trying again may help.
    pub(crate) fn not_in_time(&mut self, now: Time, ticket: Ticket) -> Refusal {
        let work = self.ahead(ticket).map_or(0, |ahead| ahead.work);
        let Some(alone) = self.alone(now, ticket, work) else {
            return Refusal::new(Reason::NotInTime);
        };
        let ready = alone.ready.max(self.feedback.frozen(now).unwrap_or(now));
        let retry_at = match alone.binding {
            None if alone.full.is_some() => self.expiries.first().unwrap_or(ready).max(ready),
            _ => ready,
        };
        let wait = retry_at.since(now);
        Refusal {
            reason: Reason::NotInTime,
            limit: self.binding(ticket, &alone).map(|at| self.limits[at].rule.spec.to_string()),
            // At least a moment: "now" has just been tried. Where only a pause is in the way, nobody knows.
            retry_after: (retry_at > now || !self.paused).then(|| wait.max(Duration::from_millis(1))),
        }
    }

    fn alone(&mut self, now: Time, ticket: Ticket, ahead: Ticks) -> Option<Alone> {
        let Self { limits, tenants, waiting, queue, .. } = self;
        let found = waiting.get(ticket.0)?;
        let set = queue.limits(found.lane);
        let tenant = &mut tenants[queue.lane(found.lane).tenant];
        Some(admission::alone(limits, tenant, set, &found.charge, now, ahead))
    }

    /// Requests that touch one of the same limits and whose tags are expected to come first.
    fn ahead(&self, ticket: Ticket) -> Option<Ahead> {
        let found = self.waiting.get(ticket.0)?;
        let lane = self.queue.lane(found.lane);
        let set = self.queue.limits(found.lane);
        let mut ahead = self.ahead_in_lane(slot_of(ticket.0), lane);

        let tenant = &self.tenants[lane.tenant];
        let start = tenant.flows[lane.class.index()].start;
        let mine = start.saturating_add(share(ahead.work, tenant.weight) - 1);
        let serial = serial_of(ticket.0);
        let others = self.lanes_before(lane.class, set, found.lane, mine, serial);
        ahead = Ahead {
            requests: ahead.requests + others.requests,
            work: ahead.work.saturating_add(others.work),
        };

        let class_start = self.fair.class_start(lane.class);
        let class_mine = class_start.saturating_add(share(ahead.work, lane.class.weight()) - 1);
        for class in Priority::ALL.into_iter().filter(|class| *class != lane.class) {
            let others = self.class_before(class, set, lane.class, class_mine);
            ahead = Ahead {
                requests: ahead.requests + others.requests,
                work: ahead.work.saturating_add(others.work),
            };
        }
        Some(ahead)
    }

    /// Of its own lane: counted as far as that goes, beyond like the rest of the lane.
    fn ahead_in_lane(&self, slot: u32, lane: &Lane) -> Ahead {
        let mut ahead = Ahead::default();
        for slot in self.queue.ahead(slot).take(STEPS_MAX) {
            ahead.requests += 1;
            ahead.work += Ticks::from(self.waiting.at(slot).work);
        }
        if ahead.requests == STEPS_MAX as u64 {
            let rest = u64::from(lane.len - 1) - ahead.requests;
            ahead.requests += rest;
            ahead.work += (lane.work / Ticks::from(lane.len)).saturating_mul(rest.into());
        }
        ahead
    }

    /// Of the other lanes of a class, what starts before `mine`.
    fn lanes_before(&self, class: Priority, set: LimitSet, own: u32, mine: Ticks, serial: u64) -> Ahead {
        let (mut ahead, mut looked) = (Ahead::default(), 0_u64);
        for (start, head, lane) in
            self.queue.in_order(class, set).filter(|(.., lane)| *lane != own).take(LANES_MAX)
        {
            looked += 1;
            if (*start, *head) >= (mine, serial) {
                continue;
            }
            let lane = self.queue.lane(*lane);
            let each = (lane.work / Ticks::from(lane.len)).max(1);
            let step = share(each, self.tenants[lane.tenant].weight);
            let before = u64::try_from((mine - start) / step)
                .unwrap_or(u64::MAX)
                .saturating_add(1)
                .min(lane.len.into());
            ahead.requests += before;
            ahead.work = ahead.work.saturating_add(each.saturating_mul(before.into()));
        }
        if looked == LANES_MAX as u64 {
            let rest = u64::from(self.queue.waiting_in(class)) / looked.max(1);
            ahead.requests = ahead.requests.max(rest);
        }
        ahead
    }

    /// Of another class, what is served before virtual time `mine`.
    fn class_before(&self, class: Priority, set: LimitSet, own: Priority, mine: Ticks) -> Ahead {
        let start = self.fair.class_start(class);
        if self.queue.waiting_in(class) == 0 || start > mine || (start == mine && class > own) {
            return Ahead::default();
        }
        let (mut requests, mut work) = (0_u64, 0);
        for (.., lane) in self.queue.in_order(class, set).take(LANES_MAX) {
            let lane = self.queue.lane(*lane);
            requests += u64::from(lane.len);
            work += lane.work;
        }
        if requests == 0 {
            return Ahead::default();
        }
        let each = (work / Ticks::from(requests)).max(1);
        let before =
            u64::try_from((mine - start) / share(each, class.weight())).unwrap_or(u64::MAX).saturating_add(1);
        let before = before.min(requests);
        Ahead { requests: before, work: each.saturating_mul(before.into()) }
    }
}
