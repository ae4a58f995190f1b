//! How much output a tenant's calls to a model use, for requests that leave it open: a moving average that follows a change within
//! a few calls.

use hashbrown::HashMap;

/// Pairs of tenant and model that are remembered; further ones are not learned.
const PAIRS_MAX: usize = 65_536;
/// Fraction bits of the average.
const FRACTION_BITS: u32 = 8;
/// A new value counts for one eighth, as in TCP's smoothed round-trip time (RFC 6298, 2.3).
const WEIGHT_SHIFT: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Outputs {
    averages: HashMap<(u32, u32), u64, foldhash::fast::FixedState>,
}

impl Outputs {
    /// What the next call is likely to use, rounded up.
    pub(crate) fn expected(&self, tenant: u32, model: u32) -> Option<u64> {
        if self.averages.is_empty() {
            return None;
        }
        self.averages.get(&(tenant, model)).map(|average| average.div_ceil(1 << FRACTION_BITS))
    }

    pub(crate) fn learn(&mut self, tenant: u32, model: u32, used: u64) {
        let used = used.min(u64::MAX >> (FRACTION_BITS + 1)) << FRACTION_BITS;
        if let Some(average) = self.averages.get_mut(&(tenant, model)) {
            *average = *average - (*average >> WEIGHT_SHIFT) + (used >> WEIGHT_SHIFT);
        } else if self.averages.len() < PAIRS_MAX {
            self.averages.insert((tenant, model), used);
        }
    }

    pub(crate) fn forget_tenant(&mut self, tenant: u32) {
        self.averages.retain(|(known, _), _| *known != tenant);
    }

    pub(crate) fn forget_model(&mut self, model: u32) {
        self.averages.retain(|(_, known), _| *known != model);
    }
}

#[cfg(test)]
mod tests {
    use super::Outputs;

    /// Goal: the first call is believed, and a change is followed.
    #[test]
    fn follows_what_is_used() {
        let mut outputs = Outputs::default();
        assert_eq!(outputs.expected(1, 2), None);
        outputs.learn(1, 2, 400);
        assert_eq!(outputs.expected(1, 2), Some(400));
        for _ in 0..100 {
            outputs.learn(1, 2, 100);
        }
        assert!((100..=101).contains(&outputs.expected(1, 2).expect("learned")));
        outputs.learn(1, 3, u64::MAX);
        outputs.learn(1, 3, u64::MAX);
        assert!(outputs.expected(1, 3).is_some());
        outputs.forget_tenant(1);
        assert_eq!(outputs.expected(1, 2), None);
    }
}
