//! Drives a heart and a model side by side, and a second heart that has to do the very same.

mod asking;
mod reporting;

pub(crate) use self::reporting::report;
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use permitd_budget::{
    Acquired, Amounts, Budget, CheckedSpec, Event, Outcome, PermitKey, Reason, Report, Reported, Request,
    Time,
};

use crate::{
    demands,
    meter::{Side, instant},
    model::{Asked, Model, ensure, grained},
    plan::{Ask, MODELS, Plan, Step, TENANTS},
};

/// Polls in one stretch of time that are followed one by one.
const POLLS_MAX: u32 = 2_000;

/// The heart under test with all that watches it.
pub(crate) struct Harness {
    pub(crate) heart: Budget<u64>,
    twin: Budget<u64>,
    pub(crate) model: Model,
    /// Everything that was done and what came of it, to read after a failure and to compare runs by.
    pub(crate) trace: String,
    pub(crate) polls: u64,
    answers: BTreeMap<u64, Reported>,
    next_id: u64,
}

impl Harness {
    pub(crate) fn new(spec: &CheckedSpec, start: Time, exact: bool) -> Self {
        Self {
            heart: Budget::new(spec, start),
            twin: Budget::new(spec, start),
            model: Model::new(spec, start, exact),
            trace: String::new(),
            polls: 0,
            answers: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Carries a whole plan out; the error tells the story.
    pub(crate) fn play(plan: &Plan, exact: bool) -> Result<Self, String> {
        let mut harness = Self::new(&plan.spec, plan.start, exact);
        for step in &plan.steps {
            harness.step(step).map_err(|error| format!("{error}\n{:?}\n{}", plan.spec, harness.trace))?;
        }
        Ok(harness)
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        let now = self.model.now;
        match step {
            Step::Acquire(ask) => self.acquire(ask),
            Step::Report { which, outcome, used } => match pick(&self.model.live, *which) {
                Some(live) => {
                    let (key, report) = (live.grant.permit, report(*outcome, *used, &live.grant.charged));
                    self.report(key, &report)
                }
                None => Ok(()),
            },
            Step::ReportAgain { which, outcome, used } => match pick(&self.model.ended, *which) {
                Some(key) => {
                    let report =
                        report(*outcome, *used, &Amounts { requests: 3, tokens: 9, ..Amounts::default() });
                    self.report(PermitKey::from_u64(*key), &report)
                }
                None => Ok(()),
            },
            Step::ReportUnknown { key } if self.model.seen.contains(key) => Ok(()),
            Step::ReportUnknown { key } => {
                self.report(PermitKey::from_u64(*key), &Report::new(Outcome::Success))
            }
            Step::Extend { which } => self.extend(*which),
            Step::Cancel { which } => self.cancel(*which),
            Step::Place { which } => self.place(*which),
            Step::Jump(span) => {
                self.model.now += *span;
                Ok(())
            }
            Step::Run(span) => self.run_until(now + *span),
            Step::Towards { nanos_short } => {
                let Some(next) = self.heart.next_poll() else { return Ok(()) };
                let at = Time::from_nanos(next.as_nanos().saturating_sub(*nanos_short)).max(now);
                if next > now + Duration::from_secs(400_000) {
                    return Ok(());
                }
                self.model.now = at;
                self.poll()
            }
            Step::Poll => self.poll(),
            Step::Configure(change) => match change.apply(&self.model.spec) {
                Some(spec) => self.configure(&spec),
                None => Ok(()),
            },
            Step::Pause => self.pause(),
            Step::Resume => self.resume(),
            Step::RefuseAll => self.refuse_all(),
        }
    }

    pub(crate) fn acquire(&mut self, ask: &Ask) -> Result<(), String> {
        let (tenant, model) = (TENANTS[ask.tenant], MODELS[ask.model]);
        self.ask(tenant, model, ask).map(drop)
    }

    /// As [`Harness::acquire`], for any names. Returns the request's number.
    pub(crate) fn ask(&mut self, tenant: &str, model: &str, ask: &Ask) -> Result<u64, String> {
        let now = self.model.now;
        let id = self.next_id;
        self.next_id += 1;
        let asked = self.asked(id, tenant, model, ask);
        let request = Request {
            tenant,
            model,
            priority: ask.priority,
            estimate: ask.usage(),
            count: ask.count,
            max_wait: ask.max_wait,
            gives_up: ask.gives_up.map(|after| now + after),
            waiter: id,
        };
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        let answer = self.heart.acquire(now, request.clone(), &mut events);
        let same = answer == self.twin.acquire(now, request, &mut twins) && events == twins;
        let line = format!("acquire {tenant}/{model} #{id} {ask:?} -> {answer:?}");
        self.tell(&line, &events);
        ensure!(same, "a second heart did otherwise: {twins:?}");
        match answer {
            Ok(Acquired::Granted(grant)) => {
                ensure!(ask.count == 1, "{id} asks for {} and is granted one at once", ask.count);
                self.model.follow(&events)?;
                ensure!(self.model.is_head_of_all(&asked), "{id} passed one of its own lane");
                self.model.take(&asked, &grant)?;
            }
            Ok(Acquired::Waiting(ticket)) => self.waits(Asked { ticket: Some(ticket), ..asked }, &events)?,
            Err(refusal) => self.refused_at_once(&asked, &refusal, &events)?,
        }
        self.settled_down()?;
        Ok(id)
    }

    fn extend(&mut self, which: usize) -> Result<(), String> {
        let Some(live) = pick(&self.model.live, which) else { return Ok(()) };
        let (key, old, now) = (live.grant.permit, live.expires, self.model.now);
        let ttl = live.grant.ttl.min(self.model.spec.ttl());
        let longest = live.grant.ttl.max(self.model.spec.ttl());
        let expiry = self.heart.extend(now, key);
        let same = expiry == self.twin.extend(now, key);
        self.tell(&format!("extend {key:?} -> {expiry:?}"), &[]);
        ensure!(same, "a second heart did otherwise");
        match expiry {
            Some(new) => {
                ensure!(grained(instant(old)) > instant(now), "{key:?} extended at {now} after {old}");
                ensure!(
                    new >= old && new >= now + ttl && instant(new) <= grained(instant(old + longest)),
                    "{key:?} extended from {old} to {new}"
                );
                let at = self.model.live.iter().position(|live| live.grant.permit == key).expect("picked");
                self.model.live[at].expires = new;
                let again = self.heart.grant(key).map(|grant| (grant.expires, grant.charged));
                let kept = Some((new, self.model.live[at].grant.charged.clone()));
                ensure!(again == kept, "{key:?} sent again is {again:?}");
            }
            None => ensure!(old <= now, "{key:?} is live until {old}, not extended at {now}"),
        }
        self.looked_at()
    }

    fn cancel(&mut self, which: usize) -> Result<(), String> {
        let Some(asked) = pick(&self.model.waiting, which) else { return Ok(()) };
        let (id, ticket, now) =
            (asked.id, asked.ticket.expect("those who wait have tickets"), self.model.now);
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        let waiter = self.heart.cancel(now, ticket, &mut events);
        let same = waiter == self.twin.cancel(now, ticket, &mut twins) && events == twins;
        self.tell(&format!("cancel #{id} -> {waiter:?}"), &events);
        ensure!(same, "a second heart did otherwise: {twins:?}");
        let done = events.iter().any(|event| match event {
            Event::Granted { waiter, remaining, .. } => *waiter == id && *remaining == 0,
            Event::Refused { waiter, .. } => *waiter == id,
            Event::Expired { .. } => false,
        });
        ensure!(waiter == (!done).then_some(id), "cancelling {id} gave {waiter:?}");
        // What was due before may have been granted to it, if it asked for several.
        let own = |event: &Event<u64>| matches!(event, Event::Granted { waiter, .. } if *waiter == id);
        let before = events.iter().rposition(own).map_or(0, |last| last + 1);
        self.model.follow(&events[..before])?;
        if !done {
            self.model.waiting.retain(|asked| asked.id != id);
        }
        self.model.follow(&events[before..])?;
        ensure!(self.heart.cancel(now, ticket, &mut events).is_none(), "{id} cancelled twice");
        ensure!(self.twin.cancel(now, ticket, &mut twins).is_none(), "{id} cancelled twice");
        ensure!(self.heart.place(now, ticket).is_none(), "{id} has a place after it left");
        self.settled_down()
    }

    fn place(&mut self, which: usize) -> Result<(), String> {
        let Some(asked) = pick(&self.model.waiting, which) else { return Ok(()) };
        let ticket = asked.ticket.expect("those who wait have tickets");
        let Some(place) = self.heart.place(self.model.now, ticket) else {
            return Err(format!("{} waits and has no place", asked.id));
        };
        let others = self.model.waiting.len() - 1;
        ensure!(place.position as usize <= others, "{} is at {place:?} of {others} others", asked.id);
        // Before the next poll it may be that nothing holds it any more.
        let held = self.model.misfit(Side::Most, asked, |_| 0).is_some()
            || (!self.model.exact && self.heart.next_poll().is_some_and(|next| next > self.model.now));
        ensure!(!place.held_by.is_empty() || !held, "{} is held by nothing", asked.id);
        ensure!(!self.model.paused || place.held_by == "paused", "paused, but {place:?}");
        Ok(())
    }

    pub(crate) fn run_until(&mut self, end: Time) -> Result<(), String> {
        let start = self.model.now;
        for _ in 0..POLLS_MAX {
            match self.heart.next_poll() {
                Some(next) if next <= end => {
                    self.model.now = self.model.now.max(next);
                    self.poll()?;
                }
                _ => {
                    self.model.now = end;
                    return Ok(());
                }
            }
        }
        // Where a short window opens again and again a poll each millisecond is honest; more is spinning.
        let passed = self.model.now.since(start);
        ensure!(passed >= Duration::from_micros(500) * POLLS_MAX, "polled {POLLS_MAX} times in {passed:?}");
        self.model.now = end;
        self.poll()
    }

    pub(crate) fn poll(&mut self) -> Result<(), String> {
        let now = self.model.now;
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        let next = self.heart.poll(now, &mut events);
        let same = next == self.twin.poll(now, &mut twins) && events == twins;
        self.tell(&format!("poll -> {next:?}"), &events);
        self.polls += 1;
        ensure!(same, "a second heart did otherwise: {twins:?}");
        ensure!(next == self.heart.next_poll(), "poll says {next:?}, next_poll {:?}", self.heart.next_poll());
        ensure!(next.is_none_or(|next| next > now), "polled at {now}, wants to be polled at {next:?}");
        self.model.follow(&events)?;
        self.settled_down()
    }

    pub(crate) fn configure(&mut self, spec: &CheckedSpec) -> Result<(), String> {
        let now = self.model.now;
        // What is due is done under the old declaration; the model cannot tell from the events where that ended.
        if self.heart.next_poll().is_some_and(|next| next <= now) {
            self.poll()?;
        }
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        self.heart.configure(now, spec, &mut events);
        self.twin.configure(now, spec, &mut twins);
        self.tell(&format!("configure {spec:?}"), &events);
        ensure!(events == twins, "a second heart did otherwise: {twins:?}");
        let granted = events.iter().any(|event| matches!(event, Event::Granted { .. }));
        let unknown = self.model.configure(spec);
        for at in &unknown {
            // What the level becomes when a limit begins to count in another way is open; nothing may be granted unseen, though, so
            // such a change is only looked at when it granted nothing.
            let told = self.heart.snapshot(now).limits[*at].level;
            let charged: i64 = if granted { i64::MAX / 4 } else { 0 };
            for (_, meter) in &mut self.model.limits[*at].meters {
                meter.known(told.saturating_add(charged), now);
            }
        }
        self.model.follow(&events)?;
        if granted {
            for at in unknown {
                let told = self.heart.snapshot(now).limits[at].level;
                for (_, meter) in &mut self.model.limits[at].meters {
                    meter.known(told, now);
                }
            }
        }
        self.settled_down()
    }

    fn pause(&mut self) -> Result<(), String> {
        self.heart.pause();
        self.twin.pause();
        self.tell("pause", &[]);
        self.model.paused = true;
        ensure!(self.heart.is_paused(), "paused is not paused");
        self.looked_at()
    }

    fn resume(&mut self) -> Result<(), String> {
        let now = self.model.now;
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        self.heart.resume(now, &mut events);
        self.twin.resume(now, &mut twins);
        self.tell("resume", &events);
        self.model.paused = false;
        ensure!(events == twins && !self.heart.is_paused(), "a second heart did otherwise: {twins:?}");
        self.model.follow(&events)?;
        self.settled_down()
    }

    fn refuse_all(&mut self) -> Result<(), String> {
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        self.heart.refuse_waiting(Reason::Draining, Some(Duration::from_secs(1)), &mut events);
        self.twin.refuse_waiting(Reason::Draining, Some(Duration::from_secs(1)), &mut twins);
        self.tell("refuse all", &events);
        ensure!(events == twins, "a second heart did otherwise: {twins:?}");
        let mut told: Vec<u64> = Vec::new();
        for event in &events {
            let Event::Refused { waiter, refusal } = event else { return Err(format!("{event:?}")) };
            ensure!(refusal.reason == Reason::Draining && refusal.retry_after.is_some(), "{refusal:?}");
            told.push(*waiter);
        }
        told.sort_unstable();
        let expected: Vec<u64> = self.model.waiting.iter().map(|asked| asked.id).collect();
        ensure!(told == expected, "refused {told:?}, waiting {expected:?}");
        self.model.refused_total += told.len() as u64;
        self.model.waiting.clear();
        self.looked_at()
    }

    fn tell(&mut self, what: &str, events: &[Event<u64>]) {
        let _ = writeln!(self.trace, "{} {what}", self.model.now);
        for event in events {
            let _ = writeln!(self.trace, "    {event:?}");
        }
    }

    /// After a call that dispatched.
    fn settled_down(&mut self) -> Result<(), String> {
        demands::kept(&self.model, self.heart.next_poll())?;
        if self.model.exact {
            demands::work_conserving(&self.model)?;
        }
        self.looked_at()
    }

    fn looked_at(&mut self) -> Result<(), String> {
        if self.model.exact {
            demands::polled_in_time(&self.model, self.heart.next_poll())?;
        }
        if demands::kept(&self.model, None).is_err() {
            return Ok(());
        }
        let snapshot = self.heart.snapshot(self.model.now);
        let counts = (self.heart.waiting(), self.heart.in_flight());
        ensure!(counts == (snapshot.waiting, snapshot.in_flight), "{counts:?} and {snapshot:?}");
        demands::agrees(&self.model, &snapshot, self.model.exact)
    }
}

fn pick<T>(of: &[T], which: usize) -> Option<&T> {
    which.checked_rem(of.len()).map(|at| &of[at])
}
