//! Never more than `amount` in any stretch of `per`. What was taken within one 1,024th of `per` is kept as one entry and leaves
//! the window `per` after the latest of it, so an idle meter holds nothing and a busy one at most 1,025 entries; the bound is exact, and
//! what comes back comes at most `per / 1024` late.

use std::collections::VecDeque;

use crate::time::Time;

const ENTRIES: u64 = 1024;

/// Parts are units.
#[derive(Clone, Debug)]
pub(crate) struct Sliding {
    pub(super) amount: u64,
    pub(super) per: u64,
    /// What still counts, the oldest first.
    entries: VecDeque<Entry>,
    used: u128,
    /// No more than this counts: two windows' amounts, so that debt is at most one.
    pub(super) used_max: u128,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: u64,
    latest: Time,
    used: u128,
}

impl Sliding {
    pub(super) fn new(amount: u64, per: u64) -> Self {
        Self { amount, per, entries: VecDeque::new(), used: 0, used_max: u128::from(amount) * 2 }
    }

    pub(super) fn advance(&mut self, now: Time) {
        while let Some(oldest) = self.entries.front()
            && self.leaves(oldest) <= now
        {
            self.used -= oldest.used;
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    pub(super) fn available(&self) -> i128 {
        i128::from(self.amount) - i128::try_from(self.used).unwrap_or(i128::MAX)
    }

    pub(super) fn ready_at(&self, now: Time, parts: i128) -> Time {
        let mut available = self.available();
        let mut latest = now;
        for entry in &self.entries {
            available = available.saturating_add(i128::try_from(entry.used).unwrap_or(i128::MAX));
            latest = self.leaves(entry);
            if available >= parts {
                return latest;
            }
        }
        // More than one window's amount: whole windows on top.
        let windows = (parts - available).unsigned_abs().div_ceil(u128::from(self.amount));
        latest.plus_nanos(self.per.saturating_mul(u64::try_from(windows).unwrap_or(u64::MAX)))
    }

    pub(super) fn gain_until(&self, then: Time) -> i128 {
        self.entries
            .iter()
            .take_while(|entry| self.leaves(entry) <= then)
            .map(|entry| i128::try_from(entry.used).unwrap_or(i128::MAX))
            .sum()
    }

    pub(super) fn take(&mut self, now: Time, units: u64) {
        let most = self.used_max.max(self.used);
        self.add(now, u128::from(units).min(most - self.used));
    }

    pub(super) fn give_back(&mut self, taken: Time, units: u64) {
        let slot = self.slot_of(taken);
        if let Ok(at) = self.entries.binary_search_by_key(&slot, |entry| entry.slot) {
            let back = u128::from(units).min(self.entries[at].used);
            self.entries[at].used -= back;
            self.used -= back;
        }
    }

    /// What still counts: until when each part was taken, and how much.
    pub(super) fn saved(&self) -> Vec<(Time, u128)> {
        self.entries.iter().filter(|entry| entry.used > 0).map(|entry| (entry.latest, entry.used)).collect()
    }

    /// Counts what was taken before, the oldest first.
    pub(super) fn restore(&mut self, taken: impl Iterator<Item = (Time, u128)>) {
        for (latest, used) in taken {
            self.add(latest, used);
        }
    }

    pub(super) fn take_over(&mut self, old: &Sliding, now: Time) {
        self.restore(old.entries.iter().map(|entry| (entry.latest, entry.used)));
        self.advance(now);
    }

    fn add(&mut self, now: Time, units: u128) {
        if units == 0 {
            return;
        }
        self.used += units;
        let slot = self.slot_of(now);
        match self.entries.back_mut() {
            // Never further back than the newest: the clock does not go back, and if it did the later time is the safe one.
            Some(newest) if newest.slot >= slot => {
                newest.latest = newest.latest.max(now);
                newest.used += units;
            }
            _ => self.entries.push_back(Entry { slot, latest: now, used: units }),
        }
    }

    fn slot_of(&self, time: Time) -> u64 {
        time.as_nanos() / (self.per / ENTRIES).max(1)
    }

    fn leaves(&self, entry: &Entry) -> Time {
        entry.latest.plus_nanos(self.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Goal: what was taken leaves exactly one window later, and entries stay few.
    #[test]
    fn forgets_after_one_window() {
        let mut sliding = Sliding::new(10, 1_024_000);
        sliding.take(at(0), 6);
        sliding.take(at(5_000), 4);
        assert_eq!(sliding.available(), 0);
        assert_eq!(sliding.ready_at(at(6_000), 6), at(1_024_000));
        assert_eq!(sliding.ready_at(at(6_000), 7), at(1_029_000));
        sliding.give_back(at(5_000), 1);
        assert_eq!(sliding.available(), 1);
        sliding.advance(at(1_024_000));
        assert_eq!(sliding.available(), 7);
        sliding.give_back(at(0), 6);
        assert_eq!(sliding.available(), 7, "what has left the window does not come back");
    }

    /// Goal: a saturated meter stays small, an idle one holds nothing.
    #[test]
    fn stays_small() {
        let mut sliding = Sliding::new(u64::MAX, 1_024_000);
        for nanos in (0..4_000_000).step_by(100) {
            sliding.advance(at(nanos));
            sliding.take(at(nanos), 1);
        }
        assert!(sliding.entries.len() <= 1_025, "{} entries", sliding.entries.len());
        sliding.advance(at(8_000_000));
        assert_eq!(sliding.entries.capacity(), 0);
        assert_eq!(sliding.used, 0);
    }
}
