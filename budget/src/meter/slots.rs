//! So many at once. After a crash some may be taken by permits that nobody knows of: those slots are in doubt until the permits are
//! reported, or must have ended.

use crate::time::Time;

/// Parts are units.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(super) amount: u64,
    used: u64,
    /// Slots in doubt, and until when.
    doubt: Option<(u64, Time)>,
}

impl Slots {
    pub(super) fn new(amount: u64) -> Self {
        Self { amount, used: 0, doubt: None }
    }

    pub(super) fn advance(&mut self, now: Time) {
        self.doubt = self.doubt.filter(|(slots, until)| *slots > 0 && *until > now);
    }

    pub(super) fn available(&self) -> i128 {
        let doubted = self.doubt.map_or(0, |(slots, _)| slots);
        i128::from(self.amount) - i128::from(self.used) - i128::from(doubted)
    }

    pub(super) fn take(&mut self, units: u64) {
        self.used = self.used.saturating_add(units);
    }

    pub(super) fn give_back(&mut self, units: u64) {
        self.used = self.used.saturating_sub(units);
    }

    pub(super) fn take_over(&mut self, old: &Slots) {
        (self.used, self.doubt) = (old.used, old.doubt);
    }

    /// So many may be taken besides those that are known, until then.
    pub(super) fn doubt(&mut self, slots: u64, until: Time) {
        self.doubt = Some((slots, until));
    }

    /// One of the permits in doubt has certainly ended.
    pub(super) fn end_doubt(&mut self) {
        if let Some((slots, _)) = &mut self.doubt {
            *slots = slots.saturating_sub(1);
        }
    }

    pub(super) fn doubted(&self) -> Option<(u64, Time)> {
        self.doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Goal: what is in doubt after a crash comes back as permits are reported, and all of it with time.
    #[test]
    fn doubts_end() {
        let mut slots = Slots::new(10);
        slots.take(4);
        slots.doubt(3, at(50));
        assert_eq!(slots.available(), 3);
        slots.end_doubt();
        assert_eq!(slots.available(), 4);
        slots.advance(at(49));
        assert_eq!(slots.doubted(), Some((2, at(50))));
        slots.advance(at(50));
        assert_eq!(slots.available(), 6);
        slots.end_doubt();
        assert_eq!(slots.available(), 6, "there is no doubt any more");
    }
}
