//! Changing limits live: what is left is kept in proportion, permits and places stay, and everyone waiting is looked at again.

use crate::{
    admission::meter_of,
    budget::{Budget, Model, charge_order},
    limit::{Limit, LimitSet, members},
    meter::{Meter, Moment},
    queue::Queue,
    request::{Event, Ticket},
    slab::{serial_of, slot_of},
    spec::CheckedSpec,
    time::Time,
};

impl<W: Clone> Budget<W> {
    /// Replaces the whole declaration. Limits are the same if unit, per, models and tenants are; new ones start full less what is
    /// in flight. Those waiting who can never be granted any more are refused.
    pub fn configure(&mut self, now: Time, spec: &CheckedSpec, events: &mut Vec<Event<W>>) {
        let now = self.catch_up(now, events);
        let before = std::mem::take(&mut self.limits);
        self.spec = spec.clone();
        // Where each limit of before has gone to.
        let places: Vec<Option<usize>> = before
            .iter()
            .map(|old| spec.limits.iter().position(|new| new.same_identity(&old.rule.spec)))
            .collect();
        self.limits = spec.limits.iter().map(|limit| Limit::new(limit, now)).collect();
        if self.ledger.on {
            self.limits.iter_mut().for_each(Limit::close);
        }
        let moment = self.moment(now);
        let mut kept = 0;
        for (old, place) in before.into_iter().zip(&places) {
            let Some(place) = *place else { continue };
            kept |= 1 << place;
            self.limits[place].take_over(old, moment);
        }
        self.configure_names(moment, &places);
        self.charge_in_flight(now, kept);
        self.requeue(events);
        self.dispatch(now, events);
    }

    fn configure_names(&mut self, moment: Moment, places: &[Option<usize>]) {
        let Self { spec, limits, tenants, models, .. } = self;
        let now = moment.time;
        for (name, model) in models.iter_mut() {
            model.limits = Model::matching(name, limits);
            model.counting = spec.counting_of(name);
        }
        for (name, tenant) in tenants.iter_mut() {
            tenant.move_meters(|at, mut old| {
                let place = (*places.get(at)?)?;
                old.advance(now);
                let mut new = Meter::new(&limits[place].rule.spec, now);
                new.take_over(&mut old, moment);
                Some((place, new))
            });
            tenant.configure(name, spec, limits, now);
        }
    }

    /// New limits count the permits that are out, as of when they were granted: that is when the provider counted the call, and
    /// where a refund goes back to.
    fn charge_in_flight(&mut self, now: Time, kept: LimitSet) {
        if self.limits.len() == kept.count_ones() as usize {
            return;
        }
        let mut keys: Vec<u64> = self.permits.keys().collect();
        keys.sort_unstable_by_key(|key| serial_of(*key));
        let Self { limits, tenants, models, permits, .. } = self;
        for key in keys {
            let Some(permit) = permits.get(key) else { continue };
            let set = tenants[permit.tenant].limits & models[permit.model].limits & !kept;
            for at in members(set) {
                if let Some((rule, meter)) = meter_of(limits, &mut tenants[permit.tenant], at) {
                    let moment = Moment { time: permit.granted, order: charge_order(key) };
                    meter.take(moment, rule.cost(&permit.charge));
                    meter.advance(now);
                }
            }
        }
    }

    /// Puts everyone waiting into the lanes that the new limits make, in the order in which they came; refuses whom no wait would
    /// help.
    fn requeue(&mut self, events: &mut Vec<Event<W>>) {
        let queue = std::mem::replace(&mut self.queue, Queue::new());
        let mut tickets: Vec<u64> = self.waiting.keys().collect();
        tickets.sort_unstable_by_key(|key| serial_of(*key));
        for (_, tenant) in self.tenants.iter_mut() {
            tenant.flows.iter_mut().for_each(|flow| flow.lanes.clear());
        }
        let mut impossible = Vec::new();
        for key in tickets {
            let slot = slot_of(key);
            let waiting = self.waiting.at(slot);
            let (tenant, class) = (queue.lane(waiting.lane).tenant, queue.lane(waiting.lane).class);
            let set = self.touched(tenant, waiting.model);
            let work = self.worth(set, &waiting.charge).saturating_mul(waiting.remaining.into());
            let work = u64::try_from(work).unwrap_or(u64::MAX);
            if let Some(refusal) = self.impossible(set, &waiting.charge) {
                impossible.push((Ticket(key), refusal));
            }
            let flow = &mut self.tenants[tenant].flows[class.index()];
            let lane = self.queue.push((tenant, class), flow, set, slot, serial_of(key), work.into());
            let waiting = self.waiting.at_mut(slot);
            (waiting.lane, waiting.work) = (lane, work);
        }
        for (ticket, refusal) in impossible {
            self.refuse(ticket, refusal, events);
        }
    }
}
