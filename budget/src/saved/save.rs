//! Writing a budget down, and what follows once that has succeeded or failed.

use std::time::Duration;

use super::{
    PermitChange, Pressure, SavedBudget, SavedLimit, SavedMeter, SavedPermit, SavedStrangers, SavedTenant,
    ledger::SERIALS,
};
use crate::{
    admission,
    budget::Budget,
    limit::{Limit, LimitSet},
    meter::{Escrow, Meter},
    refusal::Refusal,
    request::{Event, Ticket},
    slab::slot_of,
    tenant::Tenant,
    time::Time,
};

/// How long a request that can't wait waits for a save: far longer than one takes.
const SAVE_WAIT: Duration = Duration::from_secs(1);

impl<W: Clone> Budget<W> {
    /// Grants nothing that is not covered by a save. For a budget that nobody has asked yet.
    pub fn keep(&mut self) {
        self.ledger.on = true;
        self.ledger.serials = Escrow::CLOSED;
        self.limits.iter_mut().for_each(Limit::close);
    }

    /// How urgently it wants to be saved; ask after every other call.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.ledger.pressure()
    }

    /// Everything to be written down, and the permits that changed since the last time. Whether that succeeded has to be told by
    /// [`Budget::saved`] or [`Budget::not_saved`] before the next one. The `last` save of an orderly end sets nothing aside, so
    /// nothing may be granted after it.
    pub fn save(&mut self, now: Time, last: bool) -> (SavedBudget, Vec<PermitChange>) {
        self.now = self.now.max(now);
        let now = self.now;
        let serials = if last { 0 } else { SERIALS };
        self.ledger.serials.begin(serials);
        self.ledger.pressing = false;
        let limits = self.limits.iter_mut().map(|limit| limit.save(now, last)).collect();
        let has_own = self.limits.iter().any(Limit::is_each);
        let own = self.tenants.iter_mut().filter(|_| has_own).filter_map(|(name, tenant)| {
            let meters = tenant.save(now, last);
            (!meters.is_empty()).then(|| SavedTenant { tenant: name.to_owned(), meters })
        });
        let mut tenants: Vec<_> = own.collect();
        tenants.sort_unstable_by(|a, b| a.tenant.cmp(&b.tenant));
        let budget = SavedBudget {
            at: now,
            next_serial: self.permits.next_serial(),
            serials,
            limits,
            tenants,
            gate: self.feedback.gate.saved(),
            exhausted: self.feedback.exhausted(now),
        };
        let slots = self.ledger.touched.take();
        let changes = slots.into_iter().map(|slot| (slot, self.saved_permit(slot))).collect();
        (budget, changes)
    }

    /// The latest save is safe. Whoever waited for it goes on.
    pub fn saved(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        self.ledger.failing = false;
        self.ledger.serials.confirm();
        for limit in &mut self.limits {
            limit.confirm();
        }
        for (_, tenant) in self.tenants.iter_mut() {
            tenant.meters().for_each(|(_, meter)| meter.escrow.confirm());
        }
        if self.ledger.withheld {
            let now = self.catch_up(now, events);
            self.dispatch(now, events);
            self.end_tries(now, events);
        }
    }

    /// The latest save failed, and with it these permits: they are told again next time. Whoever can't go without a save is
    /// refused, until one succeeds.
    pub fn not_saved(&mut self, now: Time, permits: &[PermitChange], events: &mut Vec<Event<W>>) {
        for (slot, _) in permits {
            self.ledger.touch(*slot);
        }
        self.ledger.failing = true;
        if self.ledger.withheld {
            let now = self.catch_up(now, events);
            self.dispatch(now, events);
            for ticket in std::mem::take(&mut self.ledger.tries) {
                self.refuse(ticket, Refusal::store_unavailable(), events);
            }
        }
    }

    /// Whether a request that can't wait only waits for a save. It stays until then.
    pub(crate) fn waits_for_save(&mut self, now: Time, ticket: Ticket) -> bool {
        if !self.ledger.withheld || self.ledger.failing {
            return false;
        }
        let Some(found) = self.waiting.get(ticket.0) else { return false };
        let lane = self.queue.lane(found.lane);
        let set = self.queue.limits(found.lane);
        let Self { limits, tenants, waiting, .. } = self;
        let Some(found) = waiting.get(ticket.0) else { return false };
        let alone = admission::alone(limits, &mut tenants[lane.tenant], set, &found.charge, now, 0);
        let only = alone.ready <= now && alone.full.is_none();
        if only {
            self.ledger.tries.push(ticket);
            self.deadlines.remove(slot_of(ticket.0));
            self.deadlines.add(slot_of(ticket.0), now + SAVE_WAIT);
        }
        only
    }

    /// Refuses those that could not wait and did not get what the save set free.
    fn end_tries(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        if self.ledger.withheld {
            return;
        }
        for ticket in std::mem::take(&mut self.ledger.tries) {
            let refusal = self.not_in_time(now, ticket);
            self.refuse(ticket, refusal, events);
        }
    }

    /// A genuine id of which nothing is known any more: a permit from just before a crash has certainly ended. The limits that it
    /// touched for sure.
    pub(crate) fn report_in_doubt(&mut self, serial: u64) -> Option<LimitSet> {
        if !self.ledger.doubt.report(serial) {
            return None;
        }
        let mut set = 0;
        for (at, limit) in self.limits.iter_mut().enumerate() {
            if limit.rule.spec.models.is_empty() && limit.rule.spec.tenants.is_empty() {
                set |= 1 << at;
                limit.meter.iter_mut().for_each(|meter| meter.end_doubt());
            }
        }
        Some(set)
    }

    fn saved_permit(&self, slot: u32) -> Option<SavedPermit> {
        let key = self.permits.key_at(slot)?;
        let permit = self.permits.at(slot);
        Some(SavedPermit {
            key,
            tenant: self.tenants.name(permit.tenant).to_owned(),
            model: self.models.name(permit.model).to_owned(),
            priority: permit.class,
            charge: permit.charge.clone(),
            granted: permit.granted,
            expires: permit.expires,
            ttl: permit.ttl,
            waited: permit.waited,
            open_output: permit.open_output,
        })
    }
}

impl Limit {
    /// Nothing may be taken before the next save.
    pub(crate) fn close(&mut self) {
        self.rule.fresh = Escrow::CLOSED;
        self.meter.iter_mut().for_each(|meter| meter.escrow = Escrow::CLOSED);
    }

    fn save(&mut self, now: Time, last: bool) -> SavedLimit {
        let rule = &mut self.rule;
        let meter = self.meter.as_mut().map(|meter| meter.save(now, last, rule.capacity));
        let strangers = meter.is_none().then(|| {
            let allowance = if last { 0 } else { Meter::new(&rule.spec, now).allowance(0) };
            rule.fresh.begin(allowance);
            SavedStrangers { allowance, owed: rule.owed_by_strangers(now) }
        });
        SavedLimit { spec: rule.spec.clone(), meter, learned: rule.learned(), strangers }
    }

    fn confirm(&mut self) {
        self.rule.fresh.confirm();
        self.meter.iter_mut().for_each(|meter| meter.escrow.confirm());
    }
}

impl Tenant {
    fn save(&mut self, now: Time, last: bool) -> Vec<(u8, SavedMeter)> {
        let meters = self.meters().filter_map(|(at, meter)| {
            meter.advance(now);
            // One that is full, and of which nothing was taken or is wanted, is as good as a stranger's.
            let is_fresh = meter.available() == meter.capacity() && meter.escrow.is_idle();
            // Nobody takes more than a full meter of its own.
            let saved = meter.save(now, last, 0);
            (!is_fresh).then_some((at, saved))
        });
        meters.collect()
    }
}
