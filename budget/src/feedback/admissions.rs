//! Whether a provider that has no capacity for some calls still lets others in. Large providers refuse one call in a hundred on quiet
//! days, and most of them for a minute on bad ones; whoever stops for each refusal then gets a fraction of what there is to have. Only
//! where hardly anything gets in is backing off the way to get in sooner.

use crate::time::Time;

/// So many of the latest 64 calls let in, one in ten, are enough to go on: even where each call has but three chances in ten, there are
/// fewer in one look of fifty thousand (binomial). A provider that lets nobody in any more is seen after 59 calls.
const ENOUGH: u32 = 6;
/// What nothing was heard after for so long says nothing of now: the longest wait of the ladder.
const FORGOTTEN_NANOS: u64 = 60_000_000_000;

/// What became of the latest calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admissions {
    /// A bit for each, set if it was let in; the latest is the lowest.
    calls: u64,
    heard: Time,
}

impl Admissions {
    /// One more was heard of.
    #[inline]
    pub(crate) fn note(&mut self, let_in: bool, now: Time) {
        if now.nanos_since(self.heard) > FORGOTTEN_NANOS {
            self.calls = 0;
        }
        self.calls = self.calls << 1 | u64::from(let_in);
        self.heard = now;
    }

    /// Whether enough calls get in to go on sending them.
    pub(crate) fn are_enough(self) -> bool {
        self.calls.count_ones() >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// Goal: one refusal among many calls is no reason to stop, nor are seven in ten; refusals alone are, and so are those after silence.
    #[test]
    fn what_gets_in_is_enough() {
        let mut admissions = Admissions::default();
        let enough_after = |admissions: &mut Admissions, let_in: bool, now: Time| {
            admissions.note(let_in, now);
            admissions.are_enough()
        };
        assert!(!enough_after(&mut admissions, false, at(1)), "the first that is heard of");
        for _ in 0..8 {
            admissions.note(true, at(2));
        }
        assert!(enough_after(&mut admissions, false, at(3)));
        for call in 0..640 {
            assert!(enough_after(&mut admissions, call % 10 < 3, at(4)), "call {call}");
        }
        for _ in 0..59 {
            admissions.note(false, at(5));
        }
        assert!(!admissions.are_enough());

        for _ in 0..64 {
            admissions.note(true, at(6));
        }
        assert!(enough_after(&mut admissions, false, at(66)));
        assert!(!enough_after(&mut admissions, false, at(127)), "a minute of silence");
    }
}
