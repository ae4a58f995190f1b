//! What the configuration declares beside what administrators did live and earlier processes left: live changes win, everything
//! else follows the configuration.

use std::{collections::BTreeMap, sync::Arc};

use permitd_budget::{CheckedSpec, Resumed, SavedPermit};

use super::{Change, Index, Registry, RegistryError, match_etag};
use crate::{
    audit::Entry,
    cell::{Cell, Declared, Heart, Source},
    config::{BudgetName, Config},
    inbox::Waiter,
    pool::Pool,
    schedule::{self, InForce},
    store::{Balance, Kept, StoredBudget, rows},
};

/// What the configuration declares.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) budgets: BTreeMap<BudgetName, CheckedSpec>,
    /// What keys that nobody declared get, by provider.
    pub(crate) providers: BTreeMap<String, CheckedSpec>,
    /// Names that stand for several budgets.
    pub(crate) pools: BTreeMap<BudgetName, Arc<Pool>>,
}

impl File {
    /// Of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let budgets = config.budgets.iter();
        let providers = config.providers.iter();
        let pools = config.pools.iter();
        Self {
            budgets: budgets.map(|(name, spec)| (name.clone(), spec.clone())).collect(),
            providers: providers.map(|(name, spec)| (name.clone(), spec.clone())).collect(),
            pools: pools.map(|(name, spec)| (name.clone(), Pool::new(name.clone(), spec.clone()))).collect(),
        }
    }

    /// Pools that stay as they were declared before go on where they are.
    fn after(mut self, before: &Self) -> Self {
        for (name, pool) in &mut self.pools {
            if let Some(same) = before.pools.get(name).filter(|before| before.spec() == pool.spec()) {
                *pool = Arc::clone(same);
            }
        }
        self
    }

    /// What it says of a budget, by name or as its provider's default. A pool is none.
    pub(super) fn get(&self, name: &BudgetName) -> Option<&CheckedSpec> {
        let defaults = || self.providers.get(name.provider()).filter(|_| !self.pools.contains_key(name));
        self.budgets.get(name).or_else(defaults)
    }
}

/// A budget that is not as the configuration declares it.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) name: BudgetName,
    /// `None` if it declares nothing.
    pub(crate) configured: Option<CheckedSpec>,
    /// `None` for one that was deleted live.
    pub(crate) in_force: Option<Declared>,
}

impl Registry {
    /// Puts a new configuration in force: budgets that an administrator declared or deleted stay as they are, all others follow it.
    /// All of it or, with an error, nothing.
    ///
    /// # Errors
    /// `Full`, `Taken` where a budget has a pool's name, `NoPools` in a cluster.
    pub(crate) fn follow(&self, file: File) -> Result<(), RegistryError> {
        let mut index = self.index.lock();
        // In a cluster, whoever gets the budget makes it.
        let new = |name: &&BudgetName| {
            !self.is_clustered && !index.sorted.contains_key(*name) && !index.deleted.contains_key(*name)
        };
        let gone =
            |cell: &&Arc<Cell>| file.get(cell.name()).is_none() && cell.declared().source == Source::Config;
        let gone: Vec<_> = index.sorted.values().filter(gone).cloned().collect();
        let new: Vec<_> = file.budgets.keys().filter(new).cloned().collect();
        if index.sorted.len() - gone.len() + new.len() > self.budgets_max {
            return Err(RegistryError::Full { most: self.budgets_max });
        }
        if self.is_clustered && !file.pools.is_empty() {
            return Err(RegistryError::NoPools);
        }
        let goes = |name: &BudgetName| gone.iter().any(|cell| cell.name() == name);
        if let Some(name) = file.pools.keys().find(|name| index.sorted.contains_key(*name) && !goes(name)) {
            return Err(RegistryError::Taken { name: name.clone() });
        }
        let file = file.after(&self.file.read());
        *self.file.write() = file.clone();
        for cell in gone {
            self.remove(&mut index, &cell);
        }
        for cell in index.sorted.values().cloned().collect::<Vec<_>>() {
            Self::catch_up(&mut index, &cell, &file);
        }
        for name in new {
            let declared = index.declared(file.budgets[&name].clone(), Source::Config);
            self.make(&mut index, &name, declared)?;
        }
        let unmarked: Vec<_> =
            index.deleted.keys().filter(|name| !file.budgets.contains_key(*name)).cloned().collect();
        for name in unmarked {
            self.unmark(&mut index, &name);
        }
        Ok(())
    }

    /// What was declared by a configuration is as this one has it.
    pub(super) fn catch_up(index: &mut Index, cell: &Cell, file: &File) {
        let declared = cell.declared();
        let Some(spec) = file.get(cell.name()) else { return };
        if declared.source == Source::Config && declared.spec != *spec {
            cell.declare(index.declared(spec.clone(), Source::Config));
        }
    }

    /// Goes back to what the configuration declares, by name or as the provider's default. An empty etag is unconditional.
    ///
    /// # Errors
    /// `NotConfigured`, `EtagMismatch`, `IsPool`, `Full`.
    pub(crate) fn reset(&self, name: &BudgetName, etag: &str) -> Result<Change, RegistryError> {
        let mut index = self.index.lock();
        self.check_seat(&index, name)?;
        self.check_no_pool(name)?;
        let cell = index.sorted.get(name).cloned();
        let before = cell.as_ref().map(|cell| cell.declared());
        match_etag(name, before.as_ref(), etag)?;
        let spec = self.file.read().get(name).cloned();
        let spec = spec.ok_or_else(|| RegistryError::NotConfigured { name: name.clone() })?;
        let after = index.declared(spec, Source::Config);
        match cell {
            Some(cell) => cell.declare(after.clone()),
            None => drop(self.make(&mut index, name, after.clone())?),
        }
        Ok(Change { before, after: Some(after) })
    }

    /// Budgets that are not as the configuration declares them, sorted by name.
    pub(crate) fn differences(&self) -> Vec<Difference> {
        let index = self.index.lock();
        let file = self.file.read();
        let live = index.sorted.values().filter_map(|cell| {
            let (name, declared) = (cell.name().clone(), cell.declared());
            let configured = file.get(&name).cloned();
            let differs = declared.source == Source::Admin && configured.as_ref() != Some(&declared.spec);
            differs.then_some(Difference { name, configured, in_force: Some(declared) })
        });
        let deleted = index.deleted.keys().map(|name| Difference {
            name: name.clone(),
            configured: file.get(name).cloned(),
            in_force: None,
        });
        let mut differences: Vec<_> = live.chain(deleted).collect();
        differences.sort_by(|a, b| a.name.cmp(&b.name));
        differences
    }

    /// Goes on with budgets that an earlier process wrote down, before [`Registry::follow`] says what has changed since. Hands on the
    /// audit trail.
    ///
    /// # Errors
    /// `Full`.
    pub(crate) fn restore(&self, kept: Kept, back: &Resumed) -> Result<Vec<Entry>, RegistryError> {
        // Whoever was granted a permit by the earlier process is not there any more to hear of its end.
        let waiter = Waiter::nobody();
        let mut index = self.index.lock();
        index.ids = kept.ids;
        for (id, (stored, balance, permits)) in kept.budgets {
            index.ids = index.ids.max(id);
            if stored.deleted {
                index.deleted.insert(stored.name, id);
                continue;
            }
            self.make_room()?;
            let stored = StoredBudget { declared: index.shared(stored.declared), ..stored };
            let cell = self.revive(id, stored, (balance, permits), back, &waiter);
            self.insert(&mut index, cell);
        }
        Ok(kept.changes)
    }

    /// A budget as it was written down.
    pub(super) fn revive(
        &self,
        id: u32,
        stored: StoredBudget,
        left: (Option<Balance>, Vec<SavedPermit>),
        back: &Resumed,
        waiter: &Waiter,
    ) -> Arc<Cell> {
        let in_force = InForce::at(&stored.declared.spec, schedule::wall());
        let profile = Arc::clone(self.footing.profiles.of(stored.name.provider()));
        let mut heart = Heart::revived((in_force.spec.clone(), profile), left, back, waiter);
        if stored.paused {
            heart.awake().pause();
        }
        let name = (id, stored.name);
        Cell::with_heart(name, stored.declared, (in_force, heart), false, &self.footing)
    }

    /// A budget that was deleted although the configuration declares it is there again, or not declared any more.
    pub(super) fn unmark(&self, index: &mut Index, name: &BudgetName) {
        let Some(id) = index.deleted.remove(name) else { return };
        // If it is not written yet, or that fails, it is not to come behind what has the name now.
        if let Some(cell) = self.by_id(id) {
            cell.leave_no_mark();
        }
        if let Some(keeper) = self.keeper() {
            keeper.push(rows::remove_budget(id));
        }
    }
}
