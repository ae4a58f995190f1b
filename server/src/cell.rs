//! One budget in the server: the heart behind one lock, which is held for nanoseconds, never across an await and never while
//! answers are delivered. Every way in does the same five things: lock, call the heart, set the alarm for what happens by
//! itself, unlock, deliver the events.

mod exemplars;
mod kept;
mod traced;

pub(crate) use exemplars::{Exemplar, Exemplars};
pub(crate) use kept::CellSave;
use traced::Finished;

use std::{
    fmt, mem,
    sync::{Arc, Weak, atomic::AtomicU32},
};

use parking_lot::Mutex;
use permitd_budget::{
    Acquired, Budget, CheckedSpec, Event, Grant, Outcome, PermitKey, Place, Pressure, Reason, Refusal,
    Report, Reported, Request, Snapshot, Standing, Ticket, Time,
};

use crate::{
    alarm::{Alarms, Bell, Ring},
    clock::Clock,
    config::BudgetName,
    inbox::{Delivery, Inbox, News, Waiter},
    metrics::Contention,
    profile::{Profile, Profiles},
    store::Keeper,
};

/// Unreported permits of one budget. Past it, acquires are refused until some are reported or expire.
pub(crate) const IN_FLIGHT_MAX: u32 = 4_000_000;

/// One budget.
pub struct Cell {
    id: u32,
    name: BudgetName,
    clock: Clock,
    alarms: Arc<Alarms>,
    bell: Bell,
    profile: Arc<Profile>,
    /// Who writes it down, if anybody does.
    keeper: Option<Arc<Keeper>>,
    contention: Arc<Contention>,
    this: Weak<Cell>,
    /// Sessions that hold or will soon hold a local share.
    sharers: AtomicU32,
    state: Mutex<State>,
}

/// What an administrator or the configuration says about a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What was declared.
    pub spec: Arc<CheckedSpec>,
    /// Changes with every change.
    pub etag: String,
    /// Who declared it.
    pub source: Source,
}

/// Who declared a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An administrator.
    Admin,
    /// The configuration, by name or as its provider's default.
    Config,
}

impl Source {
    /// The wire's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Admin => "admin",
            Source::Config => "config",
        }
    }
}

/// Why a cell took no request.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The budget was deleted, or went to another server; one of the same name may have come since.
    Gone,
    /// [`IN_FLIGHT_MAX`] permits are unreported.
    TooManyPermits,
    /// By the heart.
    Refused(Refusal),
}

struct State {
    heart: Budget<Waiter>,
    life: Life,
    declared: Declared,
    /// Whether the declaration has to be written down.
    declared_anew: bool,
    /// Whether, once deleted, that has to be remembered: the configuration declares it.
    leaves_a_mark: bool,
    /// In which hurry the keeper was told that it changed since it was last saved, if it was.
    noted: Option<Pressure>,
    /// When the alarm is set, if it is.
    alarm: Option<Time>,
    /// Traces for the waits that were counted, once there are any.
    exemplars: Option<Exemplars>,
    /// Sampled requests that have ended. Empty between calls.
    finished: Vec<Finished>,
    /// Empty between calls; keeps its room.
    events: Vec<Event<Waiter>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    /// Takes reports, grants nothing more.
    Draining,
    /// Takes reports, grants nothing more, and its name is free again.
    Deleted,
    /// Another server's, or about to be: takes nothing. In good order, it is written down once more.
    Away {
        in_order: bool,
    },
}

/// What all budgets of a server stand on.
#[derive(Clone, Debug)]
pub(crate) struct Footing {
    pub(crate) clock: Clock,
    pub(crate) alarms: Arc<Alarms>,
    /// Who writes them down, if anybody does.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// How long threads wait for each other at them.
    pub(crate) contention: Arc<Contention>,
    /// What is known of providers.
    pub(crate) profiles: Arc<Profiles>,
}

impl Footing {
    /// Nobody writes anything down, and providers are known by the built-in profiles.
    #[cfg(test)]
    pub(crate) fn in_memory(clock: Clock, alarms: Arc<Alarms>) -> Self {
        Self { clock, alarms, keeper: None, contention: Arc::default(), profiles: Profiles::built_in() }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cell {
    pub(crate) fn new(id: u32, name: BudgetName, declared: Declared, footing: &Footing) -> Arc<Self> {
        let filled = footing.profiles.of(name.provider()).fill(&declared.spec);
        let mut heart = Budget::new(&filled, footing.clock.now());
        if footing.keeper.is_some() {
            heart.keep();
        }
        Self::with_heart(id, name, declared, heart, footing)
    }

    /// One that goes on where an earlier process left it.
    pub(crate) fn with_heart(
        id: u32,
        name: BudgetName,
        declared: Declared,
        heart: Budget<Waiter>,
        footing: &Footing,
    ) -> Arc<Self> {
        let Footing { clock, alarms, keeper, contention, profiles } = footing.clone();
        let profile = Arc::clone(profiles.of(name.provider()));
        let state = State {
            heart,
            life: Life::Serving,
            declared,
            declared_anew: true,
            leaves_a_mark: false,
            noted: None,
            alarm: None,
            exemplars: None,
            finished: Vec::new(),
            events: Vec::new(),
        };
        let bell = alarms.bell();
        let sharers = AtomicU32::new(0);
        let cell = Arc::new_cyclic(|this| Self {
            id,
            name,
            clock,
            alarms,
            bell,
            profile,
            keeper,
            contention,
            this: this.clone(),
            sharers,
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

    /// What is known of the provider.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// What was declared.
    #[must_use]
    pub fn declared(&self) -> Declared {
        self.contention.lock(&self.state).declared.clone()
    }

    /// A look at everything.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.contention.lock(&self.state);
        state.heart.snapshot(self.clock.now())
    }

    /// A look at everything, with traces for its waits, and when that was.
    pub(crate) fn figures(&self) -> (Snapshot, Option<Exemplars>, Time) {
        let mut state = self.contention.lock(&self.state);
        let now = self.clock.now();
        (state.heart.snapshot(now), state.exemplars.clone(), now)
    }

    /// A look at everything, and at who waits and why, of the same moment.
    #[must_use]
    pub(crate) fn explain(&self) -> (Snapshot, Standing, Time) {
        let mut state = self.contention.lock(&self.state);
        let now = self.clock.now();
        (state.heart.snapshot(now), state.heart.standing(now), now)
    }

    /// Grants nothing until [`Cell::resume`]; those waiting stay.
    pub fn pause(&self) {
        self.with(|state, _, _| {
            state.declared_anew = true;
            state.heart.pause();
        });
    }

    /// Ends a pause, and an exhausted quota.
    pub fn resume(&self) {
        self.with(|state, now, events| {
            state.declared_anew = true;
            state.heart.resume(now, events);
        });
    }

    /// Replaces what is declared. Whoever calls holds the registry's lock for changes.
    pub(crate) fn declare(&self, declared: Declared) {
        let filled = self.profile.fill(&declared.spec);
        self.with(|state, now, events| {
            state.heart.configure(now, &filled, events);
            (state.declared, state.declared_anew) = (declared, true);
        });
    }

    /// Ends the budget for everybody who waits; reports are still taken. With `leaves_a_mark`, what is written of it says so after it
    /// is gone.
    pub(crate) fn delete(&self, leaves_a_mark: bool) {
        self.with(|state, _, _| (state.declared_anew, state.leaves_a_mark) = (true, leaves_a_mark));
        self.end(Life::Deleted, Reason::Deleted);
    }

    /// Ends the waiting of everybody; reports are still taken.
    pub(crate) fn drain(&self) {
        self.end(Life::Draining, Reason::Draining);
    }

    /// The budget is another server's from now on, or nobody's. `in_order`: everything of it is still to be written down.
    pub(crate) fn leave(&self, in_order: bool) {
        self.end(Life::Away { in_order }, Reason::Moved);
    }

    /// Grants nothing from `end` on, until that is moved.
    pub(crate) fn grant_until(&self, end: Time) {
        let mut state = self.contention.lock(&self.state);
        let mut events = mem::take(&mut state.events);
        state.heart.grant_until(self.clock.now(), end, &mut events);
        self.set_alarm(&mut state);
        if events.is_empty() {
            state.events = events;
            return;
        }
        self.note(&mut state);
        drop(state);
        self.deliver(events);
    }

    fn end(&self, life: Life, reason: Reason) {
        self.with(|state, _, events| {
            state.life = life;
            state.heart.refuse_waiting(reason, None, events);
        });
    }

    /// Unreported permits.
    pub(crate) fn in_flight(&self) -> u32 {
        self.contention.lock(&self.state).heart.in_flight()
    }

    /// Joins the queue.
    pub(crate) fn acquire(&self, request: Request<'_, Waiter>) -> Result<Acquired, NotTaken> {
        self.with(|state, now, events| state.acquire(now, request, events))
    }

    /// Joins the queue with several requests under one lock, which for a busy budget is most of the cost of joining.
    pub(crate) fn acquire_all<'a>(
        &self,
        requests: impl Iterator<Item = Request<'a, Waiter>>,
        answers: &mut Vec<Result<Acquired, NotTaken>>,
    ) {
        self.with(|state, now, events| {
            answers.extend(requests.map(|request| state.acquire(now, request, events)));
        });
    }

    /// Settles a permit. The waiter is who asked for it, if this report is what ended it. `None`: the budget is another server's.
    pub(crate) fn report(&self, permit: PermitKey, report: &Report) -> Option<(Reported, Option<Waiter>)> {
        self.with(|state, now, events| {
            (!state.is_away()).then(|| state.report(&self.profile, now, permit, report, events))
        })
    }

    /// Settles several permits under one lock. False: the budget is another server's, and nothing was settled.
    pub(crate) fn report_all<'a>(
        &self,
        reports: impl Iterator<Item = (PermitKey, &'a Report)>,
        answers: &mut Vec<(Reported, Option<Waiter>)>,
    ) -> bool {
        self.with(|state, now, events| {
            if state.is_away() {
                return false;
            }
            answers.extend(
                reports.map(|(permit, report)| state.report(&self.profile, now, permit, report, events)),
            );
            true
        })
    }

    /// Returns permits whose grant reached nobody.
    pub(crate) fn give_back(&self, permits: &[PermitKey]) {
        self.with(|state, now, events| state.give_back(now, permits, events));
    }

    /// Gives the permit another ttl, until then; `None` if it ended, or if the budget is another server's.
    pub(crate) fn extend(&self, permit: PermitKey) -> Option<Time> {
        self.with(|state, now, _| if state.is_away() { None } else { state.heart.extend(now, permit) })
    }

    /// Whether the budget is another server's.
    pub(crate) fn is_away(&self) -> bool {
        self.contention.lock(&self.state).is_away()
    }

    /// A live permit, to send again.
    pub(crate) fn grant(&self, permit: PermitKey) -> Option<Grant> {
        self.contention.lock(&self.state).heart.grant(permit)
    }

    /// Leaves the queue; false if it did already.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.with(|state, now, events| state.heart.cancel(now, ticket, events).is_some())
    }

    /// Leaves the queue with many at once.
    pub(crate) fn cancel_all(&self, tickets: &[Ticket]) {
        self.with(|state, now, events| {
            for &ticket in tickets {
                state.heart.cancel(now, ticket, events);
            }
        });
    }

    /// A look at a waiting request.
    pub(crate) fn place(&self, ticket: Ticket) -> Option<Place> {
        let mut state = self.contention.lock(&self.state);
        state.heart.place(self.clock.now(), ticket)
    }

    /// How many sessions share the budget.
    pub(crate) fn sharers(&self) -> &AtomicU32 {
        &self.sharers
    }

    /// The one way to the heart.
    fn with<R>(&self, call: impl FnOnce(&mut State, Time, &mut Vec<Event<Waiter>>) -> R) -> R {
        let mut state = self.contention.lock(&self.state);
        let now = self.clock.now();
        let mut events = mem::take(&mut state.events);
        let answer = call(&mut state, now, &mut events);
        self.set_alarm(&mut state);
        self.note(&mut state);
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
        let Some(next) = state.heart.next_poll() else { return };
        if state.alarm.is_none_or(|set| next < set) {
            let before = state.alarm.replace(next);
            self.alarms.set(self.bell, before, next, self.this.clone() as Weak<dyn Ring>);
        }
    }

    /// Delivers without the lock. What nobody takes any more goes back, which may grant to others: hence the loop.
    fn deliver(&self, mut events: Vec<Event<Waiter>>) {
        loop {
            let returned = self.put_all(&mut events);
            if returned.is_empty() {
                return;
            }
            let mut state = self.contention.lock(&self.state);
            let now = self.clock.now();
            state.give_back(now, &returned, &mut events);
            self.set_alarm(&mut state);
            self.note(&mut state);
            state.note_events(now, &events);
            let finished = mem::take(&mut state.finished);
            drop(state);
            Self::tell_finished(finished);
        }
    }

    /// Puts every event into its inbox and wakes each reader once. Hands back the permits that nobody takes.
    fn put_all(&self, events: &mut Vec<Event<Waiter>>) -> Vec<PermitKey> {
        let mut returned = Vec::new();
        let mut sleepers: Vec<Arc<Inbox>> = Vec::new();
        for event in events.drain(..) {
            let (waiter, what) = match event {
                Event::Granted { waiter, grant, .. } => (waiter, News::Granted { cell: self.id, grant }),
                Event::Refused { waiter, refusal } => (waiter, News::Refused(refusal)),
                Event::Expired { waiter, permit } => (waiter, News::Ended(permit)),
            };
            match waiter.inbox.put(Delivery { request_id: waiter.request_id, what }) {
                Ok(true) => sleepers.push(waiter.inbox),
                Ok(false) => {}
                Err(Delivery { what: News::Granted { grant, .. }, .. }) => returned.push(grant.permit),
                Err(_) => {}
            }
        }
        for inbox in sleepers {
            inbox.wake();
        }
        returned
    }
}

impl State {
    fn is_away(&self) -> bool {
        matches!(self.life, Life::Away { .. })
    }

    fn acquire(
        &mut self,
        now: Time,
        request: Request<'_, Waiter>,
        events: &mut Vec<Event<Waiter>>,
    ) -> Result<Acquired, NotTaken> {
        let trace = request.waiter.trace.clone();
        let answer = match self.life {
            Life::Deleted | Life::Away { .. } => Err(NotTaken::Gone),
            Life::Draining => Err(NotTaken::Refused(Refusal::new(Reason::Draining))),
            Life::Serving if self.heart.in_flight() >= IN_FLIGHT_MAX => Err(NotTaken::TooManyPermits),
            Life::Serving => self.heart.acquire(now, request, events).map_err(NotTaken::Refused),
        };
        self.note_answer(now, trace, &answer);
        answer
    }

    /// Settles a permit. What the response tells of limits is about the models that share them with the permit's own.
    fn report(
        &mut self,
        profile: &Profile,
        now: Time,
        permit: PermitKey,
        report: &Report,
        events: &mut Vec<Event<Waiter>>,
    ) -> (Reported, Option<Waiter>) {
        if report.observed.is_empty() {
            return self.heart.report(now, permit, report, events);
        }
        let mut report = report.clone();
        match self.heart.model_of(permit).map(|model| profile.sharing(model)) {
            Some(models) => {
                let open = report.observed.iter_mut().filter(|observed| observed.models.is_empty());
                open.for_each(|observed| observed.models = models.into());
            }
            // It ended before: nobody knows any more whose limits these are.
            None => report.observed.clear(),
        }
        self.heart.report(now, permit, &report, events)
    }

    fn give_back(&mut self, now: Time, permits: &[PermitKey], events: &mut Vec<Event<Waiter>>) {
        // What is written down of it last is what it was when it left.
        if self.is_away() {
            return;
        }
        let unused = Report::new(Outcome::Cancelled);
        for &permit in permits {
            self.heart.report(now, permit, &unused, events);
        }
    }
}

impl Ring for Cell {
    fn ring(self: Arc<Self>, at: Time) {
        self.with(|state, now, events| {
            // Not if it was set anew on the way here.
            state.alarm = state.alarm.filter(|&set| set != at);
            let _ = state.heart.poll(now, events);
        });
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec, Priority, Usage};

    use super::*;

    fn request(inbox: &Arc<Inbox>, request_id: u64) -> Request<'static, Waiter> {
        Request {
            tenant: "t",
            model: "",
            priority: Priority::Standard,
            estimate: Usage::default(),
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: Waiter { inbox: Arc::clone(inbox), request_id, trace: None },
        }
    }

    /// Goal: a grant that nobody takes any more goes back by itself, and on to the next in line, however many are gone.
    #[test]
    fn undeliverable_grants_go_on() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let spec = BudgetSpec { limits: vec![LimitSpec::in_flight(1)], ..BudgetSpec::default() };
        let spec = Arc::new(spec.check().expect("a sound spec"));
        let declared = Declared { spec, etag: String::new(), source: Source::Admin };
        let footing = Footing::in_memory(clock, alarms);
        let cell = Cell::new(1, "p/k".parse().expect("a name"), declared, &footing);
        let (gone, alive) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
        let Ok(Acquired::Granted(first)) = cell.acquire(request(&alive, 0)) else {
            panic!("granted at once")
        };
        for request_id in 1..1_000 {
            assert!(matches!(cell.acquire(request(&gone, request_id)), Ok(Acquired::Waiting(_))));
        }
        assert!(matches!(cell.acquire(request(&alive, 1_000)), Ok(Acquired::Waiting(_))));
        gone.close();
        let (reported, _) = cell.report(first.permit, &Report::new(Outcome::Success)).expect("here");
        assert!(reported.settled);
        let mut deliveries = Vec::new();
        alive.take(&mut deliveries);
        let [Delivery { request_id: 1_000, what: News::Granted { cell: 1, grant } }] = deliveries.as_slice()
        else {
            panic!("one grant, not {deliveries:?}")
        };
        assert!(cell.grant(grant.permit).is_some());
        assert_eq!(cell.in_flight(), 1);
    }
}
