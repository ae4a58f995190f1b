//! The safe shares that the server sends ahead of time, and what is granted from them while no server can be reached. The rules are
//! the server's own: the same `permitd_budget` enforces them.
//!
//! Invariant: a share never adds to what the server may just have granted. Rate limits start empty, and permits that are still held
//! from before the outage count against the share's concurrency.

mod running;

use std::{collections::HashMap, sync::Arc, time::Duration};

use permitd_budget::{Acquired, CheckedSpec, Event, Grant, Priority, Request, Ticket, Time, Usage};
use permitd_proto::v1 as wire;
use tokio::time::Instant;

use self::running::{Running, spec_of};
use super::table::budget_name;
use crate::{
    Advice, Error, Permit, Report, Source, convert, guard::Hold, mailbox::LocalPermit, usage::heart_usage,
};

/// Shares that are kept; more than a client uses in practice.
const SHARES_MAX: usize = 10_000;

/// Longer than any outage through which a share should be trusted.
const VALID_MAX: Duration = Duration::from_secs(7 * 86_400);

/// See the module.
#[derive(Debug)]
pub(crate) struct LocalShares {
    origin: Instant,
    outage: u64,
    shares: HashMap<Arc<str>, Share>,
    /// Requests that wait in a budget of this outage.
    waiting: HashMap<u64, (Arc<str>, Ticket)>,
    /// Guards with permits of any outage, per budget.
    live: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Share {
    spec: CheckedSpec,
    valid_until: Instant,
    running: Option<Running>,
}

/// What became of requests.
#[derive(Debug)]
pub(crate) enum Answer {
    Granted { request_id: u64, permit: Box<Permit>, hold: Hold },
    Refused { request_id: u64, error: Error },
}

/// What a request asks of its share.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) request_id: u64,
    pub(crate) request: &'a wire::AcquireRequest,
    /// For requests that name none.
    pub(crate) tenant: &'a str,
    pub(crate) count: u32,
    pub(crate) wait: Option<Duration>,
    /// Guards that hold permits of this budget from the server.
    pub(crate) live: u32,
}

impl LocalShares {
    pub(crate) fn new(now: Instant) -> Self {
        Self { origin: now, outage: 0, shares: HashMap::new(), waiting: HashMap::new(), live: HashMap::new() }
    }

    /// The server's newest word. A share that makes no sense, or is none, takes away what was known.
    pub(crate) fn learn(&mut self, share: wire::LocalShare, now: Instant) {
        let name = budget_name(&share.provider, &share.key);
        let valid_until = share.valid_for.map(|span| now + convert::duration(span).min(VALID_MAX));
        match (spec_of(share.limits), valid_until) {
            (Some(spec), Some(valid_until))
                if self.shares.len() < SHARES_MAX || self.shares.contains_key(&name) =>
            {
                self.shares.insert(name, Share { spec, valid_until, running: None });
            }
            _ => {
                self.shares.remove(&name);
            }
        }
    }

    /// Asks in the server's place. Answers may be for other requests too. False: there is no valid share of this budget.
    pub(crate) fn acquire(&mut self, ask: &Ask<'_>, now: Instant, answers: &mut Vec<Answer>) -> bool {
        let name = budget_name(&ask.request.provider, &ask.request.key);
        let time = self.time(now);
        let carried = ask.live.saturating_add(self.live.get(&name).copied().unwrap_or(0));
        let Some(share) = self.shares.get_mut(&name).filter(|share| now < share.valid_until) else {
            return false;
        };
        let Share { spec, running, .. } = share;
        let running = running.get_or_insert_with(|| Running::start(spec, ask.request, carried, time));
        let mut events = Vec::new();
        let acquired = running.budget.acquire(time, heart_request(ask), &mut events);
        match acquired {
            Ok(Acquired::Granted(grant)) => self.granted(&name, ask.request_id, grant, answers),
            Ok(Acquired::Waiting(ticket)) => {
                self.waiting.insert(ask.request_id, (Arc::clone(&name), ticket));
            }
            Err(refusal) => {
                let error = Error::refused_locally(refusal);
                answers.push(Answer::Refused { request_id: ask.request_id, error });
            }
        }
        self.events(&name, events, answers);
        true
    }

    /// Somebody does not wait any more.
    pub(crate) fn cancel(&mut self, request_id: u64, now: Instant, answers: &mut Vec<Answer>) {
        let Some((name, ticket)) = self.waiting.remove(&request_id) else { return };
        self.with(&name, now, answers, |running, time, events| {
            running.budget.cancel(time, ticket, events);
        });
    }

    /// Settles a permit of this or an earlier outage.
    pub(crate) fn report(
        &mut self,
        permit: &LocalPermit,
        report: Report,
        now: Instant,
        answers: &mut Vec<Answer>,
    ) -> Advice {
        if let Some(live) = self.live.get_mut(&permit.budget) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&permit.budget);
            }
        }
        let mut advice = Advice::unsettled(&report);
        if permit.outage == self.outage {
            self.with(&permit.budget, now, answers, |running, time, events| {
                let (reported, _) = running.budget.report(time, permit.key, &report.into_heart(), events);
                advice = Advice::from_heart(reported);
            });
        } else {
            self.ended(&permit.budget, now, answers);
        }
        advice
    }

    /// A permit from before this outage was reported: its slot is free.
    pub(crate) fn ended(&mut self, budget: &Arc<str>, now: Instant, answers: &mut Vec<Answer>) {
        self.with(budget, now, answers, |running, time, events| {
            running.carried_ended(time, events);
        });
    }

    /// Grants what has become possible, and ends shares that are not valid any more.
    pub(crate) fn poll(&mut self, now: Instant, answers: &mut Vec<Answer>, problem: &str) {
        let names: Vec<Arc<str>> = self.running().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            if self.shares.get(&name).is_some_and(|share| share.valid_until <= now) {
                self.shares.remove(&name);
                let of_budget = |(_, (of, _)): &(&u64, &(Arc<str>, Ticket))| *of == name;
                let gone: Vec<u64> = self.waiting.iter().filter(of_budget).map(|(id, _)| *id).collect();
                for request_id in gone {
                    self.waiting.remove(&request_id);
                    answers
                        .push(Answer::Refused { request_id, error: Error::no_local_share(&name, problem) });
                }
            } else {
                self.with(&name, now, answers, |running, time, events| {
                    // When to poll next is asked of all budgets at once.
                    let _next = running.budget.poll(time, events);
                });
            }
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub(crate) fn next_poll(&self) -> Option<Instant> {
        self.running()
            .flat_map(|(_, share)| {
                let next = share.running.as_ref().and_then(|running| running.budget.next_poll());
                [next.map(|time| self.instant(time)), Some(share.valid_until)]
            })
            .flatten()
            .min()
    }

    /// A server is back: nothing more is granted, and who waits here waits there again.
    pub(crate) fn leave(&mut self) {
        self.outage += 1;
        self.waiting.clear();
        self.shares.values_mut().for_each(|share| share.running = None);
    }

    fn running(&self) -> impl Iterator<Item = (&Arc<str>, &Share)> {
        self.shares.iter().filter(|(_, share)| share.running.is_some())
    }

    fn with(
        &mut self,
        name: &Arc<str>,
        now: Instant,
        answers: &mut Vec<Answer>,
        act: impl FnOnce(&mut Running, Time, &mut Vec<Event<u64>>),
    ) {
        let time = self.time(now);
        let Some(running) = self.shares.get_mut(name).and_then(|share| share.running.as_mut()) else {
            return;
        };
        let mut events = Vec::new();
        act(running, time, &mut events);
        self.events(name, events, answers);
    }

    fn events(&mut self, name: &Arc<str>, events: Vec<Event<u64>>, answers: &mut Vec<Answer>) {
        for event in events {
            match event {
                Event::Granted { waiter, grant, remaining, .. } => {
                    if remaining == 0 {
                        self.waiting.remove(&waiter);
                    }
                    self.granted(name, waiter, grant, answers);
                }
                Event::Refused { waiter, refusal } => {
                    self.waiting.remove(&waiter);
                    let error = Error::refused_locally(refusal);
                    answers.push(Answer::Refused { request_id: waiter, error });
                }
                // Its guard still lives and will be reported; the budget has taken the slot back.
                Event::Expired { .. } => {}
            }
        }
    }

    fn granted(&mut self, name: &Arc<str>, request_id: u64, grant: Grant, answers: &mut Vec<Answer>) {
        let Some(running) = self.shares.get(name).and_then(|share| share.running.as_ref()) else { return };
        *self.live.entry(Arc::clone(name)).or_default() += 1;
        let permit = Permit {
            id: Arc::from(""),
            provider: running.provider.clone(),
            key: running.key.clone(),
            expires_at: None,
            waited: grant.waited,
            charged: crate::Usage::from_amounts(&grant.charged),
            source: Source::LocalShare,
        };
        let hold =
            Hold::Local(LocalPermit { outage: self.outage, budget: Arc::clone(name), key: grant.permit });
        answers.push(Answer::Granted { request_id, permit: Box::new(permit), hold });
    }

    fn time(&self, now: Instant) -> Time {
        // Away from zero, so that a budget can look back.
        const EPOCH: Time = Time::from_nanos(1_000_000_000_000_000_000);
        EPOCH + now.saturating_duration_since(self.origin)
    }

    fn instant(&self, time: Time) -> Instant {
        let span = time.since(self.time(self.origin));
        // Past what the clock can hold: never, for what a share is good for.
        self.origin.checked_add(span).unwrap_or(self.origin + Duration::from_secs(86_400 * 365))
    }
}

fn heart_request<'a>(ask: &Ask<'a>) -> Request<'a, u64> {
    let tenant =
        [ask.request.tenant.as_str(), ask.tenant, "default"].into_iter().find(|name| !name.is_empty());
    let estimate = match &ask.request.estimate {
        Some(estimate) => heart_usage(estimate),
        None if ask.request.tokens > 0 => Usage::of_tokens(ask.request.tokens),
        None => Usage::default(),
    };
    Request {
        tenant: tenant.expect("the last of them is a name"),
        model: &ask.request.model,
        priority: match ask.request.priority() {
            wire::Priority::Interactive => Priority::Interactive,
            wire::Priority::Batch => Priority::Batch,
            wire::Priority::Standard | wire::Priority::Unspecified => Priority::Standard,
        },
        estimate,
        count: ask.count,
        max_wait: ask.wait,
        gives_up: None,
        waiter: ask.request_id,
    }
}
