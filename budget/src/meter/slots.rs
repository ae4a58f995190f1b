//! So many at once.

/// Parts are units.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(super) amount: u64,
    used: u64,
}

impl Slots {
    pub(super) fn new(amount: u64) -> Self {
        Self { amount, used: 0 }
    }

    pub(super) fn available(&self) -> i128 {
        i128::from(self.amount) - i128::from(self.used)
    }

    pub(super) fn take(&mut self, units: u64) {
        self.used = self.used.saturating_add(units);
    }

    pub(super) fn give_back(&mut self, units: u64) {
        self.used = self.used.saturating_sub(units);
    }

    pub(super) fn take_over(&mut self, old: &Slots) {
        self.used = old.used;
    }
}
