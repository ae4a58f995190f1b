//! What one grant costs as a budget gets deeper: the heart by itself, in one thread.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, LimitSpec, Outcome, Priority, QueueSpec, Report,
    Request, Time, Usage, bounds,
};

use super::memory;
use crate::bench::{Error, median};

/// What a server's handle of a waiting request takes: a pointer and a number.
type Waiter = (u64, u64);

const START: Time = Time::from_nanos(1_700_000_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
/// One request becomes possible every step.
const STEP: Duration = Duration::from_micros(10);
/// A full bucket begins to refill so long after the first call.
const START_DELAY: Duration = Duration::from_millis(25);
/// What is measured so often, of which the median counts, and each time over so many.
const REPEATS: usize = 7;
const TURNS: usize = 5_000;

/// One budget with a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) waiting: u32,
    pub(super) tenants: usize,
    /// That each request touches; at most [`LIMITS_MAX`].
    pub(super) limits: usize,
}

/// As many different ones as there are here.
pub(super) const LIMITS_MAX: usize = 8;

/// In nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// The grant to the one whose turn it is.
    pub(super) grant: f64,
    /// That, its report, and another request in its place.
    pub(super) turn: f64,
}

impl Queue {
    /// # Errors
    /// If something else happens than one grant in each step.
    pub(super) fn cost(self) -> Result<Cost, Error> {
        let mut line = Line::new(self)?;
        let (mut grants, mut turns) = (Vec::new(), Vec::new());
        line.turns()?;
        for _ in 0..REPEATS {
            let begin = Instant::now();
            grants.push(line.turns()?);
            turns.push(begin.elapsed());
        }
        let each = |times: Vec<Duration>| {
            median(times.into_iter().map(|time| time.as_nanos() as f64 / TURNS as f64))
        };
        Ok(Cost { grant: each(grants), turn: each(turns) })
    }

    fn spec(self) -> Result<CheckedSpec, Error> {
        let mut limits = vec![LimitSpec { burst: 1, ..LimitSpec::rate("requests", 360_000_000, HOUR) }];
        limits.extend(ample());
        limits.truncate(self.limits);
        let queue = QueueSpec { max_waiting: bounds::WAITING, ..QueueSpec::default() };
        Ok(BudgetSpec { limits, queue, ..BudgetSpec::default() }.check()?)
    }
}

/// Limits that nobody reaches.
fn ample() -> impl Iterator<Item = LimitSpec> {
    let windows = [60, 1, 86_400].map(Duration::from_secs);
    let rates = windows.into_iter().flat_map(|window| {
        [LimitSpec::rate("tokens", 1 << 58, window), LimitSpec::rate("requests", 1 << 48, window)]
    });
    [LimitSpec::in_flight(1 << 40)].into_iter().chain(rates)
}

struct Line {
    budget: Budget<Waiter>,
    now: Time,
    tenants: Vec<String>,
    asked: usize,
    events: Vec<Event<Waiter>>,
}

impl Line {
    fn new(queue: Queue) -> Result<Self, Error> {
        let mut line = Self {
            budget: Budget::new(&queue.spec()?, START),
            now: START,
            tenants: (0..queue.tenants).map(|n| format!("tenant-{n}")).collect(),
            asked: 0,
            events: Vec::new(),
        };
        while line.budget.waiting() < queue.waiting {
            line.ask()?;
        }
        line.now += START_DELAY;
        Ok(line)
    }

    /// So many turns. Of these, the time of the grants.
    fn turns(&mut self) -> Result<Duration, Error> {
        let mut taken = Duration::ZERO;
        for _ in 0..TURNS {
            self.events.clear();
            self.now += STEP;
            let begin = Instant::now();
            black_box(self.budget.poll(self.now, &mut self.events));
            taken += begin.elapsed();
            let [Event::Granted { grant, .. }] = &self.events[..] else {
                return Err(format!("not one grant in a step: {:?}", self.events).into());
            };
            let permit = grant.permit;
            self.budget.report(self.now, permit, &Report::new(Outcome::Success), &mut self.events);
            self.ask()?;
        }
        Ok(taken)
    }

    fn ask(&mut self) -> Result<(), Error> {
        self.asked += 1;
        // Tenants come in no order that caches like.
        let tenant = &self.tenants[self.asked * 7_919 % self.tenants.len()];
        let asked = self.budget.acquire(self.now, request(tenant), &mut self.events);
        asked.map(drop).map_err(|refusal| format!("refused: {refusal:?}").into())
    }
}

/// Budgets in which nobody waits, gone round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Many {
    /// An acquire that is granted at once, with its report, in nanoseconds.
    pub(super) nanos: f64,
    /// In bytes, of each budget that has not been used.
    pub(super) fresh: f64,
    /// And of one that has been, and is idle again.
    pub(super) used: f64,
}

impl Many {
    /// Of so many, each with limits on requests, tokens and in flight.
    ///
    /// # Errors
    /// If one is not granted.
    pub(super) fn measure(budgets: usize) -> Result<Self, Error> {
        let limits = ample().take(LIMITS).collect();
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check()?;
        let empty = memory::resident()?;
        let mut all: Vec<Budget<Waiter>> = (0..budgets).map(|_| Budget::new(&spec, START)).collect();
        let fresh = memory::resident()?;
        let (mut now, mut at, mut events) = (START, 0, Vec::new());
        let mut go_round = |calls: usize| -> Result<Duration, Error> {
            let begin = Instant::now();
            for _ in 0..calls {
                now += Duration::from_micros(1);
                at = (at + 7_919) % budgets;
                let budget = &mut all[at];
                let Ok(Acquired::Granted(grant)) =
                    budget.acquire(now, black_box(request("web")), &mut events)
                else {
                    return Err("not granted".into());
                };
                black_box(budget.report(now, grant.permit, &Report::new(Outcome::Success), &mut events));
            }
            Ok(begin.elapsed())
        };
        go_round(budgets)?;
        let used = memory::resident()?;
        let calls = TURNS * 10;
        let mut times = Vec::new();
        for _ in 0..REPEATS {
            times.push(go_round(calls)?.as_nanos() as f64 / calls as f64);
        }
        let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / budgets as f64;
        Ok(Self { nanos: median(times), fresh: each(fresh), used: each(used) })
    }
}

/// Of each of many budgets.
pub(super) const LIMITS: usize = 3;

fn request(tenant: &str) -> Request<'_, Waiter> {
    Request {
        tenant,
        model: "claude-opus-4",
        priority: Priority::Standard,
        estimate: Usage::of_tokens(1_000),
        count: 1,
        max_wait: Some(HOUR),
        gives_up: None,
        waiter: (0, 0),
    }
}
