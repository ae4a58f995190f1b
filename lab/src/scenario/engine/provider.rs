//! What happens at the provider: its changes, calls that arrive and end, and those that wait at its door.

use super::{Change, Engine, Event, LOOK_CLOSELY, PAUSE};
use crate::scenario::{
    call,
    expect::Clients,
    record::{Attempt, Fate},
    simulated::{Refused, Verdict, Why},
};

impl Engine<'_> {
    pub(super) fn change(&mut self, at: usize) {
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

    pub(super) fn arrives(&mut self, job: u32) {
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

    pub(super) fn ends(&mut self, job: u32) {
        let entry = &self.jobs[job as usize];
        let pool = entry.pool;
        self.provider.end(self.now, pool, &entry.call);
        self.answer(job);
        if self.clients == Clients::Oracle {
            self.door(pool);
        }
    }

    /// The provider's answer leaves.
    pub(super) fn answer(&mut self, job: u32) {
        let attempt = self.jobs[job as usize].attempt;
        let (_, back) = call::ways(self.seed, &self.scenario.network, attempt as u64, false);
        let back = if self.clients == Clients::Oracle { 0 } else { back };
        self.record.attempts[attempt].answered = self.now;
        if let Some(managed) = &mut self.managed {
            let observed = self.provider.headers(self.now, self.jobs[job as usize].pool);
            managed.remember_headers(job, observed);
        }
        self.plan(self.now + back, Event::Heard(job));
    }

    /// Lets those at a pool's door through, as far as the true limits let them.
    pub(super) fn door(&mut self, pool: usize) {
        while let Some(job) = self.doors.first(pool) {
            let entry = &mut self.jobs[job as usize];
            match self.provider.arrive(self.now, pool, &entry.call, false) {
                Verdict::Started { latency } => {
                    self.doors.leave(pool);
                    (entry.attempt, entry.waits) = (self.record.attempts.len(), false);
                    let attempt = Attempt::new(entry.work, entry.asked, self.now, &entry.call);
                    self.record.attempts.push(Attempt { arrived: self.now, fate: Fate::Started, ..attempt });
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
}
