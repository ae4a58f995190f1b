//! How pressing a budget is: first those that grant nothing while somebody waits, then those where most wait, then those that have
//! least left of some limit.

use permitd_proto::v1;

/// What of a limit that is full is taken.
const FULL: u32 = 1_000;
/// A debt that is larger is shown as this.
const TAKEN_MAX: i128 = 9_990;

/// How pressing a budget is; the greater, the more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pressure {
    halted_and_waited_for: bool,
    waiting: u32,
    /// Of the limit that has least left, in thousandths.
    taken: u32,
}

impl Pressure {
    /// Of a budget as it stands.
    #[must_use]
    pub fn of(state: &v1::BudgetState) -> Self {
        Self {
            halted_and_waited_for: state.waiting > 0 && halted(state),
            waiting: state.waiting,
            taken: tightest(state).map_or(0, taken),
        }
    }
}

/// Whether it grants nothing, or nothing of some limit, whatever is left.
fn halted(state: &v1::BudgetState) -> bool {
    state.paused || state.exhausted || state.limits.iter().any(|limit| limit.frozen_until.is_some())
}

/// The limit that has least left.
#[must_use]
pub fn tightest(state: &v1::BudgetState) -> Option<&v1::LimitState> {
    tightest_of(&state.limits)
}

/// The one that has least left.
#[must_use]
pub fn tightest_of(limits: &[v1::LimitState]) -> Option<&v1::LimitState> {
    // The first of equals: in the order declared.
    limits.iter().rev().max_by_key(|limit| taken(limit))
}

/// How much of what a limit holds at once is taken, in thousandths; more than 1,000 is debt.
#[must_use]
pub fn taken(limit: &v1::LimitState) -> u32 {
    // An earlier version says nothing of what it holds.
    let most = if limit.capacity == 0 { limit.effective_amount } else { limit.capacity };
    let most = i128::from(most).max(1);
    let part = (most - i128::from(limit.level)) * i128::from(FULL) / most;
    u32::try_from(part.clamp(0, TAKEN_MAX)).unwrap_or(FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(effective_amount: u64, level: i64) -> v1::LimitState {
        v1::LimitState { effective_amount, level, ..v1::LimitState::default() }
    }

    fn state(waiting: u32, paused: bool, limits: &[v1::LimitState]) -> v1::BudgetState {
        v1::BudgetState { waiting, paused, limits: limits.to_vec(), ..v1::BudgetState::default() }
    }

    /// Goal: what is taken is told whatever the figures are: idle with a burst above the amount, empty, in debt, absurd.
    #[test]
    fn tells_what_is_taken() {
        for (amount, level, expected) in
            [(60, 60, 0), (60, 90, 0), (60, 15, 750), (60, 0, 1_000), (60, -6, 1_100), (0, 0, 1_000)]
        {
            assert_eq!(taken(&limit(amount, level)), expected, "{level} of {amount}");
        }
        assert_eq!(taken(&limit(u64::MAX, i64::MIN)), 1_500);
        let burst = |level| v1::LimitState { capacity: 10, ..limit(60, level) };
        assert_eq!([10, 5, 0, -10].map(|level| taken(&burst(level))), [0, 500, 1_000, 2_000]);
        assert_eq!(taken(&limit(1, i64::MIN)), 9_990);
    }

    /// Goal: the order is the one in which somebody should look.
    #[test]
    fn orders() {
        let idle = state(0, false, &[limit(60, 60)]);
        let busy = state(0, false, &[limit(60, 60), limit(9, 1)]);
        let paused = state(0, true, &[limit(60, 60)]);
        let waited_for = state(5, false, &[limit(60, 0)]);
        let halted = state(1, true, &[limit(60, 60)]);
        let order = [&idle, &busy, &waited_for, &halted].map(Pressure::of);
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
        assert_eq!(Pressure::of(&paused), Pressure::of(&idle), "nobody is held up by it");
        assert_eq!(tightest(&busy), Some(&limit(9, 1)));
    }
}
