//! Declarations that say the same are kept once: a great many budgets have the limits of a few plans.

use std::collections::HashSet;

use permitd_budget::CheckedSpec;

/// All different ones.
#[derive(Debug, Default)]
pub(super) struct Specs {
    known: HashSet<CheckedSpec, foldhash::fast::RandomState>,
    /// Those left after nobody's were let go.
    in_use: usize,
}

impl Specs {
    /// The one that says the same, if there is one.
    pub(super) fn shared(&mut self, spec: CheckedSpec) -> CheckedSpec {
        if let Some(known) = self.known.get(&spec) {
            return known.clone();
        }
        // As seldom as the table would grow.
        if self.known.len() > 2 * self.in_use {
            self.known.retain(CheckedSpec::is_shared);
            self.in_use = self.known.len();
        }
        self.known.insert(spec.clone());
        spec
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;

    /// Goal: those that say the same are one, and what nobody uses any more goes.
    #[test]
    fn keeps_what_is_used() {
        let spec = |amount| {
            let limits = vec![LimitSpec::in_flight(amount)];
            BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("sound")
        };
        let mut specs = Specs::default();
        let used: Vec<_> = (1..=10).map(|amount| specs.shared(spec(amount))).collect();
        for round in 0..1_000 {
            assert!(specs.shared(spec(5)).is(&used[4]));
            drop(specs.shared(spec(100 + round)));
        }
        assert!(specs.known.len() <= 2 * used.len() + 1, "{}", specs.known.len());
    }
}
