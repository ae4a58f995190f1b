//! A window that starts from zero at fixed instants. Within each window at most `amount` is granted; what was used beyond it (by
//! late debits) is taken from the windows that follow.

use crate::{saved::Resumed, time::Time};

/// Parts are units.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    pub(super) amount: u64,
    pub(super) per: u64,
    /// Where windows begin, modulo `per`.
    offset: u64,
    /// The number of the current window.
    window: u64,
    used: u128,
    /// No more than this counts: two windows' amounts, so that debt is at most one.
    pub(super) used_max: u128,
}

impl Fixed {
    pub(super) fn new(amount: u64, per: u64, phase: Time, now: Time) -> Self {
        let mut fixed = Self {
            amount,
            per,
            offset: phase.as_nanos() % per,
            window: 0,
            used: 0,
            used_max: u128::from(amount) * 2,
        };
        fixed.window = fixed.window_of(now);
        fixed
    }

    pub(super) fn advance(&mut self, now: Time) {
        let window = self.window_of(now);
        if window > self.window {
            let repaid = u128::from(self.amount).saturating_mul(u128::from(window - self.window));
            self.used = self.used.saturating_sub(repaid);
            self.window = window;
        }
    }

    pub(super) fn available(&self) -> i128 {
        i128::from(self.amount) - i128::try_from(self.used).unwrap_or(i128::MAX)
    }

    pub(super) fn ready_at(&self, parts: i128) -> Time {
        let missing = (parts - self.available()).unsigned_abs();
        let windows = u64::try_from(missing.div_ceil(u128::from(self.amount))).unwrap_or(u64::MAX);
        self.begin_of(self.window.saturating_add(windows))
    }

    pub(super) fn gain_until(&self, then: Time) -> i128 {
        let windows = self.window_of(then).saturating_sub(self.window);
        let repaid = u128::from(self.amount).saturating_mul(u128::from(windows));
        i128::try_from(repaid.min(self.used)).unwrap_or(i128::MAX)
    }

    pub(super) fn take(&mut self, taken: Time, units: u64) {
        if self.window_of(taken) < self.window {
            return;
        }
        let most = self.used_max.max(self.used);
        self.used = (self.used + u128::from(units)).min(most);
    }

    pub(super) fn give_back(&mut self, taken: Time, units: u64) {
        if self.window_of(taken) == self.window {
            self.used = self.used.saturating_sub(u128::from(units));
        }
    }

    pub(super) fn used(&self) -> u128 {
        self.used
    }

    /// Goes on from what was used as it stood at `then`, on a clock that may have been set since: what has been repaid is the least
    /// that either clock makes of it.
    pub(super) fn restore(&mut self, then: Time, back: &Resumed, used: u128) {
        let by_old = self.window_of(back.by_old_clock).saturating_sub(self.window_of(then));
        let by_new = self.window_of(back.now).saturating_sub(self.window_of(back.moved(then)));
        self.window = self.window_of(back.now).saturating_sub(by_old.min(by_new));
        self.used = used;
    }

    pub(super) fn lower_to(&mut self, parts: i128) {
        let used = (i128::from(self.amount) - parts).max(0).unsigned_abs();
        self.used = self.used.max(used.min(self.used_max));
    }

    pub(super) fn is_in_window(&self, time: Time) -> bool {
        self.window_of(time) == self.window
    }

    pub(super) fn take_over(&mut self, old: &Fixed, now: Time) {
        // A phase that has just become known starts counting anew only when its first window does.
        self.window = self.window_of(now);
        self.used = old.used;
    }

    fn window_of(&self, time: Time) -> u64 {
        // One window is added so that instants before the first phase have a number too.
        time.as_nanos().saturating_add(self.per - self.offset) / self.per
    }

    fn begin_of(&self, window: u64) -> Time {
        Time::from_nanos(window.saturating_mul(self.per).saturating_sub(self.per - self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Goal: windows begin at the phase, and debt reaches into the next one.
    #[test]
    fn counts_by_window() {
        let mut fixed = Fixed::new(10, 100, at(1030), at(1035));
        fixed.take(at(1035), 10);
        assert_eq!(fixed.available(), 0);
        assert_eq!(fixed.ready_at(4), at(1130));
        fixed.take(at(1036), 3);
        fixed.advance(at(1129));
        assert_eq!(fixed.available(), -3);
        fixed.advance(at(1130));
        assert_eq!(fixed.available(), 7);
        assert_eq!(fixed.ready_at(8), at(1230));
        fixed.give_back(at(1035), 5);
        assert_eq!(fixed.available(), 7, "what was taken in an earlier window does not come back");
        fixed.give_back(at(1130), 2);
        assert_eq!(fixed.available(), 9);
    }
}
