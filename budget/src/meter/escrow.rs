//! How much of a meter may be taken before what is left is written down again: a write sets some units aside, as if they were
//! taken already, so that whoever starts from it after a crash grants nothing twice. A request that takes more waits for the next
//! write; the next one is asked for when half of it is gone, so that this is seldom.

/// What has been set aside, in units. By default everything: nothing is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escrow {
    /// What may still be taken, whichever of the writes under way is the last to survive.
    left: u64,
    /// With less left, it is time to write.
    low: u64,
    /// Taken since the latest write was begun.
    taken: u64,
    /// What the latest write sets aside.
    set_aside: u64,
    /// The most that a request which waits for a write needs.
    wanted: u64,
}

/// Everything that there is: no write sets aside more, so none has to be waited for.
pub(crate) const ALL: u64 = u64::MAX;

impl Default for Escrow {
    fn default() -> Self {
        Self { left: ALL, low: 0, taken: 0, set_aside: ALL, wanted: 0 }
    }
}

impl Escrow {
    /// Nothing may be taken before a write.
    pub(crate) const CLOSED: Self = Self { left: 0, low: 0, taken: 0, set_aside: 0, wanted: 0 };

    /// Whether so much may be taken.
    pub(crate) fn covers(&self, units: u64) -> bool {
        units <= self.left
    }

    /// Whether it is time for a write.
    pub(crate) fn is_low(&self) -> bool {
        self.left < self.low
    }

    pub(crate) fn take(&mut self, units: u64) {
        if self.left != ALL {
            self.left = self.left.saturating_sub(units);
        }
        self.taken = self.taken.saturating_add(units);
    }

    /// A request waits until so much is set aside.
    pub(crate) fn want(&mut self, units: u64) {
        self.wanted = self.wanted.max(units);
    }

    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Whether nothing was taken since the latest write, and nothing more is wanted.
    pub(crate) fn is_idle(&self) -> bool {
        self.taken == 0 && self.wanted == 0
    }

    /// A write begins that sets so much aside. Until it is known to have come to its end, the one before may be the last.
    pub(crate) fn begin(&mut self, set_aside: u64) {
        *self = Self { left: self.left.min(set_aside), taken: 0, set_aside, wanted: 0, ..*self };
    }

    /// The latest write has come to its end.
    pub(crate) fn confirm(&mut self) {
        (self.left, self.low) = match self.set_aside {
            ALL => (ALL, 0),
            set_aside => (set_aside.saturating_sub(self.taken), set_aside / 2),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whichever of two writes survives, no more is taken since than it set aside.
    #[test]
    fn holds_for_every_write_under_way() {
        let mut escrow = Escrow::CLOSED;
        assert!(!escrow.covers(1) && escrow.covers(0));
        escrow.begin(10);
        assert!(!escrow.covers(1), "the write may still fail");
        escrow.confirm();
        escrow.take(4);
        assert!(escrow.covers(6) && !escrow.covers(7) && !escrow.is_low());
        escrow.begin(100);
        escrow.take(3);
        assert!(escrow.covers(3) && !escrow.covers(4), "the first write may be the last");
        assert!(escrow.is_low());
        escrow.confirm();
        assert!(escrow.covers(97) && !escrow.covers(98), "3 of the second one are gone");
        escrow.begin(0);
        assert!(!escrow.covers(1), "the last write sets nothing aside");
    }

    /// Goal: what counts everything as taken bounds nothing.
    #[test]
    fn all_is_without_bound() {
        let mut escrow = Escrow::default();
        escrow.take(u64::MAX);
        assert!(escrow.covers(u64::MAX) && !escrow.is_low());
        escrow.begin(5);
        escrow.confirm();
        assert!(escrow.covers(5) && !escrow.covers(6));
        escrow.begin(ALL);
        escrow.confirm();
        assert!(escrow.covers(u64::MAX));
    }
}
