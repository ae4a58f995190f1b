//! A budget, the disk that it is written to, and its callers, in true time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, Grant, LimitSpec, Outcome, PermitChange, PermitKey,
    Pressure, Priority, Report, Request, Resumed, SavedBudget, SavedPermit, Time, Usage,
};

use crate::referee::Call;

pub(crate) const TENANTS: [&str; 3] = ["web", "jobs", "nightly"];
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Reports that may not have been answered when a process ends.
const UNHEARD: usize = 20;
/// True time begins late enough for clocks to be set back.
pub(crate) const BEGIN: u64 = 1_000_000 * SECOND;

/// What is on the disk.
#[derive(Clone, Debug, Default)]
struct Disk {
    budget: SavedBudget,
    permits: BTreeMap<u32, SavedPermit>,
}

impl Disk {
    fn write(&mut self, budget: &SavedBudget, permits: &[PermitChange]) {
        self.budget = budget.clone();
        for (slot, permit) in permits {
            match permit {
                Some(permit) => drop(self.permits.insert(*slot, permit.clone())),
                None => drop(self.permits.remove(slot)),
            }
        }
    }
}

/// A permit that its caller has not reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) key: PermitKey,
    /// Its place among the calls.
    pub(crate) call: usize,
}

pub(crate) struct World {
    spec: CheckedSpec,
    pub(crate) heart: Budget<usize>,
    disk: Disk,
    /// A save that is under way.
    pending: Option<(SavedBudget, Vec<PermitChange>)>,
    /// True time.
    pub(crate) now: u64,
    /// What the process's clock is ahead.
    ahead: i64,
    pub(crate) calls: Vec<Call>,
    pub(crate) held: Vec<Held>,
    /// Who asked for what, by waiter.
    asked: Vec<(usize, u64)>,
    events: Vec<Event<usize>>,
    pub(crate) refused: usize,
    /// Saves that have come to their end.
    pub(crate) saves: usize,
    /// The latest reports: whether their answers arrived is not known.
    unheard: VecDeque<(PermitKey, Report)>,
}

impl World {
    pub(crate) fn new(limits: Vec<LimitSpec>) -> Self {
        let spec = BudgetSpec { limits, permit_ttl: Some(TTL), ..BudgetSpec::default() };
        let spec = spec.check().expect("makes sense");
        let mut heart = Budget::new(&spec, Time::from_nanos(BEGIN));
        heart.keep();
        let mut world = Self {
            spec,
            heart,
            disk: Disk::default(),
            pending: None,
            now: BEGIN,
            ahead: 0,
            calls: Vec::new(),
            held: Vec::new(),
            asked: Vec::new(),
            events: Vec::new(),
            refused: 0,
            saves: 0,
            unheard: VecDeque::new(),
        };
        world.save();
        world
    }

    /// Now by the process's clock.
    pub(crate) fn clock(&self) -> Time {
        Time::from_nanos(self.now.checked_add_signed(self.ahead).expect("within time"))
    }

    /// Lets time pass, with everything that happens by itself.
    pub(crate) fn pass(&mut self, nanos: u64) {
        let end = self.now + nanos;
        for polls in 0_u32.. {
            assert!(polls < 1_000_000, "polls without end: {:?}", self.heart.snapshot(self.clock()));
            let Some(due) = self.heart.next_poll() else { break };
            let due = due.as_nanos().checked_add_signed(-self.ahead).expect("within time");
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            let _ = self.heart.poll(self.clock(), &mut self.events);
            self.take_in();
        }
        self.now = end;
    }

    pub(crate) fn ask(&mut self, tenant: usize, tokens: u64, max_wait: Option<Duration>) {
        let waiter = self.asked.len();
        self.asked.push((tenant, tokens));
        let request = Request {
            tenant: TENANTS[tenant],
            model: "",
            priority: Priority::Standard,
            estimate: Usage::of_tokens(tokens),
            count: 1,
            max_wait,
            gives_up: None,
            waiter,
        };
        match self.heart.acquire(self.clock(), request, &mut self.events) {
            Ok(Acquired::Granted(grant)) => self.granted(waiter, &grant),
            Ok(Acquired::Waiting(_)) => {}
            Err(_) => self.refused += 1,
        }
        self.take_in();
    }

    /// Reports a held permit with that many tokens, or as cancelled. Says whether it settled.
    pub(crate) fn report(&mut self, held: usize, tokens: Option<u64>) -> bool {
        let report = match tokens {
            Some(tokens) => Report { actual: Usage::of_tokens(tokens), ..Report::new(Outcome::Success) },
            None => Report::new(Outcome::Cancelled),
        };
        self.answer(held, &report)
    }

    /// Reports what the provider answered to a held permit. Says whether it settled. Only what worked has used anything.
    pub(crate) fn answer(&mut self, held: usize, report: &Report) -> bool {
        let Held { key, call } = self.held.swap_remove(held);
        let (answer, _) = self.heart.report(self.clock(), key, report, &mut self.events);
        self.unheard.push_back((key, report.clone()));
        if self.unheard.len() > UNHEARD {
            self.unheard.pop_front();
        }
        let seen = &mut self.calls[call];
        let worked = report.outcome == Outcome::Success;
        let tokens = report.actual.tokens.unwrap_or(seen.tokens);
        (seen.requests, seen.tokens) = if worked { (1, tokens) } else { (0, 0) };
        seen.ended = seen.ended.min(self.now);
        self.take_in();
        answer.settled
    }

    pub(crate) fn begin_save(&mut self) {
        if self.pending.is_none() {
            self.pending = Some(self.heart.save(self.clock(), false));
        }
    }

    pub(crate) fn end_save(&mut self) {
        if let Some((budget, permits)) = self.pending.take() {
            self.disk.write(&budget, &permits);
            self.saves += 1;
            self.heart.saved(self.clock(), &mut self.events);
            self.take_in();
        }
    }

    /// The save fails, before or after it has reached the disk.
    pub(crate) fn fail_save(&mut self, reached: bool) {
        if let Some((budget, permits)) = self.pending.take() {
            if reached {
                self.disk.write(&budget, &permits);
            }
            self.heart.not_saved(self.clock(), &permits, &mut self.events);
            self.take_in();
        }
    }

    /// A whole save, after one that may be under way.
    pub(crate) fn save(&mut self) {
        self.end_save();
        self.begin_save();
        self.end_save();
    }

    /// As a server does that writes at once whenever somebody waits for it.
    pub(crate) fn save_if_pressed(&mut self) {
        // More than a few in a row would mean that a save does not give what it is asked for.
        for _ in 0..10_000 {
            if self.heart.pressure() != Pressure::Now {
                return;
            }
            self.save();
        }
        panic!("saves without end: {:?}", self.heart.snapshot(self.clock()));
    }

    /// An orderly end and a new start.
    pub(crate) fn restart(&mut self, down: u64, ahead: i64) {
        self.end_save();
        let (budget, permits) = self.heart.save(self.clock(), true);
        self.disk.write(&budget, &permits);
        self.crash(down, ahead, true);
    }

    /// A sudden end, and a new start after so long by a clock that is `ahead`. Where it is not `known` how long that was, the new
    /// process can only take it for no time at all.
    pub(crate) fn crash(&mut self, down: u64, ahead: i64, known: bool) {
        self.pending = None;
        self.now += down;
        let by_old_clock = if known { self.clock() } else { self.disk.budget.at };
        self.ahead = ahead;
        let back = Resumed { by_old_clock, now: self.clock() };
        let permits = self.disk.permits.values().cloned().collect();
        self.heart = Budget::restore(&self.spec, &self.disk.budget, permits, &back, &usize::MAX);
        self.events.clear();
        self.save();
    }

    /// Callers whose reports were not answered before a crash report again.
    pub(crate) fn report_again(&mut self) {
        for (key, report) in self.unheard.clone() {
            let _ = self.heart.report(self.clock(), key, &report, &mut self.events);
            self.take_in();
        }
    }

    pub(crate) fn level(&mut self, limit: usize) -> i64 {
        self.heart.snapshot(self.clock()).limits[limit].level
    }

    fn granted(&mut self, waiter: usize, grant: &Grant) {
        let (tenant, tokens) = self.asked[waiter];
        let ended = self.now + u64::try_from(TTL.as_nanos()).expect("short");
        self.held.push(Held { key: grant.permit, call: self.calls.len() });
        self.calls.push(Call { tenant, granted: self.now, requests: 1, tokens, ended });
    }

    fn take_in(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Granted { waiter, grant, .. } => self.granted(waiter, &grant),
                Event::Refused { .. } => self.refused += 1,
                Event::Expired { .. } => {}
            }
        }
    }
}
