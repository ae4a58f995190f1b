//! The budgets that a session uses, at hand by name and by id without touching what all threads share: a count of references that two
//! threads keep changing costs as much as a grant.

use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    cell::Cell,
    config::{BudgetName, DEFAULT_KEY},
};

/// Budgets that are kept at hand though no request of the session is remembered with them.
const IDLE_MAX: usize = 4_096;
/// Slots that one insertion looks at for one that nothing needs any more.
const LOOK: usize = 8;

/// Where a cell stands in its session's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(u32);

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    slots: Vec<Slot>,
    /// Only those that the session's caller may use by their names: members of pools may be here that it may not.
    by_name: HashTable<At>,
    by_id: HashTable<At>,
    hasher: RandomState,
    /// Where the search for a slot that nothing needs goes on.
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    cell: Arc<Cell>,
    /// Requests that are remembered with it.
    uses: u32,
}

impl Cells {
    /// The budget that a request names, if it was allowed before and not deleted since.
    pub(crate) fn named(&self, provider: &str, key: &str) -> Option<At> {
        let key = if key.is_empty() { DEFAULT_KEY } else { key };
        let is_named = |at: &At| {
            let name = self.cell(*at).name();
            name.key() == key && name.provider() == provider
        };
        self.by_name.find(self.hasher.hash_one((provider, key)), is_named).copied()
    }

    /// The budget of that id, if the session asked it for a permit.
    pub(crate) fn of_id(&self, id: u32) -> Option<At> {
        self.by_id.find(self.hasher.hash_one(id), |at| self.cell(*at).id() == id).copied()
    }

    pub(crate) fn cell(&self, at: At) -> &Arc<Cell> {
        &self.slots[at.0 as usize].cell
    }

    /// Puts a budget into the table that is not there. It is found by its id.
    pub(crate) fn add(&mut self, cell: Arc<Cell>) -> At {
        let id = self.hasher.hash_one(cell.id());
        let slot = Slot { cell, uses: 0 };
        let at = match self.vacate() {
            Some(at) => {
                self.slots[at.0 as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                At(self.slots.len() as u32 - 1)
            }
        };
        let Self { slots, by_id, hasher, .. } = self;
        by_id.insert_unique(id, at, |at| hasher.hash_one(slots[at.0 as usize].cell.id()));
        at
    }

    /// The caller may use the budget by its name: it is found by that as well.
    pub(crate) fn allow_name(&mut self, at: At) {
        let Self { slots, by_name, hasher, .. } = self;
        let name = |at: &At| slots[at.0 as usize].cell.name();
        let hash = hash_of(hasher, name(&at));
        match by_name.entry(hash, |known| name(known) == name(&at), |at| hash_of(hasher, name(at))) {
            Entry::Occupied(mut known) => *known.get_mut() = at,
            Entry::Vacant(free) => {
                free.insert(at);
            }
        }
    }

    /// The caller's rules may be others: whatever it names has to be allowed anew.
    pub(crate) fn forget_names(&mut self) {
        self.by_name.clear();
    }

    /// The budget was deleted: its name may be another's now. Reports still find it by its id.
    pub(crate) fn forget_name(&mut self, at: At) {
        let name = self.hash_of(self.cell(at).name());
        if let Ok(found) = self.by_name.find_entry(name, |known| *known == at) {
            found.remove();
        }
    }

    /// The budget is another server's: should it come back, it is another cell.
    pub(crate) fn forget_id(&mut self, at: At) {
        let id = self.hasher.hash_one(self.cell(at).id());
        if let Ok(found) = self.by_id.find_entry(id, |known| *known == at) {
            found.remove();
        }
    }

    /// A request is remembered with this budget.
    pub(crate) fn keep(&mut self, at: At) {
        self.slots[at.0 as usize].uses += 1;
    }

    /// The request is forgotten.
    pub(crate) fn release(&mut self, at: At) {
        self.slots[at.0 as usize].uses -= 1;
    }

    /// A slot that nothing needs any more, once there are many.
    fn vacate(&mut self) -> Option<At> {
        if self.slots.len() < IDLE_MAX {
            return None;
        }
        for _ in 0..LOOK {
            let at = At(self.hand as u32);
            self.hand = (self.hand + 1) % self.slots.len();
            if self.slots[at.0 as usize].uses == 0 {
                self.forget_name(at);
                self.forget_id(at);
                return Some(at);
            }
        }
        None
    }

    fn hash_of(&self, name: &BudgetName) -> u64 {
        hash_of(&self.hasher, name)
    }
}

fn hash_of(hasher: &RandomState, name: &BudgetName) -> u64 {
    hasher.hash_one((name.provider(), name.key()))
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;
    use crate::{
        alarm::Alarms,
        cell::{Declared, Footing, Source},
        clock::Clock,
    };

    /// A maker of budgets `p/<key>`.
    fn maker() -> impl Fn(u32, u32) -> Arc<Cell> {
        let clock = Clock::start();
        let (alarms, _) = Alarms::start("test", clock).expect("a thread");
        let footing = Arc::new(Footing::in_memory(clock, alarms));
        let spec = BudgetSpec { limits: vec![LimitSpec::in_flight(1)], ..BudgetSpec::default() };
        let spec = spec.check().expect("a sound spec");
        move |id, key| {
            let name = BudgetName::new("p", &key.to_string()).expect("a name");
            let declared = Declared { spec: spec.clone(), etag: String::new(), source: Source::Admin };
            Cell::new(id, name, declared, &footing)
        }
    }

    /// Goal: a budget is found by its id, and by its name only while that is allowed and not free.
    #[test]
    fn finds() {
        let (mut cells, cell) = (Cells::default(), maker());
        let at = cells.add(cell(7, 7));
        assert_eq!((cells.named("p", "7"), cells.of_id(7)), (None, Some(at)));
        cells.allow_name(at);
        cells.allow_name(at);
        assert_eq!((cells.named("p", "7"), cells.of_id(7)), (Some(at), Some(at)));
        assert_eq!((cells.named("p", "8"), cells.named("p", ""), cells.of_id(8)), (None, None, None));
        cells.forget_name(at);
        assert_eq!((cells.named("p", "7"), cells.of_id(7)), (None, Some(at)));
        let anew = cells.add(cell(8, 7));
        cells.allow_name(anew);
        assert_eq!(cells.named("p", "7"), Some(anew));
        cells.forget_names();
        assert_eq!((cells.named("p", "7"), cells.of_id(8)), (None, Some(anew)));
    }

    /// Goal: the table stays bounded however many budgets pass through, and never lets go of one that a request is remembered with.
    #[test]
    fn is_bounded() {
        let (mut cells, cell) = (Cells::default(), maker());
        let kept = cells.add(cell(0, 0));
        cells.allow_name(kept);
        cells.keep(kept);
        for id in 1..3 * IDLE_MAX as u32 {
            let at = cells.add(cell(id, id));
            cells.allow_name(at);
            assert_eq!(cells.cell(at).id(), id);
        }
        assert_eq!(cells.slots.len(), IDLE_MAX);
        assert_eq!((cells.by_name.len(), cells.by_id.len()), (IDLE_MAX, IDLE_MAX));
        assert_eq!((cells.of_id(0), cells.named("p", "0")), (Some(kept), Some(kept)));
        cells.release(kept);
        for id in 0..IDLE_MAX as u32 {
            cells.add(cell(1_000_000 + id, 1_000_000 + id));
        }
        assert_eq!(cells.of_id(0), None);
    }
}
