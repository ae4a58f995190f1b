//! What a limit had granted at moments of the last minute, so that a `remaining` header, which is as old as the call that brings it,
//! can be compared with what has been granted since.

use std::collections::VecDeque;

use crate::time::Time;

/// Moments that are kept, and the least time between two: a little more than a minute in all.
const MOMENTS_MAX: usize = 256;
const SPACING_NANOS: u64 = 250_000_000;

/// Units granted, net, at some moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<(Time, i128)>);

impl History {
    /// `net` is about to change.
    pub(crate) fn note(&mut self, net: i128, now: Time) {
        if self.0.back().is_some_and(|(latest, _)| now.nanos_since(*latest) < SPACING_NANOS) {
            return;
        }
        if self.0.len() == MOMENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, net));
    }

    /// What was granted between `then` and the moment at which `net` holds: rather a little too much than too little. `None` if that is
    /// too long ago.
    pub(crate) fn granted_since(&self, then: Time, net: i128) -> Option<i128> {
        let after = self.0.partition_point(|(at, _)| *at <= then);
        let (_, before) = self.0.get(after.checked_sub(1)?)?;
        Some(net - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what was granted since is known to a quarter of a second, and never underestimated.
    #[test]
    fn knows_what_was_granted_since() {
        let mut history = History::default();
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        for millis in 0..100_000 {
            history.note(i128::from(millis), at(millis));
        }
        for millis in (40_000..100_000).step_by(77) {
            let since = history.granted_since(at(millis), 100_000).expect("within a minute");
            let exact = 100_000 - i128::from(millis);
            assert!((exact..=exact + 250).contains(&since), "{since} since {millis}");
        }
        assert_eq!(history.granted_since(at(10_000), 100_000), None);
    }
}
