//! One rate limit as the provider keeps it: exact in integers, with time passed in.
//!
//! This is the referee that permitd is measured against, so nothing here is shared with permitd's own code. A level is kept in
//! units times the nanoseconds of a minute: refilling `per_minute` of them in every nanosecond is then exact.

use super::config::Rate;

/// Nanoseconds since the provider began.
pub type Nanos = u64;

/// A minute, which is what every rate is told for.
pub const MINUTE: u64 = 60_000_000_000;

/// One unit, in the scale of a level.
const UNIT: i128 = MINUTE as i128;

/// Whether an amount fits into a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It may be taken.
    Now,
    /// It will fit after so many nanoseconds if nobody else takes anything.
    After(Nanos),
    /// It is more than the bucket ever holds.
    Never,
}

/// One rate limit and what is left of it.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    level: i128,
    at: Nanos,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Nanos) -> Self {
        Self { rate, level: rate.capacity() * UNIT, at: now }
    }

    /// Whether `amount` could be taken now. Takes nothing.
    pub fn fits(&mut self, now: Nanos, amount: u64) -> Fit {
        self.refill(now);
        let wanted = i128::from(amount) * UNIT;
        if wanted > self.rate.capacity() * UNIT {
            Fit::Never
        } else if wanted <= self.level {
            Fit::Now
        } else {
            Fit::After(self.rate.time_for(now, wanted - self.level))
        }
    }

    /// Takes `amount` whether or not it fits; what is missing becomes debt, repaid before anything else fits.
    pub fn take(&mut self, now: Nanos, amount: u64) {
        self.refill(now);
        self.level -= i128::from(amount) * UNIT;
    }

    /// Takes `amount` or whatever is left of it, but makes no debt: what a refused call costs where refused calls count.
    pub fn waste(&mut self, now: Nanos, amount: u64) {
        self.refill(now);
        self.level = (self.level - i128::from(amount) * UNIT).max(self.level.min(0));
    }

    /// What is left, in whole units; 0 while in debt.
    pub fn remaining(&mut self, now: Nanos) -> u64 {
        self.refill(now);
        u64::try_from(self.level.max(0) / UNIT).unwrap_or(u64::MAX)
    }

    /// How long until nothing is missing any more.
    pub fn full_after(&mut self, now: Nanos) -> Nanos {
        self.refill(now);
        let missing = self.rate.capacity() * UNIT - self.level;
        if missing <= 0 { 0 } else { self.rate.time_for(now, missing) }
    }

    /// The limit from now on. What was left stays as far as the new bucket holds it; debt stays.
    pub fn change(&mut self, now: Nanos, rate: Rate) {
        self.refill(now);
        self.rate = rate;
        self.level = self.level.min(rate.capacity() * UNIT);
    }

    /// The limit as it stands.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    fn refill(&mut self, now: Nanos) {
        let now = now.max(self.at);
        let refilled = self.level.saturating_add(self.rate.provided(self.at, now));
        self.level = refilled.min(self.rate.capacity() * UNIT);
        self.at = now;
    }
}

impl Rate {
    /// What this limit provides from one moment to another, in the scale of a level.
    #[must_use]
    pub fn provided(&self, from: Nanos, to: Nanos) -> i128 {
        match self.quantum() {
            None => i128::from(self.per_minute) * i128::from(to.saturating_sub(from)),
            Some(quantum) => {
                i128::from((to / quantum).saturating_sub(from / quantum)) * self.capacity() * UNIT
            }
        }
    }

    /// The most that can be taken at once, in whole units.
    fn capacity(&self) -> i128 {
        i128::from(match self.quantum_ms {
            None if self.burst == 0 => self.per_minute,
            None => self.burst,
            Some(_) => self.share().max(1),
        })
    }

    /// Where the limit is judged per quantum: its length in nanoseconds. A quantum whose part of the limit is less than one unit
    /// is stretched until it holds one.
    fn quantum(&self) -> Option<Nanos> {
        let quantum = self.quantum_ms?.saturating_mul(1_000_000);
        Some(if self.share() == 0 { MINUTE.div_ceil(self.per_minute) } else { quantum })
    }

    /// The part of the limit that a quantum as configured holds, rounded down.
    fn share(&self) -> u64 {
        let quantum = u128::from(self.quantum_ms.unwrap_or(0)) * 1_000_000;
        u64::try_from(u128::from(self.per_minute) * quantum / u128::from(MINUTE)).unwrap_or(u64::MAX)
    }

    /// How long after `now` this limit will have provided `missing`, in the scale of a level.
    fn time_for(&self, now: Nanos, missing: i128) -> Nanos {
        let nanos = match self.quantum() {
            None => div_ceil(missing, i128::from(self.per_minute)),
            Some(quantum) => {
                let quanta = div_ceil(missing, self.capacity() * UNIT);
                (i128::from(now / quantum) + quanta) * i128::from(quantum) - i128::from(now)
            }
        };
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// `amount` in the scale of a level as whole units, rounded down.
#[must_use]
pub fn units(amount: i128) -> u64 {
    u64::try_from(amount.max(0) / UNIT).unwrap_or(u64::MAX)
}

fn div_ceil(amount: i128, by: i128) -> i128 {
    amount / by + i128::from(amount % by > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn rate(per_minute: u64, burst: u64) -> Rate {
        Rate { per_minute, burst, quantum_ms: None }
    }

    #[test]
    fn refills_continuously_and_holds_no_more_than_the_burst() {
        let mut bucket = Bucket::full(rate(60, 5), 0);
        for _ in 0..5 {
            assert_eq!(bucket.fits(0, 1), Fit::Now);
            bucket.take(0, 1);
        }
        assert_eq!(bucket.fits(0, 1), Fit::After(SECOND));
        assert_eq!(bucket.fits(SECOND - 1, 1), Fit::After(1));
        assert_eq!(bucket.fits(SECOND, 1), Fit::Now);
        assert_eq!(bucket.remaining(3600 * SECOND), 5);
        assert_eq!(bucket.fits(3600 * SECOND, 6), Fit::Never);
    }

    #[test]
    fn is_exact_over_many_uneven_steps() {
        // 7 per minute never divides a nanosecond evenly; asking often must not lose or mint anything.
        let mut asked_often = Bucket::full(rate(7, 1), 0);
        asked_often.take(0, 1);
        let due = MINUTE.div_ceil(7);
        let mut now = 0;
        while now + 977 < due {
            now += 977;
            assert_ne!(asked_often.fits(now, 1), Fit::Now);
        }
        assert_eq!(asked_often.fits(due - 1, 1), Fit::After(1));
        assert_eq!(asked_often.fits(due, 1), Fit::Now);
    }

    #[test]
    fn debt_is_repaid_before_anything_fits() {
        let mut bucket = Bucket::full(rate(600, 10), 0);
        bucket.take(0, 30);
        assert_eq!(bucket.remaining(0), 0);
        assert_eq!(bucket.fits(0, 1), Fit::After(2 * SECOND + SECOND / 10));
        assert_eq!(bucket.full_after(0), 3 * SECOND);
        bucket.waste(0, 5);
        assert_eq!(bucket.full_after(0), 3 * SECOND, "a refused call adds no debt");
    }

    #[test]
    fn a_refused_call_can_empty_a_bucket_but_not_more() {
        let mut bucket = Bucket::full(rate(60, 3), 0);
        bucket.waste(0, 2);
        assert_eq!(bucket.remaining(0), 1);
        bucket.waste(0, 2);
        assert_eq!(bucket.fits(0, 1), Fit::After(SECOND));
    }

    #[test]
    fn a_quantum_holds_its_part_and_no_more() {
        let mut bucket = Bucket::full(Rate { per_minute: 120, burst: 0, quantum_ms: Some(1_000) }, 0);
        bucket.take(0, 2);
        assert_eq!(bucket.fits(SECOND / 2, 1), Fit::After(SECOND / 2));
        assert_eq!(bucket.fits(SECOND, 2), Fit::Now);
        assert_eq!(bucket.fits(9 * SECOND, 3), Fit::Never);
        bucket.take(9 * SECOND, 2 + 3);
        assert_eq!(
            bucket.fits(9 * SECOND + 1, 1),
            Fit::After(2 * SECOND - 1),
            "debt lasts into later quanta"
        );
    }

    #[test]
    fn a_quantum_too_short_for_one_unit_is_stretched_to_hold_one() {
        let mut bucket = Bucket::full(Rate { per_minute: 20, burst: 0, quantum_ms: Some(1_000) }, 0);
        bucket.take(0, 1);
        assert_eq!(bucket.fits(SECOND, 1), Fit::After(2 * SECOND));
    }

    #[test]
    fn a_changed_limit_applies_at_once_and_keeps_debt() {
        let mut bucket = Bucket::full(rate(6_000, 100), 0);
        bucket.change(0, rate(60, 10));
        assert_eq!(bucket.remaining(0), 10);
        bucket.take(0, 20);
        bucket.change(0, rate(6_000, 100));
        assert_eq!(bucket.fits(0, 1), Fit::After(11 * SECOND / 100));
    }

    #[test]
    fn what_a_limit_provides_is_its_integral() {
        assert_eq!(units(rate(90, 1).provided(0, 10 * SECOND)), 15);
        let quantised = Rate { per_minute: 90, burst: 0, quantum_ms: Some(1_000) };
        assert_eq!(units(quantised.provided(0, 10 * SECOND + 1)), 10, "a quantum rounds 1.5 down to 1");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let largest = rate(super::super::config::AMOUNT_MAX, super::super::config::AMOUNT_MAX);
        let mut bucket = Bucket::full(largest, 0);
        bucket.take(0, u64::MAX);
        bucket.take(u64::MAX, u64::MAX);
        assert_ne!(bucket.fits(u64::MAX, 1), Fit::Never);
    }
}
