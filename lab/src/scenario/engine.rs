//! One run: clients, network, budget and provider in virtual time. Whatever happens is an event; the next one in time is done, and so
//! the same scenario, clients and seed always give the same [`Record`].

use std::{cmp::Reverse, collections::BinaryHeap};

use permitd_budget::{PermitKey, Tripped};

use super::{
    call::{self, Call},
    doors::Doors,
    expect::Clients,
    file::Scenario,
    managed::Managed,
    record::{Attempt, Fate, Record},
    simulated::{Refused, Simulated, Verdict, Why},
};
use crate::provider::{Behaviour, Limits, buckets::Nanos};

/// For so long after a change the budget is looked at after every report.
const LOOK_CLOSELY: Nanos = 5_000_000_000;
/// A run that tries the provider more often than this is ended: whatever lets calls go has lost its grip.
const ATTEMPTS_MAX: usize = 200_000;
/// A worker whose call was refused for good goes on after this.
const PAUSE: Nanos = 1_000_000_000;

/// Where a call is, from the wish to its end.
pub(super) struct Job {
    pub(super) work: usize,
    pub(super) pool: usize,
    pub(super) call: Call,
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
        if engine.record.attempts.len() > ATTEMPTS_MAX {
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

    fn change(&mut self, at: usize) {
        match &self.changes[at].1 {
            Change::Limits(pool, limits) => {
                let (pool, limits) = (*pool, *limits);
                self.provider.change_limits(self.now, pool, &limits);
                self.plan(self.now, Event::Door(pool));
            }
            Change::Behaviour(behaviour) => self.provider.change_behaviour(*behaviour),
        }
        self.watched = self.now + LOOK_CLOSELY;
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
            asked: self.now,
            permit: None,
            tries: 0,
            attempt: usize::MAX,
            refused: None,
            waits: true,
        });
        self.wants(job);
    }

    fn wants(&mut self, job: u32) {
        self.jobs[job as usize].waits = true;
        match self.clients {
            Clients::Managed => self.with_budget(|managed, now, jobs, scenario| {
                managed.acquire(now, job, &jobs[job as usize], scenario);
            }),
            Clients::Naive | Clients::Sequential => self.send(job),
            Clients::Oracle => {
                let pool = self.jobs[job as usize].pool;
                self.doors.join(pool, job);
                self.door(pool);
            }
        }
    }

    /// Does something to the budget, and then everything that the budget says.
    fn with_budget(&mut self, act: impl FnOnce(&mut Managed, Nanos, &[Job], &Scenario)) {
        let Some(mut managed) = self.managed.take() else { return };
        act(&mut managed, self.now, &self.jobs, self.scenario);
        let (granted, refused) = managed.take_events();
        let poll = managed.next_poll(self.now);
        self.managed = Some(managed);
        if let Some(at) = poll {
            self.plan(at, Event::Polls);
        }
        for (job, permit) in granted {
            self.jobs[job as usize].permit = Some(permit);
            self.send(job);
        }
        for (job, why, wait) in refused {
            let work = self.jobs[job as usize].work;
            self.record.turned_away.push((work, self.now, why));
            self.next(job, wait.unwrap_or(PAUSE).max(PAUSE));
        }
    }

    fn send(&mut self, job: u32) {
        let number = self.record.attempts.len();
        let (there, _) = call::ways(self.seed, &self.scenario.network, number as u64);
        let entry = &mut self.jobs[job as usize];
        (entry.attempt, entry.waits) = (number, false);
        self.record.attempts.push(Attempt {
            work: entry.work,
            asked: entry.asked,
            sent: self.now,
            arrived: Nanos::MAX,
            answered: Nanos::MAX,
            heard: Nanos::MAX,
            fate: Fate::Underway,
            needed: None,
            told: None,
            input: entry.call.input,
            output: entry.call.output,
        });
        self.plan(self.now + there, Event::Arrives(job));
    }

    fn arrives(&mut self, job: u32) {
        let entry = &self.jobs[job as usize];
        let verdict = self.provider.arrive(self.now, entry.pool, &entry.call, true);
        let attempt = entry.attempt;
        self.record.attempts[attempt].arrived = self.now;
        match verdict {
            Verdict::Started { latency } => {
                self.record.attempts[attempt].fate = Fate::Started;
                self.plan(self.now + latency, Event::Ends(job));
            }
            Verdict::Refused(refused) => {
                let entry = &mut self.record.attempts[attempt];
                (entry.fate, entry.needed, entry.told) =
                    (Fate::Refused(refused.why), refused.needed, refused.told);
                self.jobs[job as usize].refused = Some(refused);
                self.answer(job);
            }
        }
    }

    fn ends(&mut self, job: u32) {
        let entry = &self.jobs[job as usize];
        let pool = entry.pool;
        self.provider.end(self.now, pool, &entry.call);
        self.answer(job);
        if self.clients == Clients::Oracle {
            self.door(pool);
        }
    }

    /// The provider's answer leaves.
    fn answer(&mut self, job: u32) {
        let attempt = self.jobs[job as usize].attempt;
        let (_, back) = call::ways(self.seed, &self.scenario.network, attempt as u64);
        let back = if self.clients == Clients::Oracle { 0 } else { back };
        self.record.attempts[attempt].answered = self.now;
        if let Some(managed) = &mut self.managed {
            let observed = self.provider.headers(self.now, self.jobs[job as usize].pool);
            managed.remember_headers(job, observed);
        }
        self.plan(self.now + back, Event::Heard(job));
    }

    fn heard(&mut self, job: u32) {
        let entry = &mut self.jobs[job as usize];
        self.record.attempts[entry.attempt].heard = self.now;
        let refused = entry.refused.take();
        let final_refusal = matches!(refused, Some(Refused { why: Why::TooLarge(_), .. }));
        let again = refused.is_some() && !final_refusal;
        if self.managed.is_some() {
            let closely = refused.is_some() || self.now < self.watched;
            let read = refused.map(|refused| {
                let (outcome, tripped): (_, Vec<Tripped>) = self.provider.read(refused.why);
                (outcome, tripped, refused.told)
            });
            self.with_budget(|managed, now, jobs, _| managed.report(now, job, &jobs[job as usize], read));
            if let Some(managed) = &mut self.managed {
                self.record.look(self.now, managed.budget(), closely);
            }
            if again {
                self.wants(job);
            }
        } else if let Some(refused) = refused.filter(|_| again) {
            self.jobs[job as usize].tries += 1;
            let wait = self.backoff(job, refused.told);
            self.plan(self.now + wait, Event::Wants(job));
        }
        if !again {
            self.next(job, 0);
        }
    }

    /// What most client libraries do: the wait told if it is at most a minute, else 0.5, 1, 2, 4 and then 8 s, less up to a quarter.
    fn backoff(&self, job: u32, told: Option<Nanos>) -> Nanos {
        const FIRST: Nanos = 500_000_000;
        const TOLD_MAX: Nanos = 60_000_000_000;
        let entry = &self.jobs[job as usize];
        match told.filter(|told| *told <= TOLD_MAX) {
            Some(told) => told,
            None => {
                let whole = FIRST << (entry.tries - 1).min(4);
                whole - call::jitter(self.seed, entry.attempt as u64, whole / 4)
            }
        }
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

    /// Lets those at a pool's door through, as far as the true limits let them.
    fn door(&mut self, pool: usize) {
        while let Some(job) = self.doors.first(pool) {
            let entry = &mut self.jobs[job as usize];
            match self.provider.arrive(self.now, pool, &entry.call, false) {
                Verdict::Started { latency } => {
                    self.doors.leave(pool);
                    (entry.attempt, entry.waits) = (self.record.attempts.len(), false);
                    self.record.attempts.push(Attempt {
                        work: entry.work,
                        asked: entry.asked,
                        sent: self.now,
                        arrived: self.now,
                        answered: Nanos::MAX,
                        heard: Nanos::MAX,
                        fate: Fate::Started,
                        needed: None,
                        told: None,
                        input: entry.call.input,
                        output: entry.call.output,
                    });
                    self.plan(self.now + latency, Event::Ends(job));
                }
                Verdict::Refused(Refused { why: Why::TooLarge(_), .. }) => {
                    self.doors.leave(pool);
                    self.next(job, PAUSE);
                }
                Verdict::Refused(Refused { why, needed, .. }) => {
                    if let Some(at) = self.doors.look_again(pool, self.now, why, needed) {
                        self.plan(at, Event::Door(pool));
                    }
                    return;
                }
            }
        }
    }

    fn finish(mut self) -> Record {
        self.record.unserved =
            self.jobs.iter().filter(|job| job.waits).map(|job| (job.work, job.asked)).collect();
        self.record
    }
}
