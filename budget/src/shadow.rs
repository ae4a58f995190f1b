//! A budget that is tried out: whoever asks is granted at once, and beside it the same heart runs in earnest, with a queue that is real
//! and answers that nobody waits for. What that one does is what the limits would have done.
//!
//! A call takes as long as it took: its permit in earnest is settled so long after it was granted as the real call was under way. What
//! the provider refuses teaches it nothing, since most of that would not have happened: it answers what the declared limits do.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    budget::Budget,
    outcome::{Outcome, Report},
    request::{Acquired, Event, PermitKey, Priority, Request, Ticket},
    spec::CheckedSpec,
    standing::Standing,
    tally::Waits,
    time::Time,
};

/// What a budget in shadow mode would have done since it was put in it; times are those of the calls as they would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSnapshot {
    /// When the mode was turned on, or the process began.
    pub since: Time,
    /// Requests that would wait now.
    pub waiting: u32,
    /// Calls that would be under way.
    pub in_flight: u32,
    /// Permits that would have been granted.
    pub granted_total: u64,
    /// Of those, permits that would have been waited for.
    pub waited_total: u64,
    /// The longest of those waits.
    pub longest_wait: Duration,
    /// Requests that would have been refused.
    pub refused_total: u64,
    /// The same by the wire's name of the reason, sorted; only those that would have happened.
    pub refused: Vec<(&'static str, u64)>,
    /// How long those would have waited who would have been granted something, by class in the order of [`Priority::ALL`].
    pub waits: [Waits; Priority::ALL.len()],
}

/// Names a request in both hearts.
pub(crate) type Call = NonZeroU64;

/// The heart in earnest, and how its permits and the real ones belong together.
#[derive(Debug)]
pub(crate) struct Shadow {
    heart: Budget<Call>,
    since: Time,
    last_call: u64,
    calls: HashMap<Call, Calls, foldhash::fast::FixedState>,
    /// The call of each real permit that is out.
    permits: HashMap<PermitKey, (Call, Time), foldhash::fast::FixedState>,
    /// When calls would have ended, and how.
    ends: BTreeMap<(Time, PermitKey), Report>,
    waited_total: u64,
    longest_wait: Duration,
    /// Empty between calls; keeps its room.
    events: Vec<Event<Call>>,
}

/// The calls of one request. They are alike, so that any of its permits in earnest will do for any of them.
#[derive(Debug)]
struct Calls {
    asked: Time,
    /// While some of its permits in earnest are waited for.
    ticket: Option<Ticket>,
    /// Real permits that have yet to be granted.
    due: u32,
    /// Real permits that are out.
    out: u32,
    /// Granted in earnest, and when; nothing has been heard of the call.
    granted: SmallVec<[(PermitKey, Time); 1]>,
    /// Told of real calls that would not have begun yet, with how long they took.
    told: Vec<(Report, Duration)>,
}

impl Shadow {
    /// Of a declaration that asks for it.
    pub(crate) fn of(spec: &CheckedSpec, now: Time) -> Option<Box<Self>> {
        spec.shadow.then(|| {
            Box::new(Self {
                heart: Budget::new(&spec.in_earnest(), now),
                since: now,
                last_call: 0,
                calls: HashMap::default(),
                permits: HashMap::default(),
                ends: BTreeMap::new(),
                waited_total: 0,
                longest_wait: Duration::ZERO,
                events: Vec::new(),
            })
        })
    }

    /// Somebody asks; what came of it in earnest is kept until the real permits are granted.
    pub(crate) fn ask<W>(&mut self, now: Time, request: &Request<'_, W>) -> Call {
        self.last_call += 1;
        let call = Call::new(self.last_call).expect("counted from 1");
        let (due, granted, told) = (request.count.max(1), SmallVec::new(), Vec::new());
        self.calls.insert(call, Calls { asked: now, ticket: None, due, out: 0, granted, told });
        let request = Request {
            tenant: request.tenant,
            model: request.model,
            priority: request.priority,
            estimate: request.estimate.clone(),
            count: request.count,
            max_wait: request.max_wait,
            gives_up: request.gives_up,
            waiter: call,
        };
        match self.heart.acquire(now, request, &mut self.events) {
            Ok(Acquired::Granted(grant)) => self.grant(call, grant.permit, grant.waited),
            Ok(Acquired::Waiting(ticket)) => {
                self.calls.get_mut(&call).expect("just inserted").ticket = Some(ticket);
            }
            Err(_) => {}
        }
        self.take_in();
        call
    }

    /// A real permit of the call is out.
    pub(crate) fn out(&mut self, now: Time, call: Call, permit: PermitKey) {
        if let Some(calls) = self.calls.get_mut(&call) {
            (calls.due, calls.out) = (calls.due.saturating_sub(1), calls.out + 1);
            self.permits.insert(permit, (call, now));
        }
    }

    /// Whoever asked gets no more real permits: nor would they have wanted them.
    pub(crate) fn withdraw(&mut self, now: Time, call: Call) {
        let Some(calls) = self.calls.get_mut(&call) else { return };
        calls.due = 0;
        if let Some(ticket) = calls.ticket.take() {
            self.heart.cancel(now, ticket, &mut self.events);
            self.take_in();
        }
        self.forget_done(call);
    }

    /// The real call has ended as `report` says.
    pub(crate) fn ended(&mut self, now: Time, permit: PermitKey, report: &Report) {
        let Some((call, began)) = self.permits.remove(&permit) else { return };
        let Some(calls) = self.calls.get_mut(&call) else { return };
        calls.out -= 1;
        let took = now.since(began);
        let outcome = match report.outcome {
            Outcome::Cancelled => Outcome::Cancelled,
            _ => Outcome::Success,
        };
        let report = Report { actual: report.actual.clone(), ..Report::new(outcome) };
        if !calls.granted.is_empty() {
            let (permit, granted) = calls.granted.remove(0);
            self.ends.insert((granted + took, permit), report);
        } else if calls.ticket.is_some() {
            calls.told.push((report, took));
        }
        self.forget_done(call);
        self.catch_up(now);
    }

    /// The real permit has ended unreported; the one in earnest will by itself.
    pub(crate) fn lapsed(&mut self, permit: PermitKey) {
        if let Some((call, _)) = self.permits.remove(&permit) {
            if let Some(calls) = self.calls.get_mut(&call) {
                calls.out -= 1;
            }
            self.forget_done(call);
        }
    }

    /// The real permit lives longer.
    pub(crate) fn extend(&mut self, now: Time, permit: PermitKey) {
        let calls = self.permits.get(&permit).and_then(|(call, _)| self.calls.get(call));
        for (permit, _) in calls.into_iter().flat_map(|calls| &calls.granted) {
            self.heart.extend(now, *permit);
        }
    }

    /// The budget is paused, and would be.
    pub(crate) fn pause(&mut self) {
        self.heart.pause();
    }

    /// Ends a pause.
    pub(crate) fn resume(&mut self, now: Time) {
        self.heart.resume(now, &mut self.events);
        self.take_in();
    }

    /// Replaces the declaration.
    pub(crate) fn configure(&mut self, now: Time, spec: &CheckedSpec) {
        self.heart.configure(now, &spec.in_earnest(), &mut self.events);
        self.take_in();
    }

    /// Does what would have happened by itself, each thing at its time: nobody waits for it, so it is not late.
    pub(crate) fn catch_up(&mut self, now: Time) {
        while let Some(due) = self.next_poll().filter(|due| *due <= now) {
            match self.ends.first_key_value() {
                Some(((at, _), _)) if *at <= due => {
                    let ((at, permit), report) = self.ends.pop_first().expect("just seen");
                    self.heart.report(at, permit, &report, &mut self.events);
                }
                _ => drop(self.heart.poll(due, &mut self.events)),
            }
            self.take_in();
        }
    }

    /// When [`Shadow::catch_up`] has something to do.
    pub(crate) fn next_poll(&self) -> Option<Time> {
        let end = self.ends.first_key_value().map(|((at, _), _)| *at);
        [end, self.heart.next_poll()].into_iter().flatten().min()
    }

    /// A look at what would have been.
    pub(crate) fn snapshot(&mut self, now: Time) -> ShadowSnapshot {
        let heart = self.heart.outline(now);
        ShadowSnapshot {
            since: self.since,
            waiting: heart.waiting,
            in_flight: heart.in_flight,
            granted_total: heart.granted_total,
            waited_total: self.waited_total,
            longest_wait: self.longest_wait,
            refused_total: heart.refused_total,
            refused: heart.refused,
            waits: heart.waits,
        }
    }

    /// Who would wait, and for what.
    pub(crate) fn standing(&mut self, now: Time) -> Standing {
        self.heart.standing(now)
    }

    fn take_in(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Granted { waiter: call, grant, remaining, .. } => {
                    if remaining == 0
                        && let Some(calls) = self.calls.get_mut(&call)
                    {
                        calls.ticket = None;
                    }
                    self.grant(call, grant.permit, grant.waited);
                    self.forget_done(call);
                }
                Event::Refused { waiter: call, .. } => {
                    if let Some(calls) = self.calls.get_mut(&call) {
                        calls.ticket = None;
                    }
                    self.forget_done(call);
                }
                Event::Expired { waiter: call, permit } => {
                    if let Some(calls) = self.calls.get_mut(&call) {
                        calls.granted.retain(|(granted, _)| *granted != permit);
                    }
                }
            }
        }
        self.events = events;
    }

    fn grant(&mut self, call: Call, permit: PermitKey, waited: Duration) {
        self.waited_total += u64::from(!waited.is_zero());
        self.longest_wait = self.longest_wait.max(waited);
        let Some(calls) = self.calls.get_mut(&call) else { return };
        let granted = calls.asked + waited;
        match calls.told.pop() {
            Some((report, took)) => drop(self.ends.insert((granted + took, permit), report)),
            None => calls.granted.push((permit, granted)),
        }
    }

    /// Nothing more comes of a call once all that is real about it has ended and nothing is waited for.
    fn forget_done(&mut self, call: Call) {
        let is_done = |calls: &Calls| calls.due == 0 && calls.out == 0 && calls.ticket.is_none();
        if self.calls.get(&call).is_some_and(is_done) {
            self.calls.remove(&call);
        }
    }
}
