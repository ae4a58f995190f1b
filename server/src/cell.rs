//! One budget in the server: the heart behind one lock, which is held for nanoseconds, never across an await and never while
//! answers are delivered. Every way in does the same five things: lock, call the heart, set the alarm for what happens by
//! itself, unlock, deliver the events.

mod declared;
mod delivery;
mod exemplars;
mod heart;
mod kept;
#[cfg(test)]
mod sample;
mod state;
mod traced;

pub use declared::{Declared, Source};
pub(crate) use exemplars::{Exemplar, Exemplars};
pub(crate) use heart::Heart;
pub(crate) use kept::CellSave;
pub(crate) use state::{IN_FLIGHT_MAX, NotTaken};
use state::{Life, State};

use std::{
    fmt, mem,
    sync::{Arc, Weak, atomic::AtomicU32},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use permitd_budget::{
    Acquired, Event, Grant, Halt, PermitKey, Place, Reason, Report, Reported, Request, Snapshot, Standing,
    Ticket, Time,
};

use crate::{
    alarm::{Alarms, Bell, Ring},
    clock::Clock,
    config::BudgetName,
    inbox::Waiter,
    metrics::Contention,
    profile::{Profile, Profiles},
    record::{Recorder, asked_at},
    schedule::{self, InForce},
    store::Keeper,
};

/// One budget.
pub struct Cell {
    id: u32,
    name: BudgetName,
    footing: Arc<Footing>,
    bell: Bell,
    profile: Arc<Profile>,
    this: Weak<Cell>,
    /// Sessions that hold or will soon hold a local share.
    sharers: AtomicU32,
    state: Mutex<State>,
}

/// What all budgets of a server stand on.
#[derive(Debug)]
pub(crate) struct Footing {
    pub(crate) clock: Clock,
    pub(crate) alarms: Arc<Alarms>,
    /// Who writes them down, if anybody does.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// How long threads wait for each other at them.
    pub(crate) contention: Arc<Contention>,
    /// What is known of providers.
    pub(crate) profiles: Arc<Profiles>,
    /// Who writes a trace of what is asked of them, if anybody does.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// What the other servers call this one; empty where there are none.
    pub(crate) server: Arc<str>,
}

impl Footing {
    /// Nobody writes anything down, and providers are known by the built-in profiles.
    #[cfg(test)]
    pub(crate) fn in_memory(clock: Clock, alarms: Arc<Alarms>) -> Self {
        let (contention, profiles) = (Arc::default(), Profiles::built_in());
        Self { clock, alarms, keeper: None, contention, profiles, server: Arc::default(), recorder: None }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cell {
    pub(crate) fn new(id: u32, name: BudgetName, declared: Declared, footing: &Arc<Footing>) -> Arc<Self> {
        let in_force = InForce::at(&declared.spec, schedule::wall());
        let profile = Arc::clone(footing.profiles.of(name.provider()));
        let heart = Heart::new(in_force.spec.clone(), profile, footing.clock.now(), footing.keeper.is_some());
        Self::with_heart((id, name), declared, (in_force, heart), true, footing)
    }

    /// One that goes on where an earlier process left it, with what of the declaration its heart has. `declared_anew`: the declaration has
    /// to be written down.
    pub(crate) fn with_heart(
        (id, name): (u32, BudgetName),
        declared: Declared,
        (in_force, heart): (InForce, Heart),
        declared_anew: bool,
        footing: &Arc<Footing>,
    ) -> Arc<Self> {
        if let Some(recorder) = &footing.recorder {
            recorder.declared(footing.clock.now(), &name, &declared.spec);
        }
        let state = State {
            heart,
            life: Life::Serving,
            declared,
            in_force,
            declared_anew,
            leaves_a_mark: false,
            noted: None,
            alarm: None,
            exemplars: None,
            finished: Vec::new(),
            events: Vec::new(),
        };
        let cell = Arc::new_cyclic(|this| Self {
            id,
            profile: Arc::clone(footing.profiles.of(name.provider())),
            name,
            bell: footing.alarms.bell(),
            footing: Arc::clone(footing),
            this: this.clone(),
            sharers: AtomicU32::new(0),
            state: Mutex::new(state),
        });
        // It is written down from the start, and what ends by itself has its alarm.
        cell.with(|_, _, _| ());
        cell
    }

    /// Names the budget within this server and those after it; never used again.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The budget's name.
    #[must_use]
    pub fn name(&self) -> &BudgetName {
        &self.name
    }

    /// What the other servers call the one that it is at; empty where there are none.
    pub(crate) fn server(&self) -> &str {
        &self.footing.server
    }

    /// What is known of the provider.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// What was declared.
    #[must_use]
    pub fn declared(&self) -> Declared {
        self.footing.contention.lock(&self.state).declared.clone()
    }

    /// What of the declaration is in force: its limits may be others at certain hours.
    #[must_use]
    pub(crate) fn in_force(&self) -> InForce {
        self.footing.contention.lock(&self.state).in_force.clone()
    }

    /// A look at everything.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        state.heart.look(|heart| heart.snapshot(now))
    }

    /// A look at what does not grow with its limits and tenants; `None` if it has been asked nothing yet.
    pub(crate) fn outline(&self) -> Option<Snapshot> {
        let mut state = self.footing.contention.lock(&self.state);
        Some(state.heart.if_awake()?.outline(self.footing.clock.now()))
    }

    /// A look at everything, with traces for its waits, which are kept from the first such look on, and when that was.
    pub(crate) fn figures(&self) -> (Snapshot, Exemplars, Time) {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        let snapshot = state.heart.look(|heart| heart.snapshot(now));
        (snapshot, state.exemplars.get_or_insert_default().clone(), now)
    }

    /// A look at everything, and at what holds back the whole.
    pub(crate) fn halts(&self) -> (Snapshot, Vec<Halt>) {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        state.heart.look(|heart| (heart.snapshot(now), heart.halts(now)))
    }

    /// A look at everything, and at who waits and why, of the same moment.
    #[must_use]
    pub(crate) fn explain(&self) -> (Snapshot, Standing, Time) {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        let (snapshot, standing) = state.heart.look(|heart| (heart.snapshot(now), heart.standing(now)));
        (snapshot, standing, now)
    }

    /// Grants nothing until [`Cell::resume`]; those waiting stay.
    pub fn pause(&self) {
        self.with(|state, _, _| {
            state.declared_anew = true;
            state.heart.awake().pause();
        });
    }

    /// Ends a pause, and an exhausted quota.
    pub fn resume(&self) {
        self.with(|state, now, events| {
            state.declared_anew = true;
            state.heart.awake().resume(now, events);
        });
    }

    /// Replaces what is declared. Whoever calls holds the registry's lock for changes.
    pub(crate) fn declare(&self, declared: Declared) {
        let in_force = InForce::at(&declared.spec, schedule::wall());
        let filled = self.profile.fill(&in_force.spec);
        self.with(|state, now, events| {
            if let Some(recorder) = &self.footing.recorder {
                recorder.declared(now, &self.name, &declared.spec);
            }
            state.heart.awake().configure(now, &filled, events);
            (state.declared, state.in_force, state.declared_anew) = (declared, in_force, true);
        });
    }

    /// Puts in force what of the declaration is at `wall`; says what was before and what is now, if that changes any limit.
    pub(crate) fn switch(&self, wall: Timestamp) -> Option<(InForce, InForce)> {
        let declared = self.declared().spec;
        let after = InForce::at(&declared, wall);
        let filled = self.profile.fill(&after.spec);
        self.with(|state, now, events| {
            // Whoever declared it anew meanwhile has looked at the clock.
            if !state.declared.spec.is(&declared) {
                return None;
            }
            let before = mem::replace(&mut state.in_force, after.clone());
            if before.spec.limits == after.spec.limits {
                return None;
            }
            state.heart.awake().configure(now, &filled, events);
            Some((before, after))
        })
    }

    /// Ends the budget for everybody who waits; reports are still taken. With `leaves_a_mark`, what is written of it says so after it
    /// is gone.
    pub(crate) fn delete(&self, leaves_a_mark: bool) {
        // At once: what is saved in between would say that it lives, and nothing would be left to be said after that.
        self.end(Life::Deleted, Reason::Deleted, |state| {
            (state.declared_anew, state.leaves_a_mark) = (true, leaves_a_mark);
        });
    }

    /// Nothing is written any more of that it was deleted.
    pub(crate) fn leave_no_mark(&self) {
        self.footing.contention.lock(&self.state).leaves_a_mark = false;
    }

    /// Ends the waiting of everybody; reports are still taken.
    pub(crate) fn drain(&self) {
        self.end(Life::Draining, Reason::Draining, |_| {});
    }

    /// The budget is another server's from now on, or nobody's. `in_order`: everything of it is still to be written down.
    pub(crate) fn leave(&self, in_order: bool) {
        self.end(Life::Away { in_order }, Reason::Moved, |_| {});
    }

    /// Grants nothing from `end` on, until that is moved.
    pub(crate) fn grant_until(&self, end: Time) {
        let mut state = self.footing.contention.lock(&self.state);
        let mut events = mem::take(&mut state.events);
        match state.heart.if_awake() {
            Some(heart) => heart.grant_until(self.footing.clock.now(), end, &mut events),
            None => state.heart.end_asleep(end),
        }
        self.set_alarm(&mut state);
        if events.is_empty() {
            state.events = events;
            return;
        }
        self.note(&mut state);
        drop(state);
        self.deliver(events);
    }

    /// What is deleted or another server's stays so; only how it went can be told again.
    fn end(&self, life: Life, reason: Reason, mark: impl FnOnce(&mut State)) {
        self.with(|state, _, events| {
            let is_over = state.life == Life::Deleted || state.is_away();
            if is_over && !(state.is_away() && matches!(life, Life::Away { .. })) {
                return;
            }
            mark(state);
            state.life = life;
            if let Some(heart) = state.heart.if_awake() {
                heart.refuse_waiting(reason, None, events);
            }
        });
    }

    /// Unreported permits.
    pub(crate) fn in_flight(&self) -> u32 {
        self.footing.contention.lock(&self.state).heart.in_flight()
    }

    /// Joins the queue.
    pub(crate) fn acquire(&self, request: Request<'_, Waiter>) -> Result<Acquired, NotTaken> {
        self.with(|state, now, events| {
            self.record(now, &request);
            state.acquire(now, request, events)
        })
    }

    /// As [`Cell::acquire`], but a refusal is not counted, and nothing is recorded: for a request that asks several budgets.
    pub(crate) fn join(&self, request: Request<'_, Waiter>) -> Result<Acquired, NotTaken> {
        self.with(|state, now, events| state.join(now, request, events))
    }

    /// Records a request that asked several budgets, and has its answer of this one: its permit, or a refusal.
    pub(crate) fn record_joined(
        &self,
        asked: Time,
        permit: Option<PermitKey>,
        request: &Request<'_, Waiter>,
    ) {
        if self.footing.recorder.is_none() {
            return;
        }
        // When it came here is what its report will say, too.
        let call = permit
            .and_then(|permit| self.footing.contention.lock(&self.state).heart.if_awake()?.call_of(permit));
        self.record(call.map_or(asked, |call| asked_at(&call)), request);
    }

    /// Settles a permit. The waiter is who asked for it, if this report is what ended it. `None`: the budget is another server's.
    pub(crate) fn report(&self, permit: PermitKey, report: &Report) -> Option<(Reported, Option<Waiter>)> {
        self.with(|state, now, events| {
            (!state.is_away()).then(|| self.report_one(state, now, (permit, report), events))
        })
    }

    /// Settles several permits, and joins the queue with several requests, under one lock, which for a busy budget is most of the cost of
    /// either. Each is answered at the end of what comes with it. False: the budget is another server's, and nothing was settled.
    pub(crate) fn exchange<'a, 'b>(
        &self,
        (reports, reported): (
            impl Iterator<Item = (PermitKey, &'a Report)>,
            &mut Vec<(Reported, Option<Waiter>)>,
        ),
        (requests, acquired): (
            impl Iterator<Item = Request<'b, Waiter>>,
            &mut Vec<Result<Acquired, NotTaken>>,
        ),
    ) -> bool {
        self.with(|state, now, events| {
            let is_here = !state.is_away();
            if is_here {
                reported.extend(reports.map(|report| self.report_one(state, now, report, events)));
            }
            acquired.extend(requests.map(|request| {
                self.record(now, &request);
                state.acquire(now, request, events)
            }));
            is_here
        })
    }

    fn report_one(
        &self,
        state: &mut State,
        now: Time,
        (permit, report): (PermitKey, &Report),
        events: &mut Vec<Event<Waiter>>,
    ) -> (Reported, Option<Waiter>) {
        if let Some(recorder) = &self.footing.recorder
            && let Some(call) = state.heart.if_awake().and_then(|heart| heart.call_of(permit))
        {
            recorder.called(now, &self.name, &call, report);
        }
        state.report(&self.profile, now, permit, report, events)
    }

    fn record(&self, now: Time, request: &Request<'_, Waiter>) {
        if let Some(recorder) = &self.footing.recorder {
            recorder.asked(now, &self.name, request);
        }
    }

    /// Returns permits whose grant reached nobody.
    pub(crate) fn give_back(&self, permits: &[PermitKey]) {
        self.with(|state, now, events| state.give_back(now, permits, events));
    }

    /// Gives the permit another ttl, until then; `None` if it ended, or if the budget is another server's.
    pub(crate) fn extend(&self, permit: PermitKey) -> Option<Time> {
        self.with(
            |state, now, _| if state.is_away() { None } else { state.heart.awake().extend(now, permit) },
        )
    }

    /// Whether the budget is another server's.
    pub(crate) fn is_away(&self) -> bool {
        self.footing.contention.lock(&self.state).is_away()
    }

    /// A live permit, to send again.
    pub(crate) fn grant(&self, permit: PermitKey) -> Option<Grant> {
        self.footing.contention.lock(&self.state).heart.if_awake()?.grant(permit)
    }

    /// Leaves the queue; false if it did already.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.with(|state, now, events| state.heart.awake().cancel(now, ticket, events).is_some())
    }

    /// Leaves the queue with many at once.
    pub(crate) fn cancel_all(&self, tickets: &[Ticket]) {
        self.with(|state, now, events| {
            for &ticket in tickets {
                state.heart.awake().cancel(now, ticket, events);
            }
        });
    }

    /// A look at a waiting request.
    pub(crate) fn place(&self, ticket: Ticket) -> Option<Place> {
        let mut state = self.footing.contention.lock(&self.state);
        state.heart.if_awake()?.place(self.footing.clock.now(), ticket)
    }

    /// How many sessions share the budget.
    pub(crate) fn sharers(&self) -> &AtomicU32 {
        &self.sharers
    }

    /// The one way to the heart.
    fn with<R>(&self, call: impl FnOnce(&mut State, Time, &mut Vec<Event<Waiter>>) -> R) -> R {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        let mut events = mem::take(&mut state.events);
        // Whatever is asked of a budget that was given away changes nothing that is to be written.
        let was_away = state.is_away();
        let answer = call(&mut state, now, &mut events);
        self.set_alarm(&mut state);
        if !was_away {
            self.note(&mut state);
        }
        state.note_events(now, &events);
        let finished = mem::take(&mut state.finished);
        if events.is_empty() {
            state.events = events;
            drop(state);
        } else {
            drop(state);
            self.deliver(events);
        }
        Self::tell_finished(finished);
        answer
    }

    /// Makes sure that the heart is polled when something happens by itself. Under the lock, so that two threads can't set
    /// the alarm in the wrong order.
    fn set_alarm(&self, state: &mut State) {
        let Some(next) = state.heart.if_awake().and_then(|heart| heart.next_poll()) else { return };
        if state.alarm.is_none_or(|set| next < set) {
            let before = state.alarm.replace(next);
            self.footing.alarms.set(self.bell, before, next, self.this.clone() as Weak<dyn Ring>);
        }
    }
}

impl Ring for Cell {
    fn ring(self: Arc<Self>, at: Time) {
        self.with(|state, now, events| {
            // Not if it was set anew on the way here.
            state.alarm = state.alarm.filter(|&set| set != at);
            let _ = state.heart.awake().poll(now, events);
        });
    }
}
