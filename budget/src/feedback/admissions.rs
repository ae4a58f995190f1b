//! Whether a provider that has no capacity for some calls still lets others in. Large providers refuse one call in a hundred on quiet
//! days, and most of them for a minute on bad ones; whoever stops for each refusal then gets a fraction of what there is to have. Only
//! where hardly anything gets in is backing off the way to get in sooner.
//!
//! A call that is turned away has used nothing, as far as most providers count: what it was charged is given back, so that as many get in as the
//! limit allows and not as many set out. Where a refusal for a rate follows, they do count there.

use crate::time::Time;

/// So many of the latest 64 calls let in, one in ten, are enough to go on: even where each call has but three chances in ten, there are
/// fewer in one look of fifty thousand (binomial). A provider that lets nobody in any more is seen after 59 calls.
const ENOUGH: u32 = 6;
/// So many of the latest 64 have to get in for more to be sent in place of those that did not: at most five times as many as get in. More
/// would hit a provider in need harder than it helps.
const REPLACED: u32 = 13;
/// Where refused calls turned out to count, they are taken to for so long.
const COUNTED_NANOS: u64 = 3_600_000_000_000;
/// What nothing was heard after for so long says nothing of now: the longest wait of the ladder.
const FORGOTTEN_NANOS: u64 = 60_000_000_000;
/// Refusals that are no further apart than this are of one row.
const ROW_NANOS: u64 = 10_000_000_000;

/// What became of the latest calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admissions {
    /// A bit for each, set if it was let in; the latest is the lowest.
    calls: u64,
    heard: Time,
    /// When the first and the latest refusal of a row were heard of.
    row: Option<(Time, Time)>,
    /// When the charge of one that was turned away was last given back.
    gave_back: Option<Time>,
    /// Until when they are taken to count.
    count_until: Time,
}

impl Admissions {
    /// A call that was granted at `granted` worked. One from before a row of refusals was let in when there was no lack of capacity, and says
    /// nothing of now, however long it took.
    #[inline]
    pub(crate) fn let_in(&mut self, granted: Time, now: Time) {
        let is_old =
            self.row.is_some_and(|(first, last)| granted <= first && now.nanos_since(last) <= ROW_NANOS);
        if !is_old {
            self.note(true, now);
        }
    }

    /// A call was refused for lack of capacity.
    pub(crate) fn turned_away(&mut self, now: Time) {
        let goes_on = self.row.filter(|(_, last)| now.nanos_since(*last) <= ROW_NANOS);
        self.row = Some((goes_on.map_or(now, |(first, _)| first), now));
        self.note(false, now);
    }

    /// A call was turned away: whether what it was charged is given back.
    pub(crate) fn gives_back(&mut self, now: Time) -> bool {
        let gives = self.calls.count_ones() >= REPLACED && now >= self.count_until;
        if gives {
            self.gave_back = Some(now);
        }
        gives
    }

    /// The provider refused a call for a rate: whether that says that those count which it turned away.
    pub(crate) fn seem_to_count(&mut self, now: Time) -> bool {
        let count = self.gave_back.take().is_some_and(|last| now.nanos_since(last) <= ROW_NANOS);
        if count {
            self.count_until = now.plus_nanos(COUNTED_NANOS);
        }
        count
    }

    #[inline]
    fn note(&mut self, let_in: bool, now: Time) {
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

    /// So many calls that were let in at once.
    fn let_in(admissions: &mut Admissions, calls: usize, now: Time) {
        for _ in 0..calls {
            admissions.let_in(now, now);
        }
    }

    fn enough_after_refusal(admissions: &mut Admissions, now: Time) -> bool {
        admissions.turned_away(now);
        admissions.are_enough()
    }

    /// Goal: one refusal among many calls is no reason to stop, nor are seven in ten; refusals alone are, and so are those after silence.
    #[test]
    fn what_gets_in_is_enough() {
        let mut admissions = Admissions::default();
        assert!(!enough_after_refusal(&mut admissions, at(1)), "the first that is heard of");
        let_in(&mut admissions, 6, at(2));
        assert!(enough_after_refusal(&mut admissions, at(3)));
        for call in 0..640 {
            match call % 10 {
                0..3 => let_in(&mut admissions, 1, at(4)),
                _ => assert!(enough_after_refusal(&mut admissions, at(4)), "call {call}"),
            }
        }
        for _ in 0..59 {
            admissions.turned_away(at(5));
        }
        assert!(!admissions.are_enough());

        let_in(&mut admissions, 64, at(6));
        assert!(enough_after_refusal(&mut admissions, at(66)));
        assert!(!enough_after_refusal(&mut admissions, at(127)), "a minute of silence");
    }

    /// Goal: what was turned away is given back while one in five gets in, until a refusal for a rate soon after says that it counted.
    #[test]
    fn what_was_turned_away_did_not_count() {
        let mut admissions = Admissions::default();
        assert!(!admissions.gives_back(at(1)), "nothing got in that is known of");
        let_in(&mut admissions, 13, at(1));
        assert!(admissions.gives_back(at(1)));
        assert!(!admissions.seem_to_count(at(12)), "too long after");
        assert!(admissions.gives_back(at(12)));
        assert!(admissions.seem_to_count(at(13)));
        assert!(!admissions.seem_to_count(at(13)), "once");
        assert!(!admissions.gives_back(at(3_612)));
        assert!(admissions.gives_back(at(3_613)));
        for _ in 0..52 {
            admissions.turned_away(at(3_613));
        }
        assert!(!admissions.gives_back(at(3_613)), "one in six gets in: sending more is no help");
    }

    /// Goal: calls that take a minute and were let in before nobody was any more do not keep others going.
    #[test]
    fn old_calls_say_nothing() {
        let mut admissions = Admissions::default();
        let_in(&mut admissions, 64, at(60));
        let mut refused = 0;
        while enough_after_refusal(&mut admissions, at(61)) {
            refused += 1;
            admissions.let_in(at(1), at(61));
            assert!(refused < 64, "they still count");
        }
        // Once it is over, they count as any.
        admissions.let_in(at(60), at(100));
        assert_eq!(admissions.calls & 1, 1);
    }
}
