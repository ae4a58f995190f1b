//! How permits and waits end: reported, expired, cancelled, or refused. Each ends exactly once.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    admission::meter_of,
    budget::{Budget, Permit, Waiting, charge_order},
    feedback::Heard,
    limit::{LimitSet, members},
    meter::Moment,
    outcome::{Outcome, Report, Reported},
    past::{Past, PastRefusal},
    refusal::{Reason, Refusal},
    request::{Event, PermitKey, Ticket},
    slab::serial_of,
    time::Time,
    usage::Amounts,
};

impl<W: Clone> Budget<W> {
    /// Says how the call of a permit went. A repeat is answered as the first report was and changes nothing; so is a report
    /// that contradicts it. The waiter comes back if this report is what ended the permit.
    pub fn report(
        &mut self,
        now: Time,
        permit: PermitKey,
        report: &Report,
        events: &mut Vec<Event<W>>,
    ) -> (Reported, Option<W>) {
        let now = self.catch_up(now, events);
        let serial = serial_of(permit.as_u64());
        let Some(ended) = self.take_permit(permit.as_u64()) else {
            return (self.report_late(now, serial, report, events), None);
        };
        let set = self.touched(ended.tenant, ended.model);
        let used = match report.outcome {
            Outcome::Cancelled => Amounts::nothing(),
            Outcome::Overloaded if self.feedback.admissions.gives_back(now) => Amounts::nothing(),
            _ => report.actual.settle(&ended.charge, self.models[ended.model].counting),
        };
        self.settle(now, permit.as_u64(), &ended, set, &used, report.outcome != Outcome::Cancelled);
        if let Some(shadow) = &mut self.shadow {
            shadow.ended(now, permit, report);
        }
        if ended.open_output
            && let Some(output) = report.actual.output_used()
        {
            self.outputs.learn(ended.tenant, ended.model, output);
        }
        self.learn(now, Heard::of(&ended, set, report), events);
        // What was learned may be another limit.
        let reported = self.answer(now, self.touched(ended.tenant, ended.model), report, true);
        self.answers.remember(serial, &reported);
        self.dispatch(now, events);
        (reported, Some(ended.waiter))
    }

    /// Takes a waiting request out of the queue. `None` if it does not wait any more.
    pub fn cancel(&mut self, now: Time, ticket: Ticket, events: &mut Vec<Event<W>>) -> Option<W> {
        let now = self.catch_up(now, events);
        let left = self.leave(ticket)?;
        self.dispatch(now, events);
        Some(left.waiter)
    }

    /// Refuses everyone who waits.
    pub fn refuse_waiting(
        &mut self,
        reason: Reason,
        retry_after: Option<Duration>,
        events: &mut Vec<Event<W>>,
    ) {
        let tickets: Vec<Ticket> = self.waiting.keys().map(Ticket).collect();
        for ticket in tickets {
            self.refuse(ticket, Refusal { retry_after, ..Refusal::new(reason.clone()) }, events);
        }
        self.wake = None;
    }

    pub(crate) fn expire_permits(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        while let Some(slot) = self.expiries.take_due(now) {
            let key = self.permits.key_at(slot).expect("only live permits have an expiry");
            let ended = self.take_permit(key).expect("only live permits have an expiry");
            let set = self.touched(ended.tenant, ended.model);
            // The call may have been made: the charge stays, the slot comes back.
            self.settle(now, key, &ended, set, &ended.charge, true);
            self.answers.expect_late(serial_of(key), ended.tenant, ended.model);
            self.tally.expired += 1;
            if let Some(shadow) = &mut self.shadow {
                shadow.lapsed(PermitKey::from_u64(key));
            }
            events.push(Event::Expired { waiter: ended.waiter, permit: PermitKey::from_u64(key) });
        }
    }

    /// Refuses whose deadline is over, or with `now_too` also those whose deadline is this moment. Says whether there were any.
    pub(crate) fn expire_waiting(&mut self, now: Time, now_too: bool, events: &mut Vec<Event<W>>) -> bool {
        let before = self.waiting.len();
        let over = if now_too { now } else { Time::from_nanos(now.as_nanos().saturating_sub(1)) };
        while let Some(slot) = self.deadlines.take_due(over) {
            let ticket = Ticket(self.waiting.key_at(slot).expect("only those waiting have a deadline"));
            let refusal = self.not_in_time(now, ticket);
            self.refuse(ticket, refusal, events);
        }
        self.waiting.len() < before
    }

    pub(crate) fn refuse(&mut self, ticket: Ticket, refusal: Refusal, events: &mut Vec<Event<W>>) {
        let Some(lane) = self.waiting.get(ticket.0).map(|waiting| waiting.lane) else { return };
        let tenant = self.queue.lane(lane).tenant;
        if let Some(Waiting { waiter, .. }) = self.leave(ticket) {
            self.tally.refuse(&refusal.reason);
            remember_refusal(&mut self.refusals, self.now, self.tenants.name(tenant), &refusal);
            events.push(Event::Refused { waiter, refusal });
        }
    }

    /// A request was refused before it came to wait.
    pub(crate) fn note_refusal(&mut self, now: Time, tenant: &str, refusal: &Refusal) {
        self.tally.refuse(&refusal.reason);
        remember_refusal(&mut self.refusals, now, tenant, refusal);
    }

    fn take_permit(&mut self, key: u64) -> Option<Permit<W>> {
        let ended = self.permits.remove(key)?;
        self.expiries.remove(crate::slab::slot_of(key));
        self.ledger.touch(crate::slab::slot_of(key));
        Some(ended)
    }

    /// Replaces what a permit held by what was used, on every limit that it touched, and corrects its tenant's tag.
    fn settle(&mut self, now: Time, key: u64, ended: &Permit<W>, set: LimitSet, used: &Amounts, sent: bool) {
        let (debited, charged) = (self.moment(now), Moment { time: ended.granted, order: charge_order(key) });
        let Self { limits, tenants, .. } = self;
        let tenant = &mut tenants[ended.tenant];
        tenant.in_flight -= 1;
        for at in members(set) {
            let Some((rule, meter)) = meter_of(limits, tenant, at) else { continue };
            meter.advance(now);
            rule.cushion.shrink(now);
            let held = rule.cost(&ended.charge);
            let used = if rule.is_rate() { rule.cost(used) } else { 0 };
            if used != held && rule.is_rate() {
                rule.tally.settle(held, used);
            }
            if used != held {
                rule.traffic.correct(ended.granted, i128::from(used) - i128::from(held));
            }
            if used < held {
                // No more was taken than there can be, so no more of it comes back.
                meter.give_back(charged, held.min(meter.most_units()).saturating_sub(used));
            } else {
                meter.take(debited, used - held);
            }
        }
        self.models[ended.model].uses -= 1;
        let actual = match sent {
            true if *used == ended.charge => ended.worth,
            true => self.worth(set, used),
            false => 0,
        };
        let tenant = &mut self.tenants[ended.tenant];
        let flow = &mut tenant.flows[ended.class.index()];
        if ended.worth != actual && !ended.is_due {
            self.fair.correct(ended.class, flow, tenant.weight, ended.worth, actual);
            self.queue.reorder(flow);
        }
        self.correct_guarantee(ended, set, used, sent);
        if self.queue.has_parked() {
            self.unpark_tenant(ended.tenant);
        }
    }

    /// Of a permit that was granted while its tenant had a guarantee.
    fn correct_guarantee(&mut self, ended: &Permit<W>, set: LimitSet, used: &Amounts, sent: bool) {
        let Some(charged) = ended.owed_nanos.filter(|_| *used != ended.charge) else { return };
        let actual = if sent { self.time_taken(set, used) } else { 0 };
        if let Some(owed) = &mut self.tenants[ended.tenant].guarantee {
            owed.correct(charged, actual);
        }
    }

    /// What a tenant's own limits held back may go now.
    fn unpark_tenant(&mut self, tenant: u32) {
        let flows = &self.tenants[tenant].flows;
        let lanes: SmallVec<[u32; 4]> = flows.iter().flat_map(|flow| flow.lanes.iter().copied()).collect();
        for lane in lanes {
            if self.queue.is_parked(lane) {
                self.unpark(lane);
            }
        }
    }

    /// A report on a permit that has ended: repeated, late, or unknown.
    fn report_late(
        &mut self,
        now: Time,
        serial: u64,
        report: &Report,
        events: &mut Vec<Event<W>>,
    ) -> Reported {
        if let Some((tenant, model)) = self.answers.take_late(serial) {
            let set = self.touched(tenant, model);
            // It was under way for longer than a permit lives: what it says is news.
            self.learn(now, Heard::late(set, Some(model), now, report), events);
            let reported = self.answer(now, self.touched(tenant, model), report, false);
            self.answers.remember(serial, &reported);
            self.dispatch(now, events);
            return reported;
        }
        if let Some(set) = self.report_in_doubt(serial) {
            self.learn(now, Heard::late(set, None, now, report), events);
            let reported = self.answer(now, set, report, false);
            self.answers.remember(serial, &reported);
            self.dispatch(now, events);
            return reported;
        }
        self.answers.recall(serial).unwrap_or_else(|| self.answer(now, 0, report, false))
    }

    fn answer(&self, now: Time, set: LimitSet, report: &Report, settled: bool) -> Reported {
        let retry = report.outcome.is_worth_retrying();
        let closed = members(set).filter_map(|at| self.limits[at].rule.gate.closed_until(now)).max();
        let until = closed.max(self.feedback.frozen(now)).unwrap_or(now);
        let wait = until.since(now);
        // Whole milliseconds, rounded up, so that a repeat says the same.
        let wait =
            Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
        Reported { outcome: report.outcome, settled, retry, retry_after: retry.then_some(wait) }
    }
}

/// Those that were told the same count as one; how long to wait differs every time.
fn remember_refusal(refusals: &mut Past<PastRefusal>, now: Time, tenant: &str, refusal: &Refusal) {
    let is_same = |known: &PastRefusal| {
        known.tenant == tenant
            && known.refusal.limit == refusal.limit
            && known.refusal.reason.name() == refusal.reason.name()
    };
    let new = || PastRefusal { tenant: tenant.to_owned(), refusal: refusal.clone() };
    refusals.note(now, is_same, |known| known.refusal.retry_after = refusal.retry_after, new);
}
