//! Reading a budget back. Whatever was set aside counts as taken, so that it grants no more than the one that wrote it could have.

use super::{Resumed, SavedBudget, SavedLimit, SavedPermit, ledger::Doubt};
use crate::{
    admission::meter_of,
    agenda::Agenda,
    budget::{Budget, Model, Permit},
    feedback::Gate,
    limit::{Limit, Rule, Source, members},
    meter::{Escrow, Meter, Moment},
    slab::slot_of,
    spec::{BudgetSpec, CheckedSpec, Window},
    tenant::Tenant,
    time::Time,
};

/// The end of a process, as the next one sees it.
struct Crash<'a> {
    saved: &'a SavedBudget,
    back: &'a Resumed,
    /// After everything that was granted before it.
    moment: Moment,
    /// By then every permit has ended that may have been granted before it.
    end: Time,
}

impl<W: Clone> Budget<W> {
    /// The budget as it was saved, with its permits, at the moment `back`, and from then on with what is declared now. It is
    /// [kept](Budget::keep). `waiter` is told when one of those permits ends; nobody waits.
    #[must_use]
    pub fn restore(
        spec: &CheckedSpec,
        saved: &SavedBudget,
        permits: Vec<SavedPermit>,
        back: &Resumed,
        waiter: &W,
    ) -> Self {
        let declared = saved.limits.iter().filter(|limit| limit.learned.source == Source::Declared);
        let limits = declared.map(|limit| limit.spec.clone()).collect();
        // As far as it bears on what was written down; the rest follows with the declaration as it is.
        let before =
            BudgetSpec { limits, schedule: Vec::new(), shadow: false, ..BudgetSpec::clone(spec) }.check();
        let before = before.unwrap_or_else(|_| spec.clone());
        let mut budget = Self::new(&before, back.now);
        budget.limits = saved.limits.iter().map(|limit| Limit::restored(limit, back)).collect();
        budget.keep();
        let serial = saved.next_serial.saturating_add(saved.serials).clamp(1, u64::MAX / 2);
        let moment = Moment { time: back.now, order: 2 * serial - 1 };
        let crash = Crash { saved, back, moment, end: Agenda::due(back.now + spec.ttl()) };
        budget.restore_strangers(&crash);
        budget.restore_permits(&crash, serial, permits, waiter);
        budget.restore_meters(&crash);
        let exhausted = saved.exhausted.map(|until| until.map(|until| back.moved(until)));
        budget.feedback.restore(Gate::restored(&saved.gate, back), exhausted);
        budget.ledger.doubt = Doubt::new((saved.next_serial, serial), crash.end_of_doubt());
        // A budget without limits has at least one to find out.
        if before != *spec || saved.limits.is_empty() {
            // Nobody waits who would have to be told anything; ends of permits are told by the next poll.
            budget.configure(back.now, spec, &mut Vec::new());
        }
        budget
    }

    fn restore_strangers(&mut self, crash: &Crash<'_>) {
        let back = crash.back;
        for (limit, saved) in self.limits.iter_mut().zip(&crash.saved.limits) {
            let rule = &mut limit.rule;
            if let Some(strangers) = saved.strangers {
                let owed = strangers.owed.filter(|(_, until)| back.moved(*until) > back.now);
                let owed = owed.map_or(0, |(units, _)| units);
                rule.let_strangers_owe(owed.saturating_add(strangers.allowance), crash.moment, crash.end);
            }
        }
    }

    fn restore_permits(&mut self, crash: &Crash<'_>, serial: u64, permits: Vec<SavedPermit>, waiter: &W) {
        let restored: Vec<_> = permits
            .into_iter()
            .filter_map(|saved| {
                let (tenant, model) =
                    (self.restored_tenant(&saved.tenant, crash)?, self.restored_model(&saved.model)?);
                Some((saved.key, self.restored_permit(saved, tenant, model, crash.back, waiter)))
            })
            .collect();
        self.permits.restore(restored.into_iter(), serial);
        for key in self.permits.keys().collect::<Vec<_>>() {
            let permit = self.permits.at(slot_of(key));
            let (tenant, model) = (permit.tenant, permit.model);
            self.expiries.add(slot_of(key), permit.expires);
            // What is written of it is by the old clock.
            self.ledger.touch(slot_of(key));
            self.tenants[tenant].in_flight += 1;
            self.models[model].uses += 1;
            let set = self.touched(tenant, model);
            let Self { limits, tenants, .. } = self;
            for at in members(set) {
                if let Some((rule, meter)) = meter_of(limits, &mut tenants[tenant], at)
                    && !rule.is_rate()
                {
                    meter.take(crash.moment, 1);
                }
            }
        }
    }

    fn restored_permit(
        &self,
        saved: SavedPermit,
        tenant: u32,
        model: u32,
        back: &Resumed,
        waiter: &W,
    ) -> Permit<W> {
        Permit {
            waiter: waiter.clone(),
            worth: self.worth(self.touched(tenant, model), &saved.charge),
            charge: saved.charge,
            granted: back.moved(saved.granted),
            expires: back.moved(saved.expires),
            ttl: saved.ttl,
            waited: saved.waited,
            tenant,
            model,
            class: saved.priority,
            open_output: saved.open_output,
            owed_nanos: None,
            is_due: false,
        }
    }

    /// The meters of slots last of all: permits have been taken from them.
    fn restore_meters(&mut self, crash: &Crash<'_>) {
        for (limit, saved) in self.limits.iter_mut().zip(&crash.saved.limits) {
            if let (Some(meter), Some(saved)) = (&mut limit.meter, &saved.meter) {
                crash.restore(meter, saved, &mut limit.rule);
            }
        }
        for saved in &crash.saved.tenants {
            let Some(tenant) = self.restored_tenant(&saved.tenant, crash) else { continue };
            for (at, saved) in &saved.meters {
                if let Some(meter) = self.tenants[tenant].meter(usize::from(*at)) {
                    crash.restore(meter, saved, &mut self.limits[usize::from(*at)].rule);
                }
            }
        }
    }

    /// A tenant as it starts: what it has of its own is as full as if it had taken nothing, or, where nothing was written down of
    /// it, as a stranger's.
    fn restored_tenant(&mut self, name: &str, crash: &Crash<'_>) -> Option<u32> {
        if let Some(known) = self.tenants.find(name) {
            return Some(known);
        }
        let now = crash.back.now;
        let mut tenant = Tenant::new(name, &self.spec, &self.limits, now);
        if let Ok(at) = crash.saved.tenants.binary_search_by(|saved| saved.tenant.as_str().cmp(name)) {
            for (at, _) in &crash.saved.tenants[at].meters {
                if let Some(meter) = tenant.meter(usize::from(*at)) {
                    *meter = Meter::new(&self.limits[usize::from(*at)].rule.spec, now);
                    meter.escrow = Escrow::CLOSED;
                }
            }
        }
        Some(self.tenants.add(name, tenant, |_| false)?.at)
    }

    fn restored_model(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.models.find(name) {
            return Some(known);
        }
        Some(self.models.add(name, Model::new(name, &self.spec, &self.limits), |_| false)?.at)
    }
}

impl Limit {
    /// As it was in force, with what was learned of it, and full.
    fn restored(saved: &SavedLimit, back: &Resumed) -> Self {
        let mut spec = saved.spec.clone();
        if saved.learned.source != Source::Declared
            && let Window::Fixed { phase: Some(phase) } = &mut spec.window
        {
            // Learned by the old clock. What is declared stands fast on the calendar.
            *phase = back.moved(*phase);
        }
        let mut limit = Self::of(&spec, saved.learned.source, back.now);
        limit.rule.learn_again(&saved.learned, back);
        if let Some(meter) = &mut limit.meter {
            *meter = limit.rule.effective_meter(back.now);
        }
        limit
    }
}

impl Crash<'_> {
    fn restore(&self, meter: &mut Meter, saved: &super::SavedMeter, rule: &mut Rule) {
        if rule.is_rate() {
            rule.tally.forfeit(saved.allowance.min(meter.capacity_units()));
        }
        meter.restore(saved, self.saved.at, self.back, self.moment, self.end);
        meter.escrow = Escrow::CLOSED;
    }

    /// By when all is known again about permits, if it is not.
    fn end_of_doubt(&self) -> Option<Time> {
        let own = self.saved.tenants.iter().flat_map(|tenant| tenant.meters.iter().map(|(_, meter)| meter));
        let meters = self.saved.limits.iter().filter_map(|limit| limit.meter.as_ref()).chain(own);
        let earlier = meters.filter_map(|meter| match &meter.level {
            super::Level::Slots { doubted: Some((_, until)) } => Some(self.back.moved(*until)),
            _ => None,
        });
        let strangers = self.saved.limits.iter().filter_map(|limit| limit.strangers?.owed);
        let earlier = earlier.chain(strangers.map(|(_, until)| self.back.moved(until)));
        let now = (self.saved.serials > 0).then_some(self.end);
        earlier.chain(now).max().filter(|until| *until > self.back.now)
    }
}
