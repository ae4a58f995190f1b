//! Asking for permits: granted at once where nobody waits and everything fits, else through the queue.

use std::time::Duration;

use crate::{
    admission,
    agenda::Agenda,
    budget::{Budget, Guess, MODELS_MAX, Model, Permit, Waiting},
    limit::{LimitSet, members},
    meter::Moment,
    refusal::{Reason, Refusal},
    request::{Acquired, Event, Grant, PermitKey, Priority, Request, Ticket},
    shadow::Call,
    slab::{serial_of, slot_of},
    spec::{CheckedSpec, DEFAULT_MAX_WAITING, Overflow},
    tenant::Tenant,
    time::Time,
    usage::{Amounts, Usage},
};

/// Who asks, resolved.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) tenant: u32,
    pub(crate) model: u32,
    pub(crate) class: Priority,
    pub(crate) set: LimitSet,
    pub(crate) guess: Guess,
    /// In shadow mode.
    pub(crate) call: Option<Call>,
    /// Whether it goes first since its tenant is due its part.
    pub(crate) is_due: bool,
}

impl<W: Clone> Budget<W> {
    /// Asks for permits. A single one that can be had at once comes as the answer; everything else comes as events, some
    /// perhaps with this very call.
    ///
    /// # Errors
    /// Says why there will be none, and when trying again may help.
    pub fn acquire(
        &mut self,
        now: Time,
        request: Request<'_, W>,
        events: &mut Vec<Event<W>>,
    ) -> Result<Acquired, Refusal> {
        let tenant = request.tenant;
        let acquired = self.join(now, request, events);
        if let Err(refusal) = &acquired {
            self.note_refusal(self.now, tenant, refusal);
        }
        acquired
    }

    /// As [`Budget::acquire`], but a refusal is neither counted nor remembered: for whoever asks several budgets for one permit.
    ///
    /// # Errors
    /// As there.
    pub fn join(
        &mut self,
        now: Time,
        request: Request<'_, W>,
        events: &mut Vec<Event<W>>,
    ) -> Result<Acquired, Refusal> {
        let now = self.catch_up(now, events);
        let call = self.shadow.as_mut().map(|shadow| shadow.ask(now, &request));
        let acquired = self.try_acquire(now, request, call, events);
        if acquired.is_err() {
            self.withdraw(call);
        }
        acquired
    }

    fn try_acquire(
        &mut self,
        now: Time,
        request: Request<'_, W>,
        call: Option<Call>,
        events: &mut Vec<Event<W>>,
    ) -> Result<Acquired, Refusal> {
        let tenant = self.tenant_named(request.tenant, now)?;
        let model = self.model_named(request.model)?;
        let set = self.touched(tenant, model);
        let guess = Guess::of(&request.estimate);
        let asker = Asker { tenant, model, class: request.priority, set, guess, call, is_due: false };
        let mut charge = self.charge(&asker, request.estimate);
        if request.count <= 1 && self.waiting.len() == 0 && self.may_grant(now) {
            let Self { limits, tenants, .. } = self;
            if admission::fits(limits, &mut tenants[tenant], set, &charge, now) || self.spec.shadow {
                self.wake_flow(&asker);
                return Ok(Acquired::Granted(self.grant_now(now, asker, charge, request.waiter, now)));
            }
        }
        if !self.spec.shadow {
            self.check_possible(&asker, &mut charge)?;
            self.check_quota(now)?;
        }

        let max_wait = match (request.max_wait, self.spec.queue.overflow) {
            (Some(given), _) => Some(given),
            (None, Overflow::Reject) => Some(Duration::ZERO),
            (None, Overflow::Wait) => self.spec.queue.max_wait,
        };
        self.check_queue(tenant, set)?;
        let deadline = match (max_wait.map(|wait| now + wait), request.gives_up) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if max_wait != Some(Duration::ZERO) && !self.paused && !self.spec.shadow {
            self.check_deadline(now, &asker, &charge, deadline)?;
        }
        let count = request.count.max(1);
        let ticket = self.enqueue(now, asker, charge, deadline, count, request.waiter);
        self.dispatch(now, events);
        if max_wait == Some(Duration::ZERO)
            && self.waiting.get(ticket.0).is_some()
            && !self.waits_for_save(now, ticket)
        {
            let refusal =
                if self.paused { Refusal::new(Reason::Paused) } else { self.not_in_time(now, ticket) };
            if self.waiting.get(ticket.0).is_some_and(|waiting| waiting.remaining < count) {
                // Part of it was granted, so the refusal of the rest is an event like any other.
                self.refuse(ticket, refusal, events);
                self.dispatch(now, events);
                return Ok(Acquired::Waiting(ticket));
            }
            self.leave(ticket);
            self.dispatch(now, events);
            return Err(refusal);
        }
        Ok(Acquired::Waiting(ticket))
    }

    /// Whether nothing holds back the budget as a whole.
    pub(crate) fn may_grant(&self, now: Time) -> bool {
        !self.paused
            && now < self.end
            && !self.permits.is_full()
            && self.ledger.serials.covers(1)
            && (self.spec.shadow
                || self.feedback.frozen(now).is_none() && self.feedback.exhausted(now).is_none())
    }

    /// Takes, and makes the permit. Everything has been seen to fit.
    pub(crate) fn grant_now(
        &mut self,
        now: Time,
        asker: Asker,
        charge: Amounts,
        waiter: W,
        asked: Time,
    ) -> Grant {
        let Asker { tenant, model, class, set, guess, call, is_due } = asker;
        let worth = self.worth(set, &charge);
        let entry = &mut self.tenants[tenant];
        let moment = Moment { time: now, order: 2 * self.permits.next_serial() };
        self.ledger.pressing |= admission::take(&mut self.limits, entry, set, &charge, moment);
        self.ledger.serials.take(1);
        // What is guaranteed is beside what is shared: others of the class are not to wait for it.
        if !is_due {
            self.fair.serve(class, &mut entry.flows[class.index()], entry.weight, worth);
        }
        let owed_nanos = self.serve_guarantee(now, tenant, set, &charge);
        let entry = &mut self.tenants[tenant];
        entry.in_flight += 1;
        entry.granted_total += 1;
        self.feedback.recent.grant(&charge, now);
        self.feedback.gate.pass();
        self.models[model].uses += 1;

        let ttl = self.spec.ttl();
        let expires = Agenda::due(now + ttl);
        let waited = now.since(asked);
        self.tally.grant(class, waited);
        let charged = charge.clone();
        let permit = Permit {
            waiter,
            charge,
            granted: now,
            expires,
            ttl,
            waited,
            tenant,
            model,
            class,
            open_output: guess.is_open(),
            worth,
            owed_nanos,
            is_due,
        };
        let key = self.permits.insert(permit);
        self.ledger.touch(slot_of(key));
        self.expiries.add(slot_of(key), expires);
        let permit = PermitKey::from_u64(key);
        if let (Some(shadow), Some(call)) = (&mut self.shadow, call) {
            shadow.out(now, call, permit);
        }
        Grant { permit, charged, expires, ttl, waited }
    }

    /// Takes a request out of the queue without an answer.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waiting<W>> {
        let slot = slot_of(ticket.0);
        let found = self.waiting.get(ticket.0)?;
        let (lane, work) = (found.lane, found.work);
        let (tenant, class) = (self.queue.lane(lane).tenant, self.queue.lane(lane).class);
        let Self { tenants, queue, waiting, .. } = self;
        let serial = |head| serial_of(waiting.key_at(head).expect("the queue holds only those waiting"));
        queue.remove(lane, &mut tenants[tenant].flows[class.index()], slot, work.into(), serial);
        self.deadlines.remove(slot);
        let left = self.waiting.remove(ticket.0)?;
        self.tenants[tenant].waiting -= 1;
        if self.tenants[tenant].waiting == 0 {
            self.guaranteed.remove(&tenant);
        }
        self.models[left.model].uses -= 1;
        if left.remaining > 0 {
            self.withdraw(left.call);
        }
        Some(left)
    }

    /// Whoever asked gets no more permits, and would not have waited for any.
    fn withdraw(&mut self, call: Option<Call>) {
        if let (Some(shadow), Some(call)) = (&mut self.shadow, call) {
            shadow.withdraw(self.now, call);
        }
    }

    fn enqueue(
        &mut self,
        now: Time,
        asker: Asker,
        charge: Amounts,
        deadline: Option<Time>,
        remaining: u32,
        waiter: W,
    ) -> Ticket {
        self.wake_flow(&asker);
        let Asker { tenant, model, class, set, guess, call, .. } = asker;
        let work =
            u64::try_from(self.worth(set, &charge).saturating_mul(remaining.into())).unwrap_or(u64::MAX);
        let key = self.waiting.insert(Waiting {
            waiter,
            charge,
            asked: now,
            work,
            lane: u32::MAX,
            model,
            remaining,
            guess,
            call,
        });
        let slot = slot_of(key);
        let entry = &mut self.tenants[tenant];
        let flow = &mut entry.flows[class.index()];
        let lane = self.queue.push((tenant, class), flow, set, slot, serial_of(key), work.into());
        self.waiting.at_mut(slot).lane = lane;
        entry.waiting += 1;
        if entry.guarantee.is_some() {
            self.guaranteed.insert(tenant);
        }
        self.models[model].uses += 1;
        if let Some(deadline) = deadline {
            self.deadlines.add(slot, deadline);
        }
        Ticket(key)
    }

    /// A flow and a class that had nobody waiting start where the others are.
    fn wake_flow(&mut self, asker: &Asker) {
        let Asker { tenant, class, set, .. } = *asker;
        if self.queue.waiting_in(class) == 0 {
            let others = Priority::ALL.into_iter().filter(|other| self.queue.waiting_in(*other) > 0);
            self.fair.class_wakes(class, others);
        }
        let entry = &mut self.tenants[tenant];
        if let Some(owed) = entry.guarantee.as_mut().filter(|_| entry.waiting == 0) {
            owed.wakes(self.now);
        }
        let flow = &mut entry.flows[class.index()];
        if flow.lanes.is_empty() {
            self.fair.flow_wakes(class, flow, self.queue.first_start(class, set));
        }
    }

    fn tenant_named(&mut self, name: &str, now: Time) -> Result<u32, Refusal> {
        if let Some(tenant) = self.tenants.find(name) {
            return Ok(tenant);
        }
        let tenant = Tenant::new(name, &self.spec, &self.limits, now);
        let placed = self
            .tenants
            .add(name, tenant, |tenant| tenant.is_idle(now))
            .ok_or_else(|| Refusal::new(Reason::TooManyTenants))?;
        if placed.replaced {
            self.outputs.forget_tenant(placed.at);
        }
        Ok(placed.at)
    }

    fn model_named(&mut self, name: &str) -> Result<u32, Refusal> {
        if let Some(model) = self.models.find(name) {
            return Ok(model);
        }
        let placed = self
            .models
            .add(name, Model::new(name, &self.spec, &self.limits), |model| model.uses == 0)
            .ok_or_else(|| Refusal::new(Reason::TooManyModels { most: MODELS_MAX as u32 }))?;
        if placed.replaced {
            self.outputs.forget_model(placed.at);
        }
        Ok(placed.at)
    }

    /// What a permit holds.
    fn charge(&self, asker: &Asker, estimate: Usage) -> Amounts {
        let learned =
            asker.guess.is_open().then(|| self.outputs.expected(asker.tenant, asker.model)).flatten();
        estimate.charge(learned, self.models[asker.model].counting)
    }

    /// Refuses what no wait would help.
    fn check_possible(&self, asker: &Asker, charge: &mut Amounts) -> Result<(), Refusal> {
        if asker.guess.is_open() {
            self.cut_guess(asker.set, asker.model, charge);
        }
        self.impossible(asker.set, charge).map_or(Ok(()), Err)
    }

    /// Refuses everybody while the provider's quota is used up.
    fn check_quota(&self, now: Time) -> Result<(), Refusal> {
        self.feedback.exhausted(now).map_or(Ok(()), |until| {
            let retry_after = until.map(|until| until.since(now));
            Err(Refusal { retry_after, ..Refusal::new(Reason::QuotaExhausted) })
        })
    }

    /// An output that was guessed never makes a request too large: the guess is cut to what can be granted.
    fn cut_guess(&self, set: LimitSet, model: u32, charge: &mut Amounts) {
        if self.impossible(set, charge).is_some() {
            let most = members(set).map(|at| {
                let rule = &self.limits[at].rule;
                (rule.spec.unit.as_str(), rule.capacity)
            });
            charge.cut_output(most, self.models[model].counting);
        }
    }

    /// Guesses the output of a waiting request again: those before it may have taught what to expect since it came.
    pub(crate) fn guess_again(&mut self, slot: u32, tenant: u32, set: LimitSet) {
        let waiting = self.waiting.at(slot);
        let Guess::Open { most } = waiting.guess else { return };
        let Some(expected) = self.outputs.expected(tenant, waiting.model) else { return };
        if expected.min(most) != waiting.charge.output_tokens {
            let mut charge = waiting.charge.clone();
            charge.set_output(expected.min(most), self.models[waiting.model].counting);
            self.cut_guess(set, waiting.model, &mut charge);
            self.waiting.at_mut(slot).charge = charge;
        }
    }

    /// Why `charge` can never be granted, if so.
    pub(crate) fn impossible(&self, set: LimitSet, charge: &Amounts) -> Option<Refusal> {
        members(set).map(|at| &self.limits[at].rule).find(|rule| rule.cost(charge) > rule.capacity).map(
            |rule| {
                let (asked, most) = (rule.cost(charge), rule.capacity);
                let reason = Reason::LargerThanLimit { unit: rule.spec.unit.clone(), asked, most };
                Refusal { limit: Some(rule.spec.to_string()), ..Refusal::new(reason) }
            },
        )
    }

    fn check_queue(&self, tenant: u32, set: LimitSet) -> Result<(), Refusal> {
        // A queue is full because of what holds those in it.
        let full = |reason| {
            let limit = self.queue.held_by_of(set).and_then(|held| self.limit_at(held));
            Refusal { limit, ..Refusal::new(reason) }
        };
        let max_waiting = match self.spec.queue.max_waiting {
            0 => DEFAULT_MAX_WAITING,
            declared => declared,
        };
        if self.waiting() >= max_waiting {
            return Err(full(Reason::QueueFull { max_waiting }));
        }
        let tenant = &self.tenants[tenant];
        if tenant.max_waiting != 0 && tenant.waiting >= tenant.max_waiting {
            return Err(full(Reason::TenantQueueFull { max_waiting: tenant.max_waiting }));
        }
        Ok(())
    }

    /// Refuses a request that cannot make its deadline even if it were alone.
    fn check_deadline(
        &mut self,
        now: Time,
        asker: &Asker,
        charge: &Amounts,
        deadline: Option<Time>,
    ) -> Result<(), Refusal> {
        let Some(deadline) = deadline else { return Ok(()) };
        let Self { limits, tenants, .. } = self;
        let alone = admission::alone(limits, &mut tenants[asker.tenant], asker.set, charge, now, 0);
        let ready = alone.ready.max(self.feedback.frozen(now).unwrap_or(now));
        // Deadlines are kept on the agenda's grid.
        if ready <= Agenda::due(deadline) {
            return Ok(());
        }
        let limit = alone.binding.map(|at| self.limits[at].rule.spec.to_string());
        Err(Refusal { reason: Reason::NotInTime, limit, retry_after: Some(ready.since(now)) })
    }
}

impl Model {
    pub(crate) fn new(name: &str, spec: &CheckedSpec, limits: &[crate::limit::Limit]) -> Self {
        Self { limits: Self::matching(name, limits), counting: spec.counting_of(name), uses: 0 }
    }

    pub(crate) fn matching(name: &str, limits: &[crate::limit::Limit]) -> LimitSet {
        let matches = limits.iter().enumerate().filter(|(_, limit)| limit.matches_model(name));
        matches.fold(0, |set, (at, _)| set | 1 << at)
    }
}
