//! When to try again: full jitter, so that the clients of a server that comes back do not come all at once.

use std::time::Duration;

/// The ceiling of the first wait; it doubles.
const BASE: Duration = Duration::from_millis(50);

/// The ceiling of every wait.
const CEILING: Duration = Duration::from_secs(5);

/// A session that lived as long as this was a good one.
pub(crate) const GOOD_LIFE: Duration = Duration::from_secs(1);

/// The wait before the attempt after `failures` failed ones in a row, with `luck` from all of `u32`.
pub(crate) fn wait(failures: u32, luck: u32) -> Duration {
    let ceiling = BASE.saturating_mul(1 << failures.min(16)).min(CEILING);
    let nanos = u64::try_from(ceiling.as_nanos()).expect("seconds fit");
    let part = u128::from(nanos) * u128::from(luck) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(part).expect("a part is less than the whole"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait is anything from nothing up to a ceiling, which doubles up to a bound.
    #[test]
    fn the_ceiling_doubles_up_to_a_bound() {
        let ceilings: Vec<u128> = (0..9).map(|failures| wait(failures, u32::MAX).as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(wait(u32::MAX, u32::MAX), CEILING);
        assert_eq!(wait(5, 0), Duration::ZERO);
        assert_eq!(wait(0, u32::MAX / 2).as_millis(), 24);
    }
}
