//! What a profile adds to a declared budget: whatever was left open, and limits that every key of the provider has.

use permitd_budget::{BudgetSpec, CheckedSpec, LimitSpec, Window};

use super::Profile;

impl Profile {
    /// The budget as it is put in force. What was declared stays as it is.
    #[must_use]
    pub fn fill(&self, declared: &CheckedSpec) -> CheckedSpec {
        let mut filled = BudgetSpec::clone(declared);
        filled.permit_ttl = filled.permit_ttl.or(self.permit_ttl);
        if filled.counting.is_empty() {
            filled.counting.clone_from(&self.counting);
        }
        let open = |limit: &&LimitSpec| {
            !declared.limits.iter().any(|known| known.unit == limit.unit && known.per == limit.per)
        };
        filled.limits.extend(self.limits.iter().filter(open).cloned());
        for limit in &mut filled.limits {
            limit.burst = self.burst(limit);
        }
        if filled == **declared {
            return declared.clone();
        }
        // Too many limits together: what was declared by itself is right.
        filled.check().unwrap_or_else(|_| declared.clone())
    }

    fn burst(&self, limit: &LimitSpec) -> u64 {
        if limit.burst != 0 || limit.window != Window::Bucket || limit.per.is_none() {
            return limit.burst;
        }
        let rule = self.windows.iter().find(|rule| rule.unit == limit.unit && rule.per == limit.per);
        let percent = rule.and_then(|rule| rule.burst_percent);
        percent.map_or(0, |percent| {
            let burst = u128::from(limit.amount) * u128::from(percent) / 100;
            u64::try_from(burst).unwrap_or(u64::MAX).max(1)
        })
    }
}
