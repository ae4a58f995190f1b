//! Budgets that come from other servers and go to them. A name is this server's from the moment that it was claimed until it is given
//! up; nothing is made or changed under a name that is not.

use std::{collections::BTreeSet, sync::Arc};

use permitd_budget::{Resumed, Time};

use super::{Index, Losses, Registry, RegistryError};
use crate::{
    cell::{Cell, Source},
    config::BudgetName,
    inbox::Waiter,
    store::Kept,
};

impl Registry {
    /// One of several servers: it begins with no budgets and no ids.
    pub(crate) fn clustered(mut self) -> Self {
        self.is_clustered = true;
        let index = self.index.get_mut();
        (index.ids_end, index.end) = (0, Time::ZERO);
        self
    }

    /// Budgets made from now on may have these ids: those from `first` on, `end` included. What is left of others is not used.
    pub(crate) fn lend_ids(&self, first: u32, end: u32) {
        let mut index = self.index.lock();
        (index.ids, index.ids_end) = (first - 1, end);
    }

    /// How many more budgets can be made before more ids are needed.
    pub(crate) fn ids_left(&self) -> u32 {
        let index = self.index.lock();
        index.ids_end.saturating_sub(index.ids)
    }

    /// The name is this server's now, with what was written down of it. A budget that the configuration declares, or with `asked` has
    /// defaults for, is made if there is none.
    ///
    /// # Errors
    /// `Full`.
    pub(crate) fn seat(
        &self,
        name: &BudgetName,
        kept: Kept,
        back: &Resumed,
        asked: bool,
    ) -> Result<(), RegistryError> {
        let waiter = Waiter::nobody();
        let mut index = self.index.lock();
        if !index.seats.insert(name.clone()) {
            // A second heart that began where this one did would grant the same again.
            return Ok(());
        }
        let mut is_deleted = false;
        for (id, (stored, balance, permits)) in kept.budgets {
            if stored.deleted {
                is_deleted = true;
                index.deleted.insert(stored.name, id);
                continue;
            }
            let cell = self.revive(id, stored, (balance, permits), back, &waiter);
            cell.grant_until(index.end);
            self.insert(&mut index, Arc::clone(&cell));
            // Who had it before may have had another configuration. What this one does not declare stays: it may be an older one.
            Self::catch_up(&mut index, &cell, &self.file.read());
        }
        if index.sorted.contains_key(name) {
            return Ok(());
        }
        let spec = {
            let file = self.file.read();
            let declared = file.budgets.get(name).filter(|_| !is_deleted);
            declared.or_else(|| file.providers.get(name.provider()).filter(|_| asked)).cloned()
        };
        if let Some(spec) = spec {
            let declared = index.declared(spec, Source::Config);
            let made = self.make(&mut index, name, declared);
            if made.is_err() && asked {
                // Whoever asks for names that nobody declared leaves nothing behind.
                index.seats.remove(name);
            }
            made?;
        }
        Ok(())
    }

    /// The name is not this server's any more; `None` if it was not. Whoever waits for its budget, if there is one, is told; `in_order`,
    /// everything of it is still to be written down.
    pub(crate) fn unseat(&self, name: &BudgetName, in_order: bool) -> Option<Option<Arc<Cell>>> {
        let mut index = self.index.lock();
        if !index.seats.remove(name) {
            return None;
        }
        index.deleted.remove(name);
        let Some(cell) = index.sorted.remove(name) else { return Some(None) };
        self.by_name.remove(name);
        self.by_id.remove(&cell.id());
        drop(index);
        cell.leave(in_order);
        Some(Some(cell))
    }

    /// Budgets that are given up at once, and maybe changes with them.
    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Whether the name is this server's.
    pub(crate) fn is_seated(&self, name: &BudgetName) -> bool {
        self.index.lock().seats.contains(name)
    }

    /// All names that are this server's.
    pub(crate) fn seats(&self) -> BTreeSet<BudgetName> {
        self.index.lock().seats.clone()
    }

    /// Grants of all budgets end then, until that is moved.
    pub(crate) fn grant_until(&self, end: Time) {
        let mut index = self.index.lock();
        index.end = end;
        let cells: Vec<_> = index.sorted.values().cloned().collect();
        drop(index);
        for cell in cells {
            cell.grant_until(end);
        }
    }

    /// Whether the configuration declares the budget by name, or has defaults for it.
    pub(crate) fn is_configured(&self, name: &BudgetName) -> bool {
        self.file.read().get(name).is_some()
    }

    /// The names that the configuration declares.
    pub(crate) fn configured(&self) -> Vec<BudgetName> {
        self.file.read().budgets.keys().cloned().collect()
    }

    /// The budget of a name that is this server's, if there is one: also of one that came after somebody looked for it in vain.
    pub(super) fn seated(&self, name: &BudgetName) -> Result<Option<Arc<Cell>>, RegistryError> {
        if !self.is_clustered {
            return Ok(None);
        }
        let index = self.index.lock();
        self.check_seat(&index, name)?;
        Ok(index.sorted.get(name).map(Arc::clone))
    }

    pub(super) fn check_seat(&self, index: &Index, name: &BudgetName) -> Result<(), RegistryError> {
        if !self.is_clustered || index.seats.contains(name) {
            return Ok(());
        }
        Err(RegistryError::Elsewhere { name: name.clone() })
    }
}
