//! The budget of one (provider, key): its state, and the calls that do not change who waits.

use std::{collections::BTreeSet, mem, time::Duration};

use crate::{
    agenda::Agenda,
    answers::Answers,
    counting::Counting,
    fair::Fair,
    feedback::Feedback,
    limit::{Limit, LimitSet, Ticks},
    meter::{Moment, Order},
    names::Names,
    outputs::Outputs,
    past::{Past, PastAnswer, PastRefusal},
    queue::Queue,
    request::{CallFacts, Event, Grant, PermitKey, Priority},
    saved::Ledger,
    shadow::{Call, Shadow},
    slab::{Slab, serial_of},
    spec::CheckedSpec,
    tally::Tally,
    tenant::{TENANTS_MAX, Tenant},
    time::Time,
    usage::Amounts,
};

/// Models known at once; of those, one that is not in use makes room for a new one.
pub(crate) const MODELS_MAX: usize = 4096;

/// Everything known of one (provider, key): limits, queue, permits. A pure state machine: `now` comes in with every call,
/// answers and [`Event`]s go out, and [`Budget::next_poll`] says when [`Budget::poll`] has to be called if nothing else happens.
///
/// `W` is whatever the caller needs to find who asked. It is cloned once for every permit of a request.
#[derive(Debug)]
pub struct Budget<W> {
    pub(crate) spec: CheckedSpec,
    pub(crate) now: Time,
    pub(crate) limits: Vec<Limit>,
    pub(crate) tenants: Names<Tenant>,
    pub(crate) models: Names<Model>,
    pub(crate) outputs: Outputs,
    pub(crate) fair: Fair,
    /// Tenants with a guarantee and requests that wait.
    pub(crate) guaranteed: BTreeSet<u32>,
    pub(crate) queue: Queue,
    pub(crate) waiting: Slab<Waiting<W>>,
    pub(crate) deadlines: Agenda,
    pub(crate) permits: Slab<Permit<W>>,
    pub(crate) expiries: Agenda,
    pub(crate) answers: Answers,
    pub(crate) feedback: Feedback,
    pub(crate) ledger: Ledger,
    pub(crate) paused: bool,
    /// Nothing is granted from then on.
    pub(crate) end: Time,
    /// When the first of those waiting can be granted, if nothing else happens before.
    pub(crate) wake: Option<Time>,
    /// When the last pause ended; zero if there was none.
    pub(crate) resumed: Time,
    pub(crate) tally: Tally,
    pub(crate) refusals: Past<PastRefusal>,
    pub(crate) provider_refusals: Past<PastAnswer>,
    /// What would have been, while everything is granted at once.
    pub(crate) shadow: Option<Box<Shadow>>,
}

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Waiting<W> {
    pub(crate) waiter: W,
    pub(crate) charge: Amounts,
    pub(crate) asked: Time,
    /// What the charge was worth when it came, for estimates of how long those behind it wait.
    pub(crate) work: u64,
    pub(crate) lane: u32,
    pub(crate) model: u32,
    pub(crate) remaining: u32,
    pub(crate) guess: Guess,
    /// In shadow mode.
    pub(crate) call: Option<Call>,
}

/// Whether the output of a charge is a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// The caller said what it will be.
    Given,
    /// The caller left it open, and gave a bound or `u64::MAX`.
    Open { most: u64 },
}

impl Guess {
    pub(crate) fn of(estimate: &crate::usage::Usage) -> Self {
        match estimate.leaves_output_open() {
            true => Self::Open { most: estimate.max_output_tokens.unwrap_or(u64::MAX) },
            false => Self::Given,
        }
    }

    pub(crate) fn is_open(self) -> bool {
        self != Self::Given
    }
}

/// A permit that is neither reported nor expired.
#[derive(Debug)]
pub(crate) struct Permit<W> {
    pub(crate) waiter: W,
    pub(crate) charge: Amounts,
    pub(crate) granted: Time,
    pub(crate) expires: Time,
    pub(crate) ttl: Duration,
    pub(crate) waited: Duration,
    pub(crate) tenant: u32,
    pub(crate) model: u32,
    pub(crate) class: Priority,
    pub(crate) open_output: bool,
    /// What its tenant's tag was charged for it.
    pub(crate) worth: Ticks,
    /// And its guarantee, in nanoseconds; nothing without one.
    pub(crate) owed_nanos: Option<u64>,
    /// Whether it went first since its tenant was due its part, and moved no tag.
    pub(crate) is_due: bool,
}

/// A model's name, resolved to the limits that match it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) limits: LimitSet,
    pub(crate) counting: Counting,
    /// Requests and permits that name it.
    pub(crate) uses: u32,
}

impl<W: Clone> Budget<W> {
    /// A budget that starts full.
    #[must_use]
    pub fn new(spec: &CheckedSpec, now: Time) -> Self {
        Self {
            spec: spec.clone(),
            now,
            limits: Self::declared_limits(spec, now),
            tenants: Names::new(TENANTS_MAX),
            models: Names::new(MODELS_MAX),
            outputs: Outputs::default(),
            fair: Fair::default(),
            guaranteed: BTreeSet::new(),
            queue: Queue::new(),
            waiting: Slab::new(),
            deadlines: Agenda::new(),
            permits: Slab::new(),
            expiries: Agenda::new(),
            answers: Answers::default(),
            feedback: Feedback::default(),
            ledger: Ledger::default(),
            paused: false,
            end: Time::MAX,
            wake: None,
            resumed: Time::ZERO,
            tally: Tally::default(),
            refusals: Past::default(),
            provider_refusals: Past::default(),
            shadow: Shadow::of(spec, now),
        }
    }

    /// Does what time alone brings about: permits and deadlines that end, grants that have become possible. Says when to call
    /// next; `None` means that nothing will happen by itself.
    #[must_use]
    pub fn poll(&mut self, now: Time, events: &mut Vec<Event<W>>) -> Option<Time> {
        self.catch_up(now, events);
        self.next_poll()
    }

    /// When [`Budget::poll`] has to be called; ask after every other call.
    #[must_use]
    pub fn next_poll(&self) -> Option<Time> {
        let soonest = |a: Option<Time>, b: Option<Time>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let ends = soonest(self.expiries.first(), self.ledger.doubt.until);
        let looks_back = Some(self.feedback.look_back_at).filter(|at| *at < Time::MAX);
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.next_poll());
        soonest(soonest(self.wake, looks_back), soonest(soonest(self.deadlines.first(), ends), shadow))
    }

    /// Stops granting; those waiting stay, and their deadlines run.
    pub fn pause(&mut self) {
        self.paused = true;
        self.wake = None;
        if let Some(shadow) = &mut self.shadow {
            shadow.pause();
        }
    }

    /// Ends a pause, and an exhausted quota.
    pub fn resume(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        let now = self.catch_up(now, events);
        if mem::take(&mut self.paused) {
            self.resumed = now;
        }
        self.feedback.resume();
        if let Some(shadow) = &mut self.shadow {
            shadow.resume(now);
        }
        self.dispatch(now, events);
    }

    /// Whether an administrator paused it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Grants nothing from `end` on, until that is moved; those waiting stay, and their deadlines run. By default there is no end.
    pub fn grant_until(&mut self, now: Time, end: Time, events: &mut Vec<Event<W>>) {
        let now = self.catch_up(now, events);
        let had_ended = self.end <= now;
        self.end = end;
        if had_ended {
            self.dispatch(now, events);
        }
    }

    /// Requests in the queue.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.len() as u32
    }

    /// Permits neither reported nor expired.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.permits.len() as u32
    }

    /// A live permit, to be told again.
    #[must_use]
    pub fn grant(&self, permit: PermitKey) -> Option<Grant> {
        let found = self.permits.get(permit.as_u64())?;
        Some(Grant {
            permit,
            charged: found.charge.clone(),
            expires: found.expires,
            ttl: found.ttl,
            waited: found.waited,
        })
    }

    /// The model that a live permit is for.
    #[must_use]
    pub fn model_of(&self, permit: PermitKey) -> Option<&str> {
        let found = self.permits.get(permit.as_u64())?;
        Some(self.models.name(found.model))
    }

    /// What a live permit is for.
    #[must_use]
    pub fn call_of(&self, permit: PermitKey) -> Option<CallFacts> {
        let found = self.permits.get(permit.as_u64())?;
        Some(CallFacts {
            tenant: self.tenants.name(found.tenant).to_owned(),
            model: self.models.name(found.model).to_owned(),
            priority: found.class,
            granted: found.granted,
            waited: found.waited,
        })
    }

    /// Gives a live permit another life; says when it ends then. `None` if it has ended.
    pub fn extend(&mut self, now: Time, permit: PermitKey) -> Option<Time> {
        self.now = self.now.max(now);
        let found = self.permits.get_mut(permit.as_u64())?;
        let expires = Agenda::due(self.now + found.ttl);
        // One that is due has ended, even if nobody has polled yet.
        if found.expires <= self.now {
            return None;
        }
        found.expires = found.expires.max(expires);
        let slot = crate::slab::slot_of(permit.as_u64());
        self.expiries.remove(slot);
        self.expiries.add(slot, found.expires);
        self.ledger.touch(slot);
        let expires = found.expires;
        if let Some(shadow) = &mut self.shadow {
            shadow.extend(self.now, permit);
        }
        Some(expires)
    }

    /// Brings everything up to `now`, which never goes back.
    pub(crate) fn catch_up(&mut self, now: Time, events: &mut Vec<Event<W>>) -> Time {
        self.now = self.now.max(now);
        let now = self.now;
        if self.next_poll().is_some_and(|due| due <= now) {
            if let Some(shadow) = &mut self.shadow {
                shadow.catch_up(now);
            }
            if self.ledger.doubt.end(now) {
                self.unpark_due(Time::MAX);
            }
            if self.feedback.look_back_at <= now {
                self.look_back(now);
            }
            self.expire_permits(now, events);
            // Who fits at the very moment of the deadline is in time.
            self.expire_waiting(now, false, events);
            self.dispatch(now, events);
            if self.expire_waiting(now, true, events) {
                self.dispatch(now, events);
            }
        }
        now
    }

    /// Service in ticks that `charge` is worth to this tenant and model.
    pub(crate) fn worth(&self, set: LimitSet, charge: &Amounts) -> Ticks {
        crate::admission::dominant(&self.limits, set, charge)
    }

    /// Now, after every permit that was granted so far.
    pub(crate) fn moment(&self, now: Time) -> Moment {
        Moment { time: now, order: 2 * self.permits.next_serial() - 1 }
    }

    pub(crate) fn touched(&self, tenant: u32, model: u32) -> LimitSet {
        self.tenants[tenant].limits & self.models[model].limits
    }
}

/// The order of the charge of a permit among all charges: even numbers are permits, the odd ones between them are debits.
pub(crate) fn charge_order(permit: u64) -> Order {
    2 * serial_of(permit)
}
