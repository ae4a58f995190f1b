//! A provider's rule against steep growth: in every window at most so many times the calls of the window before, beyond what is
//! always free.

use super::file::Ramp;
use crate::provider::buckets::Nanos;

/// What was let through lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    rule: Ramp,
    window: u64,
    before: u64,
    now: u64,
}

impl Growth {
    pub(super) fn new(rule: Ramp) -> Self {
        Self { rule, window: 0, before: 0, now: 0 }
    }

    /// Whether one more call would be growth that the rule allows.
    pub(super) fn allows(&mut self, at: Nanos) -> bool {
        let window = at / self.rule.window.0;
        if window != self.window {
            self.before = if window == self.window + 1 { self.now } else { 0 };
            (self.window, self.now) = (window, 0);
        }
        let most = (self.before as f64 * self.rule.growth) as u64;
        self.now < most.max(self.rule.free)
    }

    /// Counts a call that was let through, after [`Growth::allows`].
    pub(super) fn count(&mut self) {
        self.now += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file::Span;

    /// Goal: ten are free, then half as many again in each window, and idle windows start it anew.
    #[test]
    fn grows_by_half_in_each_window_and_starts_anew_after_idle_ones() {
        let rule = Ramp { window: Span(10), growth: 1.5, free: 10 };
        let mut growth = Growth::new(rule);
        let mut let_through = |window: u64| {
            let mut count = 0;
            while growth.allows(window * 10) {
                growth.count();
                count += 1;
            }
            count
        };
        assert_eq!([0, 1, 2, 3].map(&mut let_through), [10, 15, 22, 33]);
        assert_eq!(let_through(5), 10);
    }
}
