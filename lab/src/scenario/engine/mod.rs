//! One run: clients, network, budget and provider in virtual time. Whatever happens is an event; the next one in time is done, and so
//! the same scenario, clients and seed always give the same [`Record`].

mod clients;
mod provider;

use std::{cmp::Reverse, collections::BinaryHeap};

use permitd_budget::PermitKey;

use super::{
    call::{self, Call},
    doors::Doors,
    expect::Clients,
    file::Scenario,
    managed::Managed,
    record::Record,
    simulated::{Refused, Simulated},
};
use crate::provider::{Behaviour, Limits, buckets::Nanos};

/// For so long after a change the budget is looked at after every report.
const LOOK_CLOSELY: Nanos = 5_000_000_000;
/// A run that tries the provider more often than this is ended: whatever lets calls go has lost its grip.
const ATTEMPTS_MAX: usize = 200_000;
/// A run in which more happens than this is ended too: something asks to be woken over and over and does nothing.
const EVENTS_MAX: u64 = 5_000_000;
/// A worker whose call was refused for good goes on after this.
const PAUSE: Nanos = 1_000_000_000;

/// Where a call is, from the wish to its end.
pub(super) struct Job {
    pub(super) work: usize,
    pub(super) pool: usize,
    pub(super) call: Call,
    /// Whether it is the first of its worker.
    is_first: bool,
    /// When it first wanted to go.
    pub(super) asked: Nanos,
    pub(super) permit: Option<PermitKey>,
    /// Refusals so far.
    tries: u32,
    /// Its latest attempt in the record.
    attempt: usize,
    refused: Option<Refused>,
    /// It has not been let go, the first time or again.
    waits: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The provider's n-th change.
    Changes(usize),
    /// A work brings its next call.
    Comes(usize),
    /// A call wants to go, for the first time or again.
    Wants(u32),
    /// The budget has to be polled.
    Polls,
    /// A call reaches the provider.
    Arrives(u32),
    /// The provider has done a call.
    Ends(u32),
    /// The answer is heard of.
    Heard(u32),
    /// Those at a pool's door are looked at.
    Door(usize),
}

/// A change of the provider.
enum Change {
    Limits(usize, Limits),
    Behaviour(Behaviour),
}

/// A run under way.
struct Engine<'a> {
    scenario: &'a Scenario,
    clients: Clients,
    seed: u64,
    now: Nanos,
    agenda: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    planned: u64,
    changes: Vec<(Nanos, Change)>,
    /// Until when the budget is looked at closely.
    watched: Nanos,
    provider: Simulated,
    managed: Option<Managed>,
    doors: Doors,
    jobs: Vec<Job>,
    /// Calls that each work has brought.
    brought: Vec<u64>,
    names: Vec<String>,
    record: Record,
}

/// Plays a scenario once.
#[must_use]
pub fn run(scenario: &Scenario, clients: Clients, seed: u64) -> Record {
    let mut engine = Engine::new(scenario, clients, seed);
    engine.begin();
    while let Some(Reverse((at, _, event))) = engine.agenda.pop() {
        if at >= scenario.lasts {
            break;
        }
        engine.now = at;
        if engine.record.attempts.len() > ATTEMPTS_MAX || engine.planned > EVENTS_MAX {
            engine.record.cut_short = Some(at);
            break;
        }
        engine.happens(event);
    }
    engine.finish()
}

impl<'a> Engine<'a> {
    fn new(scenario: &'a Scenario, clients: Clients, seed: u64) -> Self {
        let provider = Simulated::new(scenario, seed);
        let mut changes = Vec::new();
        for (pool, limits) in scenario.pools.iter().enumerate() {
            let later = limits.truth.iter().skip(1);
            changes.extend(later.map(|(at, limits)| (*at, Change::Limits(pool, *limits))));
        }
        let later = scenario.behaviours.iter().skip(1);
        changes.extend(later.map(|(at, behaviour)| (*at, Change::Behaviour(*behaviour))));
        Self {
            clients,
            seed,
            now: 0,
            agenda: BinaryHeap::new(),
            planned: 0,
            changes,
            watched: LOOK_CLOSELY,
            doors: Doors::new(provider.pools()),
            provider,
            managed: (clients == Clients::Managed).then(|| Managed::new(&scenario.declared)),
            jobs: Vec::new(),
            brought: vec![0; scenario.work.len()],
            names: scenario
                .work
                .iter()
                .enumerate()
                .map(|(at, work)| format!("{}/{at}", work.tenant))
                .collect(),
            record: Record::default(),
            scenario,
        }
    }

    fn plan(&mut self, at: Nanos, event: Event) {
        self.planned += 1;
        self.agenda.push(Reverse((at, self.planned, event)));
    }

    fn begin(&mut self) {
        for at in 0..self.changes.len() {
            self.plan(self.changes[at].0, Event::Changes(at));
        }
        for (at, work) in self.scenario.work.iter().enumerate() {
            let at_once = match self.clients {
                Clients::Sequential => u32::from(at == 0),
                _ => work.workers.or(work.calls).unwrap_or(1),
            };
            for _ in 0..at_once {
                self.plan(work.from.0, Event::Comes(at));
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Changes(at) => self.change(at),
            Event::Comes(work) => self.comes(work),
            Event::Wants(job) => self.wants(job),
            Event::Polls => self.with_budget(|managed, now, _, _| managed.poll(now)),
            Event::Arrives(job) => self.arrives(job),
            Event::Ends(job) => self.ends(job),
            Event::Heard(job) => self.heard(job),
            Event::Door(pool) => self.door(pool),
        }
    }

    /// A work brings a call; where calls come by chance, the next one is planned.
    fn comes(&mut self, at: usize) {
        let work = &self.scenario.work[at];
        if work.until.is_some_and(|until| self.now >= until.0) {
            return;
        }
        let number = self.brought[at];
        self.brought[at] += 1;
        if let Some(rate) = work.per_minute
            && self.clients != Clients::Sequential
        {
            let gap = call::gap(self.seed, &self.names[at], number, rate);
            self.plan(self.now + gap, Event::Comes(at));
        }
        let call = Call::new(self.seed, work, &self.names[at], number, self.provider.behaviour());
        let pool = self.provider.pool_of(&work.model);
        let job = u32::try_from(self.jobs.len()).expect("a run has fewer than 2^32 calls");
        self.jobs.push(Job {
            work: at,
            pool,
            call,
            is_first: work.workers.is_some_and(|workers| number < u64::from(workers)),
            asked: self.now,
            permit: None,
            tries: 0,
            attempt: usize::MAX,
            refused: None,
            waits: true,
        });
        self.wants(job);
    }

    /// A call is over: a worker that made it makes the next one.
    fn next(&mut self, job: u32, pause: Nanos) {
        let entry = &mut self.jobs[job as usize];
        entry.waits = false;
        let work = entry.work;
        if self.scenario.work[work].workers.is_some() || self.clients == Clients::Sequential {
            self.plan(self.now + pause, Event::Comes(work));
        }
    }

    fn finish(mut self) -> Record {
        self.record.unserved =
            self.jobs.iter().filter(|job| job.waits).map(|job| (job.work, job.asked)).collect();
        self.record
    }
}
