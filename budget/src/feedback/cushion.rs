//! What is kept back in a bucket against calls that overtake each other on their way to the provider: an amount and not a share of the
//! rate, so that the sustained rate stays whole. Beside it, how much of a burst the provider really takes.

use crate::time::Time;

/// What calls may overtake each other by at first: 25 ms, half the spread of round trips within a region.
const JITTER_NANOS: u64 = 25_000_000;
/// And at the most: more is no jitter.
const JITTER_MAX_NANOS: u64 = 1_000_000_000;
/// A cushion against jitter is at most a quarter of the burst.
const JITTER_PART: u64 = 4;
/// How long a cushion stays as it is; then half of it goes.
const HALF_LIFE_NANOS: u64 = 3_600_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cushion {
    units: u64,
    widened: Time,
}

impl Cushion {
    /// As it was written down.
    pub(crate) fn restored((units, widened): (u64, Time)) -> Self {
        Self { units, widened }
    }

    /// Units that are kept back, and when that was widened last.
    pub(crate) fn saved(self) -> (u64, Time) {
        (self.units, self.widened)
    }

    /// Units that are kept back.
    #[inline]
    pub(crate) fn units(self) -> u64 {
        self.units
    }

    /// The provider refused a call of `cost` although the rate was right: calls overtake each other by more than was thought.
    /// False if that does not explain it any more. `rate` is units and nanoseconds.
    pub(crate) fn widen(&mut self, cost: u64, rate: (u64, u64), capacity: u64, now: Time) -> bool {
        self.shrink(now);
        let in_time = |nanos: u64| u128::from(rate.0) * u128::from(nanos) / u128::from(rate.1.max(1));
        let in_time = |nanos| u64::try_from(in_time(nanos)).unwrap_or(u64::MAX);
        let first = in_time(JITTER_NANOS).max(cost).max(1);
        let most = in_time(JITTER_MAX_NANOS).max(cost.saturating_mul(4)).min(capacity / JITTER_PART);
        if self.units >= most {
            return false;
        }
        self.units = self.units.saturating_mul(2).max(first).min(most);
        self.widened = now;
        true
    }

    /// Forgets a half for every hour without a refusal.
    #[inline]
    pub(crate) fn shrink(&mut self, now: Time) {
        if self.units == 0 {
            return;
        }
        let halves = now.nanos_since(self.widened) / HALF_LIFE_NANOS;
        if halves > 0 {
            self.units = self.units.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
            self.widened = self.widened.plus_nanos(halves * HALF_LIFE_NANOS);
        }
    }
}

/// The most that the provider's bucket holds, as refusals of calls after a pause have taught.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    units: u64,
    learned: Time,
}

impl Default for Burst {
    fn default() -> Self {
        Self { units: u64::MAX, learned: Time::ZERO }
    }
}

impl Burst {
    /// As it was written down.
    pub(crate) fn restored(saved: Option<(u64, Time)>) -> Self {
        saved.map_or_else(Self::default, |(units, learned)| Self { units, learned })
    }

    /// What was learned, and when.
    pub(crate) fn saved(self) -> Option<(u64, Time)> {
        (self.units < u64::MAX).then_some((self.units, self.learned))
    }

    /// Units; `u64::MAX` if nothing was learned.
    pub(crate) fn units(self) -> u64 {
        self.units
    }

    /// It took only `carried` of the `capacity` that we thought. False if that is nothing new. A provider that refuses the first call has
    /// nothing left, which says nothing of how much it holds.
    pub(crate) fn learn(&mut self, carried: u64, capacity: u64, now: Time) -> bool {
        if carried == 0 || carried >= capacity.min(self.units) {
            return false;
        }
        (self.units, self.learned) = (carried, now);
        true
    }

    /// Allows twice as much for every hour without a refusal. True if that is more than before.
    pub(crate) fn grow(&mut self, now: Time) -> bool {
        let doublings = now.nanos_since(self.learned) / HALF_LIFE_NANOS;
        if self.units == u64::MAX || doublings == 0 {
            return false;
        }
        let factor = 1_u64.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        self.units = self.units.saturating_mul(factor);
        self.learned = self.learned.plus_nanos(doublings * HALF_LIFE_NANOS);
        true
    }
}
