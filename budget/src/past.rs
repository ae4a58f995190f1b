//! The last refusals, ours and the provider's, for whoever asks why. Bounded, and repeats are counted in one entry, so that a storm
//! leaves room for what came before it.

use std::{collections::VecDeque, time::Duration};

use crate::{outcome::Outcome, refusal::Refusal, time::Time};

/// Entries of each kind.
pub const PAST_MAX: usize = 16;

/// Something that happened, and perhaps happened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// What.
    pub what: T,
    /// When it happened first.
    pub first: Time,
    /// When it happened last.
    pub last: Time,
    /// How often.
    pub times: u64,
}

/// A request that got no permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRefusal {
    /// Whose request it was.
    pub tenant: String,
    /// What it was told, with the wait of the last time.
    pub refusal: Refusal,
}

/// A call that the provider refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAnswer {
    /// Its class.
    pub outcome: Outcome,
    /// The model called, or empty.
    pub model: String,
    /// The wait that the provider asked for, if it did.
    pub retry_after: Option<Duration>,
    /// The limits that were frozen once it was heard of.
    pub froze: Vec<String>,
    /// Until when they, or the whole budget, were to grant nothing.
    pub frozen_until: Option<Time>,
}

/// The newest of what happened.
#[derive(Debug)]
pub(crate) struct Past<T>(VecDeque<Seen<T>>);

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Past<T> {
    /// Something happened: again, if `is_same` knows an entry, which then hears of it by `again`.
    pub(crate) fn note(
        &mut self,
        now: Time,
        is_same: impl Fn(&T) -> bool,
        again: impl FnOnce(&mut T),
        new: impl FnOnce() -> T,
    ) {
        if let Some(at) = self.0.iter().rposition(|seen| is_same(&seen.what)) {
            let mut seen = self.0.remove(at).expect("just found");
            (seen.last, seen.times) = (now, seen.times + 1);
            again(&mut seen.what);
            self.0.push_back(seen);
            return;
        }
        if self.0.len() == PAST_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Seen { what: new(), first: now, last: now, times: 1 });
    }
}

impl<T: Clone> Past<T> {
    /// The newest first.
    pub(crate) fn newest(&self) -> Vec<Seen<T>> {
        self.0.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(past: &mut Past<u64>, now: u64, what: u64) {
        past.note(Time::from_nanos(now), |known| *known == what, |_| (), || what);
    }

    /// Goal: a storm of one thing is one entry, and the oldest make room for others.
    #[test]
    fn repeats_are_one_entry() {
        let mut past = Past::default();
        note(&mut past, 1, 100);
        (2..1_000).for_each(|now| note(&mut past, now, 7));
        note(&mut past, 1_000, 100);
        let newest = past.newest();
        assert_eq!(newest.len(), 2);
        assert_eq!((newest[0].what, newest[0].times, newest[0].first), (100, 2, Time::from_nanos(1)));
        assert_eq!((newest[1].what, newest[1].times, newest[1].last), (7, 998, Time::from_nanos(999)));
        (0..100).for_each(|what| note(&mut past, 2_000 + what, 1_000 + what));
        let newest: Vec<u64> = past.newest().into_iter().map(|seen| seen.what).collect();
        assert_eq!(newest, (1_084..1_100).rev().collect::<Vec<_>>());
    }
}
