//! What a session's client was told of owners, so that it may ask there: only of budgets that it asks for here, which another server owns.
//! It is a matter of speed only: whoever does not heed it is served all the same.

use std::{collections::HashMap, time::Duration};

use permitd_budget::Time;
use permitd_proto::v1::Owner;

use crate::{cluster::Cluster, config::BudgetName};

/// Between two times that the same is told. A client that still asks here may have forgotten it, or found no way to the owner.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Budgets that were told of; beyond, all of them are told anew.
const TOLD_MAX: usize = 10_000;

/// The name of no server.
const NOBODY: &str = "";

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The owner's name, and when.
    told: HashMap<BudgetName, (String, Time)>,
}

impl Owners {
    /// What to tell of a budget that `owner` is asked for, if it is time to.
    pub(super) fn news(
        &mut self,
        cluster: &Cluster,
        budget: &BudgetName,
        owner: &str,
        now: Time,
    ) -> Option<Owner> {
        if !self.is_news(budget, owner, now) {
            return None;
        }
        let (provider, key) = (budget.provider().to_owned(), budget.key().to_owned());
        Some(Owner { provider, key, address: cluster.clients_of(owner)? })
    }

    /// What to tell of a budget that this server knows no way to while it has no lease, if it is time to: whoever came here for it
    /// asks where else it can.
    pub(super) fn unknown(&mut self, budget: &BudgetName, now: Time) -> Option<Owner> {
        let (provider, key) = (budget.provider().to_owned(), budget.key().to_owned());
        self.is_news(budget, NOBODY, now).then(|| Owner { provider, key, address: String::new() })
    }

    fn is_news(&mut self, budget: &BudgetName, owner: &str, now: Time) -> bool {
        if self.told.get(budget).is_some_and(|(told, at)| told == owner && now.since(*at) < AGAIN_AFTER) {
            return false;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(budget.clone(), (owner.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an owner is told once, another one at once, and the same again after a while; and what is remembered of that is bounded.
    #[test]
    fn tells_what_is_new() {
        let mut owners = Owners::default();
        let budget = |number: usize| BudgetName::new("p", &number.to_string()).expect("a name");
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert!(owners.is_news(&budget(0), "a", at(0)));
        assert!(!owners.is_news(&budget(0), "a", at(9)));
        assert!(owners.is_news(&budget(1), "a", at(9)));
        assert!(owners.is_news(&budget(0), "b", at(9)));
        assert!(!owners.is_news(&budget(0), "b", at(18)));
        assert!(owners.is_news(&budget(0), "b", at(19)));
        let nobody = owners.unknown(&budget(0), at(20)).expect("news");
        assert_eq!((&*nobody.key, &*nobody.address), ("0", ""));
        assert_eq!(owners.unknown(&budget(0), at(21)), None);
        assert!(owners.is_news(&budget(0), "b", at(21)));
        for number in 0..3 * TOLD_MAX {
            owners.is_news(&budget(number), "a", at(20));
            assert!(owners.told.len() <= TOLD_MAX);
        }
    }
}
