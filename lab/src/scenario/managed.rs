//! The clients' side of a budget: asks it, reports to it, and keeps what it says until the engine does it. This is the same code that
//! the server runs, with virtual time.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, CheckedSpec, Event, Observed, Outcome, PermitKey, Refusal, Report, Request, Tripped,
    Usage,
};

use super::{
    engine::Job,
    file::Scenario,
    record::{nanos, time},
};
use crate::provider::buckets::Nanos;

/// A refusal by the provider as it was read: what it means, what it names, and the wait told.
pub(super) type Read = (Outcome, Vec<Tripped>, Option<Nanos>);

/// Calls that may go, with their permits.
pub(super) type Granted = Vec<(u32, PermitKey)>;
/// Calls that never may, why, and when trying again may help.
pub(super) type TurnedAway = Vec<(u32, String, Option<Nanos>)>;

pub(super) struct Managed {
    budget: Budget<u32>,
    events: Vec<Event<u32>>,
    granted: Granted,
    turned_away: TurnedAway,
    /// Headers of answers that are under way, by job.
    headers: std::collections::HashMap<u32, Vec<Observed>>,
    /// When a poll is planned.
    alarm: Option<Nanos>,
}

impl Managed {
    pub(super) fn new(declared: &CheckedSpec) -> Self {
        Self {
            budget: Budget::new(declared, time(0)),
            events: Vec::new(),
            granted: Vec::new(),
            turned_away: Vec::new(),
            headers: std::collections::HashMap::new(),
            alarm: None,
        }
    }

    pub(super) fn budget(&mut self) -> &mut Budget<u32> {
        &mut self.budget
    }

    pub(super) fn acquire(&mut self, now: Nanos, number: u32, job: &Job, scenario: &Scenario) {
        let work = &scenario.work[job.work];
        let request = Request {
            tenant: &work.tenant,
            model: &work.model,
            priority: work.priority,
            estimate: job.call.estimate(),
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: number,
        };
        match self.budget.acquire(time(now), request, &mut self.events) {
            Ok(Acquired::Granted(grant)) => self.granted.push((number, grant.permit)),
            Ok(Acquired::Waiting(_)) => {}
            Err(refusal) => self.turn_away(number, &refusal),
        }
    }

    pub(super) fn remember_headers(&mut self, job: u32, observed: Vec<Observed>) {
        self.headers.insert(job, observed);
    }

    /// Reports how a call went; `refused` if the provider refused it.
    pub(super) fn report(&mut self, now: Nanos, number: u32, job: &Job, refused: Option<Read>) {
        let permit = job.permit.expect("only calls with a permit are sent");
        let observed = self.headers.remove(&number).unwrap_or_default();
        let report = match refused {
            None => Report { actual: job.call.actual(), observed, ..Report::new(Outcome::Success) },
            Some((outcome, tripped, told)) => Report {
                actual: Usage::default(),
                retry_after: told.map(Duration::from_nanos),
                tripped,
                observed,
                ..Report::new(outcome)
            },
        };
        self.budget.report(time(now), permit, &report, &mut self.events);
    }

    pub(super) fn poll(&mut self, now: Nanos) {
        self.alarm = self.alarm.filter(|alarm| *alarm > now);
        // When to poll next is asked for after everything that happens.
        let _ = self.budget.poll(time(now), &mut self.events);
    }

    /// What the budget has said since the last time.
    pub(super) fn take_events(&mut self) -> (Granted, TurnedAway) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Granted { waiter, grant, .. } => self.granted.push((waiter, grant.permit)),
                Event::Refused { waiter, refusal } => self.turn_away(waiter, &refusal),
                Event::Expired { .. } => {}
            }
        }
        (std::mem::take(&mut self.granted), std::mem::take(&mut self.turned_away))
    }

    /// When to poll, if that is not planned already.
    pub(super) fn next_poll(&mut self, now: Nanos) -> Option<Nanos> {
        let due = nanos(self.budget.next_poll()?).max(now);
        if self.alarm.is_some_and(|alarm| alarm <= due) {
            return None;
        }
        self.alarm = Some(due);
        Some(due)
    }

    fn turn_away(&mut self, number: u32, refusal: &Refusal) {
        let wait = refusal.retry_after.and_then(|wait| u64::try_from(wait.as_nanos()).ok());
        self.turned_away.push((number, refusal.to_string(), wait));
    }
}
