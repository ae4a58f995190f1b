//! Pools beside budgets: one name is the one or the other.

use std::sync::Arc;

use super::{Registry, RegistryError};
use crate::{config::BudgetName, pool::Pool};

impl Registry {
    /// The pool of that name.
    pub(crate) fn pool(&self, name: &BudgetName) -> Option<Arc<Pool>> {
        self.file.read().pools.get(name).cloned()
    }

    /// All pools, sorted by name.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        self.file.read().pools.values().cloned().collect()
    }

    /// The first pools that a budget is a member of, sorted by name, of those that are wanted.
    pub(crate) fn pools_of(
        &self,
        budget: &BudgetName,
        most: usize,
        wanted: impl Fn(&BudgetName) -> bool,
    ) -> Vec<BudgetName> {
        let file = self.file.read();
        let pools = file.pools.values().filter(|pool| pool.has(budget) && wanted(pool.name()));
        pools.map(|pool| pool.name().clone()).take(most).collect()
    }

    /// Whether the budget is made as soon as somebody asks for it, if there is none.
    pub(crate) fn is_made_on_use(&self, name: &BudgetName) -> bool {
        self.file.read().providers.contains_key(name.provider())
    }

    pub(super) fn check_no_pool(&self, name: &BudgetName) -> Result<(), RegistryError> {
        match self.file.read().pools.contains_key(name) {
            true => Err(RegistryError::IsPool { name: name.clone() }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use permitd_budget::{BudgetSpec, CheckedSpec, LimitSpec};

    use super::*;
    use crate::{
        alarm::{AlarmThread, Alarms},
        cell::{Footing, Source},
        clock::Clock,
        config::{MemberSpec, PoolSpec},
        registry::configured::File,
    };

    fn spec() -> CheckedSpec {
        let limits = vec![LimitSpec::in_flight(1)];
        BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("a sound spec")
    }

    fn name(text: &str) -> BudgetName {
        text.parse().expect("a name")
    }

    /// With defaults for the keys of `made`, and this pool of `made/a`.
    fn file(pool: Option<&str>) -> File {
        let pool = pool.map(|pool| {
            let members = vec![MemberSpec { budget: name("made/a"), prefer: 1, weight: 1 }];
            (name(pool), Pool::new(name(pool), PoolSpec { members }))
        });
        let providers = BTreeMap::from([("made".to_owned(), spec())]);
        File { providers, pools: pool.into_iter().collect(), ..File::default() }
    }

    fn registry() -> (Registry, AlarmThread) {
        let clock = Clock::start();
        let (alarms, thread) = Alarms::start("alarms", clock).expect("a thread");
        let registry = Registry::new(Footing::in_memory(clock, alarms), 10);
        registry.follow(file(None)).expect("room");
        (registry, thread)
    }

    /// Goal: a pool takes the name of a budget that nobody declared, which goes; a budget that an administrator declared keeps its name.
    #[test]
    fn take_the_names_of_what_nobody_declared() {
        let (registry, _thread) = registry();
        registry.find_or_make(&name("made/any")).expect("made");
        registry.follow(file(Some("made/any"))).expect("the name is free");
        assert!(matches!(registry.find_or_make(&name("made/any")), Err(RegistryError::IsPool { .. })));
        assert!(matches!(registry.find(&name("made/any")), Err(RegistryError::IsPool { .. })));
        registry.follow(file(None)).expect("the pool goes");
        registry.find_or_make(&name("made/any")).expect("made again");
        registry.set(&name("made/any"), spec(), Source::Admin, "", false).expect("declared");
        assert!(matches!(registry.follow(file(Some("made/any"))), Err(RegistryError::Taken { .. })));
        assert!(registry.pools().is_empty(), "all of a configuration or nothing");
    }

    /// Goal: a pool that another configuration declares alike goes on where it is, and one that it declares otherwise begins anew.
    #[test]
    fn go_on_as_long_as_they_are_declared_alike() {
        let (registry, _thread) = registry();
        let pool = |registry: &Registry| registry.pool(&name("p/any")).expect("a pool");
        registry.follow(file(Some("p/any"))).expect("free");
        let before = pool(&registry);
        registry.follow(file(Some("p/any"))).expect("as it was");
        assert!(Arc::ptr_eq(&before, &pool(&registry)));
        let mut other = file(Some("p/any"));
        let members = vec![MemberSpec { budget: name("made/a"), prefer: 2, weight: 1 }];
        other.pools.insert(name("p/any"), Pool::new(name("p/any"), PoolSpec { members }));
        registry.follow(other).expect("free");
        assert!(!Arc::ptr_eq(&before, &pool(&registry)));
    }
}
