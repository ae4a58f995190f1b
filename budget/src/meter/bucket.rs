//! A token bucket: refills `amount` every `per`, continuously, and holds at most `burst`. In any stretch of time it grants at most
//! `burst + amount / per x stretch` (Turner's leaky bucket as a meter, "New directions in communications", 1986).

use super::peaks::{Order, Peaks};
use crate::{saved::Level, time::Time};

/// How much longer one call may be on its way to the provider than another: after a pause the provider's bucket is full until the first
/// call arrives, so ours begins to refill so much later, or what follows a burst would come too soon. Half the spread of round trips within a region.
const START_NANOS: u64 = 25_000_000;

/// One unit is `per` parts (nanoseconds of the window), so a nanosecond refills `amount` parts.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// In parts; negative is debt.
    level: i128,
    peaks: Peaks,
    /// When `level` was right; a moment ahead where the refill has not begun yet.
    updated: Time,
    /// Since when the level has been the burst, if it is.
    full_since: Time,
    pub(super) amount: u64,
    per: u64,
    pub(super) burst: u64,
    /// Debt is at most so many units.
    pub(super) debt_max: u64,
}

impl Bucket {
    pub(super) fn new(amount: u64, per: u64, burst: u64, now: Time) -> Self {
        let mut bucket = Self {
            level: 0,
            peaks: Peaks::default(),
            updated: now,
            full_since: Time::ZERO,
            amount,
            per,
            burst,
            debt_max: amount,
        };
        bucket.level = bucket.parts(burst);
        bucket
    }

    pub(super) fn parts(&self, units: u64) -> i128 {
        i128::from(units) * i128::from(self.per)
    }

    pub(super) fn advance(&mut self, now: Time) {
        let span = now.nanos_since(self.updated);
        if span > 0 {
            self.updated = now;
            let full = self.parts(self.burst);
            if self.level < full {
                let surplus = self.level.saturating_add(self.refill(span)) - full;
                self.level = full + surplus.min(0);
                if surplus >= 0 {
                    let since = surplus.unsigned_abs() / u128::from(self.amount);
                    let since = u64::try_from(since).unwrap_or(u64::MAX);
                    self.full_since = Time::from_nanos(now.as_nanos().saturating_sub(since));
                }
            }
        }
    }

    pub(super) fn available(&self) -> i128 {
        self.level
    }

    pub(super) fn ready_at(&self, now: Time, parts: i128) -> Time {
        let missing = (parts - self.level).unsigned_abs();
        self.refills_from(now)
            .plus_nanos(u64::try_from(missing.div_ceil(u128::from(self.amount))).unwrap_or(u64::MAX))
    }

    pub(super) fn gain_until(&self, now: Time, then: Time) -> i128 {
        self.refill(then.nanos_since(self.refills_from(now)))
    }

    pub(super) fn take(&mut self, order: Order, units: u64) {
        if units > 0 {
            let was_idle = self.updated.nanos_since(self.full_since) >= START_NANOS;
            if was_idle && self.level == self.parts(self.burst) {
                self.updated = self.updated.plus_nanos(START_NANOS);
                self.full_since = self.updated;
            }
            self.peaks.charge(order, self.level);
        }
        let floor = -self.parts(self.debt_max);
        self.level = (self.level - self.parts(units)).max(floor.min(self.level));
    }

    pub(super) fn give_back(&mut self, order: Order, units: u64) {
        let room = self.parts(self.burst) - self.peaks.since(order, self.level);
        let back = self.parts(units).min(room.max(0));
        self.peaks.give_back(order, back);
        self.level += back;
    }

    /// To be written down, as advanced to now.
    pub(super) fn saved(&self) -> Level {
        Level::Bucket { refills_from: self.updated, parts: self.level, peaks: self.peaks.saved() }
    }

    /// Goes on from a level that refills from `then` on.
    pub(super) fn restore(&mut self, then: Time, level: i128, peaks: &[(Order, i128)]) {
        (self.level, self.updated) = (level.min(self.parts(self.burst)), then);
        self.peaks = Peaks::restored(peaks);
    }

    pub(super) fn lower_to(&mut self, parts: i128) {
        self.level = self.level.min(parts.max(-self.parts(self.debt_max)));
    }

    pub(super) fn take_over(&mut self, old: &mut Bucket) {
        (self.updated, self.full_since) = (old.updated, old.full_since);
        // The window is part of a limit's identity, so a unit has the same parts as before.
        debug_assert_eq!(self.per, old.per, "a limit with another window is another limit");
        let (full, new_full) = (old.parts(old.burst).unsigned_abs(), self.parts(self.burst).unsigned_abs());
        // Debt stays as it is.
        let rescaled =
            |level: i128| u128::try_from(level).map_or(level, |level| proportion(level, full, new_full));
        self.peaks = std::mem::take(&mut old.peaks);
        self.peaks.rescale(rescaled);
        self.level = rescaled(old.level);
    }

    /// The provider's bucket is full until the first call reaches it, and refills from then on.
    fn refills_from(&self, now: Time) -> Time {
        self.updated.max(now)
    }

    fn refill(&self, span: u64) -> i128 {
        i128::try_from(u128::from(self.amount) * u128::from(span)).unwrap_or(i128::MAX)
    }
}

/// `level / full x new_full`, rounded down, without overflow: both sides are halved until the product fits.
fn proportion(mut level: u128, mut full: u128, new_full: u128) -> i128 {
    while level.checked_mul(new_full).is_none() {
        level /= 2;
        full = full.div_ceil(2);
    }
    i128::try_from(level * new_full / full.max(1)).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * S;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Goal: one request a day is exact to the nanosecond.
    #[test]
    fn one_a_day_is_exact() {
        let mut bucket = Bucket::new(1, DAY, 1, at(0));
        bucket.take(1, 1);
        bucket.advance(at(DAY - 1));
        assert!(bucket.available() < bucket.parts(1));
        assert_eq!(bucket.ready_at(at(DAY - 1), bucket.parts(1)), at(DAY));
        bucket.advance(at(DAY));
        assert_eq!(bucket.available(), bucket.parts(1));
    }

    /// Goal: a refill in many small steps is the same as in one.
    #[test]
    fn refills_the_same_in_any_steps() {
        let mut steps = Bucket::new(10_000_000, 60 * S, 1_000, at(0));
        let mut leap = steps.clone();
        steps.take(1, 1_000);
        leap.take(1, 1_000);
        for step in 0..=999 {
            steps.advance(at(step * 7 + 3));
        }
        leap.advance(at(999 * 7 + 3));
        assert_eq!(steps.available(), leap.available());
    }

    /// Goal: the largest numbers neither overflow nor mint.
    #[test]
    fn survives_the_largest_numbers() {
        let mut bucket = Bucket::new(u64::MAX, 366 * DAY, u64::MAX, at(0));
        bucket.take(1, u64::MAX);
        assert_eq!(bucket.available(), 0);
        bucket.take(1, u64::MAX);
        bucket.take(1, u64::MAX);
        assert_eq!(bucket.available(), -bucket.parts(u64::MAX));
        bucket.advance(at(u64::MAX));
        assert!(bucket.available() <= bucket.parts(u64::MAX));
        bucket.give_back(1, u64::MAX);
        assert!(bucket.available() <= bucket.parts(u64::MAX));
    }

    /// Goal: giving back what was charged while the bucket has filled up meanwhile mints nothing: the call that was never sent did not
    /// keep the provider's bucket from being full.
    #[test]
    fn giving_back_late_mints_nothing() {
        let mut bucket = Bucket::new(100, 60 * S, 100, at(0));
        bucket.take(1, 100);
        bucket.advance(at(30 * S));
        bucket.take(2, 50);
        bucket.give_back(1, 100);
        assert_eq!(bucket.available(), bucket.parts(50), "the provider had 100, and 50 were taken");
    }

    /// Goal: a change keeps the level in proportion to the burst, and debt as it is.
    #[test]
    fn takes_over_in_proportion() {
        let mut old = Bucket::new(100, 60 * S, 100, at(0));
        old.take(1, 25);
        let mut new = Bucket::new(200, 60 * S, 200, at(0));
        new.take_over(&mut old.clone());
        assert_eq!(new.available(), new.parts(150));
        old.take(1, 105);
        new.take_over(&mut old.clone());
        assert_eq!(new.available(), -new.parts(30));
    }
}
