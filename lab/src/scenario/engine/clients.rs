//! What happens at the clients: calls want to go, are let go by whoever decides that, and hear how they went.

use super::{Engine, Event, Job, PAUSE};
use crate::{
    provider::buckets::Nanos,
    scenario::{
        call,
        expect::Clients,
        file::Scenario,
        managed::Managed,
        record::Attempt,
        simulated::{Refused, Why},
    },
};

impl Engine<'_> {
    pub(super) fn wants(&mut self, job: u32) {
        self.jobs[job as usize].waits = true;
        let stranger = self.scenario.work[self.jobs[job as usize].work].stranger;
        match self.clients {
            Clients::Managed if stranger => self.send(job),
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
    pub(super) fn with_budget(&mut self, act: impl FnOnce(&mut Managed, Nanos, &[Job], &Scenario)) {
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

    pub(super) fn send(&mut self, job: u32) {
        let number = self.record.attempts.len();
        let entry = &mut self.jobs[job as usize];
        let is_first = entry.is_first && entry.attempt == usize::MAX;
        let (there, _) = call::ways(self.seed, &self.scenario.network, number as u64, is_first);
        (entry.attempt, entry.waits) = (number, false);
        self.record.attempts.push(Attempt::new(entry.work, entry.asked, self.now, &entry.call));
        self.plan(self.now + there, Event::Arrives(job));
    }

    pub(super) fn heard(&mut self, job: u32) {
        let entry = &mut self.jobs[job as usize];
        self.record.attempts[entry.attempt].heard = self.now;
        let refused = entry.refused.take();
        let final_refusal = matches!(refused, Some(Refused { why: Why::TooLarge(_), .. }));
        let again = refused.is_some() && !final_refusal;
        if self.jobs[job as usize].permit.is_some() {
            let closely = refused.is_some() || self.now < self.watched;
            let read = refused.map(|refused| {
                let (outcome, tripped) = self.provider.read(refused.why);
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
    pub(super) fn backoff(&self, job: u32, told: Option<Nanos>) -> Nanos {
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
}
