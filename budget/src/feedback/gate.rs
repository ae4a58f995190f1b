//! Holding grants back after a refusal, of one limit or of a whole budget. A gate that no wait was given for opens slowly: one grant
//! goes first as a probe, and while nothing is heard of it, twice as many as before with every second.

use std::time::Duration;

use super::jitter::Jitter;
use crate::{
    saved::{Resumed, SavedGate},
    time::Time,
};

/// Longer waits are not believed.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// The wait for the n-th refusal in a row where the provider gives none: 1, 2, 4 ... 60 s.
const LADDER_SECONDS: [u64; 7] = [1, 2, 4, 8, 16, 32, 60];
/// How long a probe is waited for before more go: refusals come back sooner, successes of long calls later.
const PATIENCE_NANOS: u64 = 1_000_000_000;
/// After so many doublings the gate is as good as open.
const DOUBLINGS: u64 = 10;

/// Whether grants may pass, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    frozen_until: Time,
    /// Refusals in a row, each of a call that was sent after the one before it was heard of.
    in_a_row: u32,
    /// When the latest event was heard of.
    heard: Option<Time>,
    /// Grants since the gate thawed, while it opens slowly.
    probing: Option<u64>,
    /// Events that froze it.
    freezes: u64,
}

impl Gate {
    /// When the next grant may pass, if that is not now.
    #[inline]
    pub(crate) fn closed_until(&self, now: Time) -> Option<Time> {
        if self.frozen_until > now {
            return Some(self.frozen_until);
        }
        let passed = self.probing?;
        // 1 at once, 3 after a second, 7 after two ...
        let steps = u64::from((passed + 1).ilog2()).min(DOUBLINGS);
        let next = self.frozen_until.plus_nanos(steps * PATIENCE_NANOS);
        (next > now && steps < DOUBLINGS).then_some(next)
    }

    /// To be written down.
    pub(crate) fn saved(&self) -> SavedGate {
        let Self { frozen_until, in_a_row, heard, probing, freezes: _ } = *self;
        SavedGate { frozen_until, in_a_row, heard, probing }
    }

    /// As it was written down.
    pub(crate) fn restored(saved: &SavedGate, back: &Resumed) -> Self {
        let SavedGate { frozen_until, in_a_row, heard, probing } = *saved;
        Self {
            frozen_until: back.moved(frozen_until),
            in_a_row,
            heard: heard.map(|heard| back.moved(heard)),
            probing,
            freezes: 0,
        }
    }

    /// Until when it is frozen, if it is.
    pub(crate) fn frozen(&self, now: Time) -> Option<Time> {
        (self.frozen_until > now).then_some(self.frozen_until)
    }

    /// When the latest freeze ends, or ended.
    #[inline]
    pub(crate) fn thawed(&self) -> Time {
        self.frozen_until
    }

    /// A grant passes.
    #[inline]
    pub(crate) fn pass(&mut self) {
        if let Some(passed) = &mut self.probing {
            *passed = passed.saturating_add(1);
        }
    }

    /// Whether a refusal of a call that was granted at `granted` says more than the last one did. Those that were under way
    /// together with it do not.
    pub(crate) fn is_news(&self, granted: Time) -> bool {
        self.heard.is_none_or(|heard| granted > heard)
    }

    /// A call that was granted at `granted` was refused, and the provider asked for a wait or gave none. With `probe`, even a given
    /// wait ends with one grant that goes first.
    pub(crate) fn refuse(
        &mut self,
        given: Option<Duration>,
        probe: bool,
        (granted, now): (Time, Time),
        jitter: &mut Jitter,
    ) {
        let news = self.is_news(granted);
        if news {
            self.heard = Some(now);
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.freezes += 1;
        }
        let wait = match given {
            Some(given) => given.min(WAIT_MAX),
            None if news => {
                let rung = LADDER_SECONDS[(self.in_a_row as usize - 1).min(LADDER_SECONDS.len() - 1)];
                Duration::from_millis(rung * 10 * jitter.between(80, 120))
            }
            None => return,
        };
        let until = now + wait;
        if until >= self.frozen_until {
            self.frozen_until = until;
            self.probing = (probe || given.is_none()).then_some(0);
        }
    }

    /// A call that was granted at `granted` worked: whatever it was has passed, if the call went after it.
    #[inline]
    pub(crate) fn succeed(&mut self, granted: Time) {
        if self.in_a_row > 0 && self.is_news(granted) && granted >= self.frozen_until {
            self.in_a_row = 0;
            self.probing = None;
        }
    }

    /// An administrator says that all is well.
    pub(crate) fn open(&mut self) {
        *self = Self { freezes: self.freezes, ..Self::default() };
    }

    /// How often it was frozen; a burst of refusals counts once.
    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    /// When the last freeze ended, or will; zero if there was none.
    pub(crate) fn thaws(&self) -> Time {
        self.frozen_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn refused(gate: &mut Gate, given: Option<u64>, granted: u64, now: u64) -> Option<Time> {
        let given = given.map(Duration::from_secs);
        gate.refuse(given, false, (at(granted), at(now)), &mut Jitter::default());
        gate.frozen(at(now))
    }

    /// Goal: fifty refusals of calls that were under way together climb one rung.
    #[test]
    fn a_burst_is_one_event() {
        let mut gate = Gate::default();
        let first = refused(&mut gate, None, 0, 1).expect("a refusal freezes").since(at(1));
        assert!((Duration::from_millis(800)..=Duration::from_millis(1200)).contains(&first), "{first:?}");
        let frozen = gate.frozen_until;
        for _ in 0..50 {
            assert_eq!(refused(&mut gate, None, 0, 1), Some(frozen));
        }
        let second = refused(&mut gate, None, 3, 4).expect("a refusal of a later call is news").since(at(4));
        assert!((Duration::from_millis(1600)..=Duration::from_millis(2400)).contains(&second), "{second:?}");
    }

    /// Goal: a success of a later call starts the ladder anew; one of a call that was under way does not.
    #[test]
    fn success_ends_the_row() {
        let mut gate = Gate::default();
        refused(&mut gate, None, 0, 1);
        gate.succeed(at(0));
        assert_eq!(gate.in_a_row, 1);
        gate.succeed(at(3));
        assert_eq!(gate.in_a_row, 0);
    }

    /// Goal: a wait that was given is kept, up to a day, and the longest of several holds.
    #[test]
    fn given_waits_are_kept_up_to_a_day() {
        let mut gate = Gate::default();
        assert_eq!(refused(&mut gate, Some(7), 0, 1), Some(at(8)));
        assert_eq!(refused(&mut gate, Some(3), 0, 2), Some(at(8)));
        assert_eq!(refused(&mut gate, Some(u64::MAX), 0, 1), Some(at(86_401)));
    }

    /// Goal: where no wait was given, one goes first, then two a second later, then four; a success opens the gate.
    #[test]
    fn opens_slowly() {
        let mut gate = Gate::default();
        let thaw = refused(&mut gate, None, 0, 0).expect("frozen");
        let mut passed_at = Vec::new();
        for millis in 0..3_500 {
            let now = thaw + Duration::from_millis(millis);
            while gate.closed_until(now).is_none() {
                gate.pass();
                passed_at.push(millis);
            }
        }
        assert_eq!(passed_at, [[0].as_slice(), &[1_000; 2], &[2_000; 4], &[3_000; 8]].concat());
        gate.succeed(thaw);
        assert_eq!(gate.closed_until(thaw), None);
        gate.pass();
        assert_eq!(gate.closed_until(thaw), None);
    }
}
