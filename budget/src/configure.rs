//! Changing limits live: what is left is kept in proportion, permits and places stay, and everyone waiting is looked at again.

use crate::{
    admission::meter_of,
    budget::{Budget, Model, charge_order},
    limit::{Limit, LimitSet, Source, members},
    meter::Moment,
    queue::Queue,
    request::{Event, Ticket},
    shadow::Shadow,
    slab::{serial_of, slot_of},
    spec::{CheckedSpec, bounds},
    time::Time,
};

impl<W: Clone> Budget<W> {
    /// Replaces the whole declaration. Limits are the same if unit, per, models and tenants are; new ones start full less what is
    /// in flight. Those waiting who can never be granted any more are refused.
    pub fn configure(&mut self, now: Time, spec: &CheckedSpec, events: &mut Vec<Event<W>>) {
        let now = self.catch_up(now, events);
        self.spec = spec.clone();
        let mut limits = Self::declared_limits(spec, now);
        // What the provider told or taught beyond it stays.
        let undeclared = self.limits.iter().filter(|limit| limit.rule.source != Source::Declared);
        let stays = |limit: &&Limit| {
            !limit.rule.pace.is_guess()
                && !limits.iter().any(|declared| declared.rule.spec.same_identity(&limit.rule.spec))
        };
        let kept: Vec<Limit> = undeclared.filter(stays).map(|limit| limit.anew(now)).collect();
        if spec.limits.is_empty() && !kept.is_empty() {
            limits.clear();
        }
        let room = bounds::LIMITS - limits.len();
        limits.extend(kept.into_iter().take(room));
        self.relimit(now, limits, events);
        self.shadow = match self.shadow.take() {
            Some(mut shadow) if spec.shadow => {
                shadow.configure(now, spec);
                Some(shadow)
            }
            _ => self.begin_shadow(now),
        };
        self.dispatch(now, events);
    }

    fn begin_shadow(&self, now: Time) -> Option<Box<Shadow>> {
        let mut shadow = Shadow::of(&self.spec, now);
        if self.paused {
            shadow.iter_mut().for_each(|shadow| shadow.pause());
        }
        shadow
    }

    /// The limits that a declaration makes, with those that hold tenants to their part; without any, one that is to be found out.
    pub(crate) fn declared_limits(spec: &CheckedSpec, now: Time) -> Vec<Limit> {
        match spec.limits.as_slice() {
            [] => vec![Self::unknown_limit(now)],
            declared => {
                let declared = declared.iter().cloned().chain(spec.caps());
                declared.map(|limit| Limit::declared(&limit, now)).collect()
            }
        }
    }

    /// Puts other limits in the place of those that are there; one that is the same as before takes over from it.
    pub(crate) fn relimit(&mut self, now: Time, limits: Vec<Limit>, events: &mut Vec<Event<W>>) {
        let before = std::mem::replace(&mut self.limits, limits);
        if self.ledger.on {
            self.limits.iter_mut().for_each(Limit::close);
        }
        // Where each limit of before has gone to.
        let place_of =
            |old: &Limit| self.limits.iter().position(|new| new.rule.spec.same_identity(&old.rule.spec));
        let places: Vec<Option<usize>> = before.iter().map(place_of).collect();
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
    }

    fn configure_names(&mut self, moment: Moment, places: &[Option<usize>]) {
        let Self { spec, limits, tenants, models, guaranteed, .. } = self;
        let now = moment.time;
        for (name, model) in models.iter_mut() {
            model.limits = Model::matching(name, limits);
            model.counting = spec.counting_of(name);
        }
        guaranteed.clear();
        for (number, (name, tenant)) in (0..).zip(tenants.iter_mut()) {
            tenant.move_meters(|at, mut old| {
                let place = (*places.get(at)?)?;
                old.advance(now);
                let mut new = limits[place].rule.effective_meter(now);
                new.take_over(&mut old, moment);
                Some((place, new))
            });
            tenant.configure(name, spec, limits, now);
            if tenant.guarantee.is_some() && tenant.waiting > 0 {
                guaranteed.insert(number);
            }
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
        for key in tickets {
            let slot = slot_of(key);
            let waiting = self.waiting.at(slot);
            let (tenant, class) = (queue.lane(waiting.lane).tenant, queue.lane(waiting.lane).class);
            let set = self.touched(tenant, waiting.model);
            let work = self.worth(set, &waiting.charge).saturating_mul(waiting.remaining.into());
            let work = u64::try_from(work).unwrap_or(u64::MAX);
            let flow = &mut self.tenants[tenant].flows[class.index()];
            let lane = self.queue.push((tenant, class), flow, set, slot, serial_of(key), work.into());
            let waiting = self.waiting.at_mut(slot);
            (waiting.lane, waiting.work) = (lane, work);
        }
        self.refuse_impossible(events);
    }

    /// Refuses those waiting whom no wait helps any more.
    pub(crate) fn refuse_impossible(&mut self, events: &mut Vec<Event<W>>) {
        if self.spec.shadow {
            return;
        }
        let mut tickets: Vec<u64> = self.waiting.keys().collect();
        tickets.sort_unstable_by_key(|key| serial_of(*key));
        for key in tickets {
            let waiting = self.waiting.at(slot_of(key));
            let refusal = self.impossible(self.queue.limits(waiting.lane), &waiting.charge);
            if let Some(refusal) = refusal {
                self.refuse(Ticket(key), refusal, events);
            }
        }
    }
}
