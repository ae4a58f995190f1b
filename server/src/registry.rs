//! All budgets of the server, by name for requests and by id for reports. A deleted budget's name is free at once; its cell stays
//! reachable by id until room is needed, so that reports for its permits are still answered.

mod configured;
mod error;
mod losses;
mod pools;
mod seats;
mod specs;

pub(crate) use configured::{Difference, File};
pub use error::RegistryError;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use permitd_budget::{CheckedSpec, Time};

use self::{losses::Losses, specs::Specs};

use crate::{
    cell::{Cell, Declared, Footing, Source},
    clock::Clock,
    config::BudgetName,
    metrics::Contention,
    profile::Profiles,
    store::Keeper,
};

/// All budgets.
pub struct Registry {
    footing: Arc<Footing>,
    budgets_max: usize,
    /// What the configuration declares.
    file: RwLock<File>,
    by_name: DashMap<BudgetName, Arc<Cell>, foldhash::fast::RandomState>,
    by_id: DashMap<u32, Arc<Cell>, foldhash::fast::RandomState>,
    draining: AtomicBool,
    /// Whether other servers own budgets too.
    is_clustered: bool,
    /// Budgets that were given up, of which something may not be written down.
    losses: Losses,
    /// Taken for every change: the sorted index, and what makes ids and etags unique.
    index: Mutex<Index>,
}

struct Index {
    sorted: BTreeMap<BudgetName, Arc<Cell>>,
    /// Budgets that the configuration declares and an administrator deleted, with the ids that they had.
    deleted: BTreeMap<BudgetName, u32>,
    ids: u32,
    /// Ids up to here may be used.
    ids_end: u32,
    /// Where other servers own budgets too: the names that are this server's.
    seats: BTreeSet<BudgetName>,
    /// When grants end, unless that is moved.
    end: Time,
    etags: u64,
    specs: Specs,
}

/// A change that was made, or that would be.
#[derive(Clone, Debug)]
pub struct Change {
    /// What stood before; `None` for a new budget.
    pub before: Option<Declared>,
    /// What stands now; `None` for a deleted budget.
    pub after: Option<Declared>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("budgets", &self.by_name.len()).finish_non_exhaustive()
    }
}

impl Registry {
    pub(crate) fn new(footing: Footing, budgets_max: usize) -> Self {
        // Etags of an earlier process must not match by accident.
        let (sorted, deleted) = (BTreeMap::new(), BTreeMap::new());
        let (seats, ids_end, end) = (BTreeSet::new(), u32::MAX, Time::MAX);
        let index = Index {
            sorted,
            deleted,
            ids: 0,
            ids_end,
            seats,
            end,
            etags: rand::random(),
            specs: Specs::default(),
        };
        let index = Mutex::new(index);
        let (by_name, by_id) = (DashMap::default(), DashMap::default());
        let draining = AtomicBool::new(false);
        let (file, is_clustered, losses) = (RwLock::default(), false, Losses::default());
        let footing = Arc::new(footing);
        Self { footing, budgets_max, file, by_name, by_id, draining, is_clustered, losses, index }
    }

    /// Who writes the budgets down, if anybody does.
    pub(crate) fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.footing.keeper.as_ref()
    }

    /// How long threads wait for each other at budgets.
    pub(crate) fn contention(&self) -> &Contention {
        &self.footing.contention
    }

    /// What is known of providers.
    #[must_use]
    pub fn profiles(&self) -> &Arc<Profiles> {
        &self.footing.profiles
    }

    /// The server's clock, which is that of all budgets.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.footing.clock
    }

    /// How many budgets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The budget of that name.
    ///
    /// # Errors
    /// `Unknown`, `IsPool`.
    pub fn find(&self, name: &BudgetName) -> Result<Arc<Cell>, RegistryError> {
        if let Some(cell) = self.by_name.get(name) {
            return Ok(Arc::clone(&cell));
        }
        if let Some(seated_meanwhile) = self.seated(name)? {
            return Ok(seated_meanwhile);
        }
        self.check_no_pool(name)?;
        Err(RegistryError::Unknown { name: name.clone() })
    }

    /// Does something to the budget of that name while nobody else changes it, deletes it or gives it up.
    ///
    /// # Errors
    /// `Unknown`, `IsPool`.
    pub(crate) fn steer(
        &self,
        name: &BudgetName,
        act: impl FnOnce(&Cell),
    ) -> Result<Arc<Cell>, RegistryError> {
        let index = self.index.lock();
        self.check_seat(&index, name)?;
        self.check_no_pool(name)?;
        let cell = index.sorted.get(name).ok_or_else(|| RegistryError::Unknown { name: name.clone() })?;
        act(cell);
        Ok(Arc::clone(cell))
    }

    /// The budget of that name, made from its provider's defaults if nobody declared it.
    ///
    /// # Errors
    /// `Unknown` if the provider has no defaults, `IsPool`, `Full`.
    pub fn find_or_make(&self, name: &BudgetName) -> Result<Arc<Cell>, RegistryError> {
        if let Some(cell) = self.by_name.get(name) {
            return Ok(Arc::clone(&cell));
        }
        if let Some(seated_meanwhile) = self.seated(name)? {
            return Ok(seated_meanwhile);
        }
        self.check_no_pool(name)?;
        let defaults = self.file.read().providers.get(name.provider()).cloned();
        let spec = defaults.ok_or_else(|| RegistryError::Unknown { name: name.clone() })?;
        let mut index = self.index.lock();
        self.check_seat(&index, name)?;
        // The configuration may have changed since.
        self.check_no_pool(name)?;
        match index.sorted.get(name) {
            Some(made_meanwhile) => Ok(Arc::clone(made_meanwhile)),
            None => {
                let declared = index.declared(spec, Source::Config);
                self.make(&mut index, name, declared)
            }
        }
    }

    /// The budget of that id, deleted or not.
    pub(crate) fn by_id(&self, id: u32) -> Option<Arc<Cell>> {
        self.by_id.get(&id).map(|cell| Arc::clone(&cell))
    }

    /// Creates the budget or replaces what is declared about it. An empty etag is unconditional. `dry`: checks everything,
    /// changes nothing.
    ///
    /// # Errors
    /// `EtagMismatch`, `IsPool`, `Full`.
    pub fn set(
        &self,
        name: &BudgetName,
        spec: CheckedSpec,
        source: Source,
        etag: &str,
        dry: bool,
    ) -> Result<Change, RegistryError> {
        let mut index = self.index.lock();
        self.check_seat(&index, name)?;
        let cell = index.sorted.get(name).cloned();
        let before = cell.as_ref().map(|cell| cell.declared());
        self.check_no_pool(name)?;
        match_etag(name, before.as_ref(), etag)?;
        if cell.is_none() {
            self.make_room()?;
        }
        let after = index.declared(spec, source);
        let change = Change { before, after: Some(after.clone()) };
        match cell {
            _ if dry => {}
            Some(cell) => cell.declare(after),
            None => drop(self.make(&mut index, name, after)?),
        }
        Ok(change)
    }

    /// Deletes the budget. An empty etag is unconditional.
    ///
    /// # Errors
    /// `EtagMismatch` (also where there is no such budget but an etag), `Unknown`, `IsPool`.
    pub fn delete(&self, name: &BudgetName, etag: &str) -> Result<Change, RegistryError> {
        let mut index = self.index.lock();
        self.check_seat(&index, name)?;
        self.check_no_pool(name)?;
        let before = index.sorted.get(name).map(|cell| cell.declared());
        match_etag(name, before.as_ref(), etag)?;
        let cell =
            index.sorted.get(name).cloned().ok_or_else(|| RegistryError::Unknown { name: name.clone() })?;
        self.remove(&mut index, &cell);
        Ok(Change { before, after: None })
    }

    /// All budgets, sorted by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Cell>> {
        self.index.lock().sorted.values().cloned().collect()
    }

    /// At most `most` budgets in order, beginning behind `after`, whether a budget of that name exists or not.
    #[must_use]
    pub fn list_after(&self, after: Option<&BudgetName>, most: usize) -> Vec<Arc<Cell>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let index = self.index.lock();
        index
            .sorted
            .range::<BudgetName, _>((start, Bound::Unbounded))
            .take(most)
            .map(|(_, cell)| Arc::clone(cell))
            .collect()
    }

    /// Ends the waiting of everybody, in all budgets that there are and that will be made; reports are still taken.
    pub(crate) fn drain(&self) {
        let index = self.index.lock();
        self.draining.store(true, Ordering::Release);
        let cells: Vec<_> = index.sorted.values().cloned().collect();
        drop(index);
        for cell in cells {
            cell.drain();
        }
    }

    /// Whether any permit is unreported, in deleted budgets too.
    pub(crate) fn has_permits(&self) -> bool {
        self.by_id.iter().any(|cell| cell.in_flight() > 0)
    }

    fn make(
        &self,
        index: &mut Index,
        name: &BudgetName,
        declared: Declared,
    ) -> Result<Arc<Cell>, RegistryError> {
        self.make_room()?;
        // An id is never used twice, so they can run out, after four billion budgets.
        let next = index.ids.checked_add(1).filter(|id| *id <= index.ids_end);
        index.ids = next.ok_or(RegistryError::Full { most: self.budgets_max })?;
        let cell = Cell::new(index.ids, name.clone(), declared, &self.footing);
        if self.is_clustered {
            cell.grant_until(index.end);
        }
        if self.draining.load(Ordering::Acquire) {
            cell.drain();
        }
        self.unmark(index, name);
        self.insert(index, Arc::clone(&cell));
        Ok(cell)
    }

    fn insert(&self, index: &mut Index, cell: Arc<Cell>) {
        self.by_id.insert(cell.id(), Arc::clone(&cell));
        self.by_name.insert(cell.name().clone(), Arc::clone(&cell));
        index.sorted.insert(cell.name().clone(), cell);
    }

    fn remove(&self, index: &mut Index, cell: &Arc<Cell>) {
        let name = cell.name();
        index.sorted.remove(name);
        self.by_name.remove(name);
        // Else the next process would make it again.
        let is_declared = self.file.read().budgets.contains_key(name);
        if is_declared {
            index.deleted.insert(name.clone(), cell.id());
        }
        cell.delete(is_declared);
    }

    /// Lets deleted budgets go that nobody holds a permit of, once they take the room of others.
    fn make_room(&self) -> Result<(), RegistryError> {
        let full = RegistryError::Full { most: self.budgets_max };
        if self.by_name.len() >= self.budgets_max {
            return Err(full);
        }
        // As many deleted ones are kept as living ones may be.
        if self.by_id.len() < self.budgets_max.saturating_mul(2) {
            return Ok(());
        }
        self.by_id.retain(|_, cell| {
            let alive = self.by_name.get(cell.name()).is_some_and(|living| living.id() == cell.id());
            alive || cell.in_flight() > 0
        });
        if self.by_id.len() < self.budgets_max.saturating_mul(2) { Ok(()) } else { Err(full) }
    }
}

impl Index {
    fn declared(&mut self, spec: CheckedSpec, source: Source) -> Declared {
        self.etags = self.etags.wrapping_add(1);
        Declared { spec: self.specs.shared(spec), etag: format!("{:016x}", self.etags), source }
    }

    fn shared(&mut self, declared: Declared) -> Declared {
        Declared { spec: self.specs.shared(declared.spec), ..declared }
    }
}

fn match_etag(name: &BudgetName, stands: Option<&Declared>, etag: &str) -> Result<(), RegistryError> {
    if etag.is_empty() || stands.is_some_and(|declared| declared.etag == etag) {
        Ok(())
    } else {
        Err(RegistryError::EtagMismatch { name: name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec, Outcome, Report, Request, Resumed};

    use super::*;
    use crate::{
        alarm::{AlarmThread, Alarms},
        inbox::{Inbox, Waiter},
        store::{Kept, StoredBudget},
    };

    fn registry(budgets_max: usize) -> (Registry, AlarmThread) {
        let clock = Clock::start();
        let (alarms, thread) = Alarms::start("alarms", clock).expect("a thread");
        let registry = Registry::new(Footing::in_memory(clock, alarms), budgets_max);
        let providers = BTreeMap::from([("made".to_owned(), spec())]);
        registry.follow(File { providers, ..File::default() }).expect("room");
        (registry, thread)
    }

    fn spec() -> CheckedSpec {
        BudgetSpec { limits: vec![LimitSpec::in_flight(1)], ..BudgetSpec::default() }
            .check()
            .expect("a sound spec")
    }

    fn name(text: &str) -> BudgetName {
        text.parse().expect("a name")
    }

    /// What is written down of a budget.
    fn declared(name: &BudgetName) -> Kept {
        let declared = Declared { spec: spec(), etag: "1".to_owned(), source: Source::Admin };
        let stored = StoredBudget { name: name.clone(), declared, paused: false, deleted: false };
        let mut kept = Kept::default();
        kept.budgets.insert(7, (stored, None, Vec::new()));
        kept
    }

    /// Goal: an etag holds for one state of one budget only, and an empty one for any.
    #[test]
    fn compares_and_sets() {
        let (registry, _thread) = registry(10);
        let (one, other) = (name("p/one"), name("p/other"));
        let set = |name: &BudgetName, etag: &str| registry.set(name, spec(), Source::Admin, etag, false);
        assert!(matches!(set(&one, "x"), Err(RegistryError::EtagMismatch { .. })), "nothing there to match");
        let first = set(&one, "").expect("created").after.expect("it stands").etag;
        let second = set(&one, &first).expect("replaced").after.expect("it stands").etag;
        assert_ne!(first, second);
        assert!(matches!(set(&one, &first), Err(RegistryError::EtagMismatch { .. })), "changed since");
        let foreign = set(&other, "").expect("created").after.expect("it stands").etag;
        assert!(matches!(registry.delete(&one, &foreign), Err(RegistryError::EtagMismatch { .. })));
        registry.set(&one, spec(), Source::Admin, &second, true).expect("a dry run");
        assert_eq!(registry.find(&one).expect("there").declared().etag, second, "which changed nothing");
        registry.delete(&one, &second).expect("deleted");
        assert!(matches!(registry.find(&one), Err(RegistryError::Unknown { .. })));
        assert!(matches!(registry.delete(&one, ""), Err(RegistryError::Unknown { .. })));
    }

    /// Goal: budgets are made from defaults where there are any, are bounded, and are listed in order from anywhere.
    #[test]
    fn makes_and_lists() {
        let (registry, _thread) = registry(3);
        for key in ["c", "a", "b"] {
            registry.find_or_make(&name(&format!("made/{key}"))).expect("made");
        }
        assert!(matches!(registry.find_or_make(&name("made/d")), Err(RegistryError::Full { most: 3 })));
        assert!(matches!(registry.find_or_make(&name("other/d")), Err(RegistryError::Unknown { .. })));
        let keys =
            |cells: Vec<Arc<Cell>>| cells.iter().map(|cell| cell.name().key().to_owned()).collect::<Vec<_>>();
        assert_eq!(keys(registry.list()), ["a", "b", "c"]);
        registry.delete(&name("made/b"), "").expect("deleted");
        assert_eq!(keys(registry.list_after(Some(&name("made/b")), 5)), ["c"]);
        assert_eq!(keys(registry.list_after(None, 1)), ["a"]);
    }

    /// Goal: deleted budgets with permits out can be reached by id however many come after them; the others make room.
    #[test]
    fn deleted_budgets_make_room() {
        let (registry, _thread) = registry(2);
        let waiter = Waiter { inbox: Arc::new(Inbox::default()), request_id: 1, trace: None };
        let held = registry.find_or_make(&name("made/held")).expect("made");
        let request = Request {
            tenant: "t",
            model: "",
            priority: permitd_budget::Priority::Standard,
            estimate: permitd_budget::Usage::default(),
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter,
        };
        let permitd_budget::Acquired::Granted(grant) = held.acquire(request).expect("room") else {
            panic!("granted at once")
        };
        registry.delete(held.name(), "").expect("deleted");
        for round in 0..20 {
            let name = name(&format!("made/{round}"));
            registry.find_or_make(&name).expect("room");
            registry.delete(&name, "").expect("deleted");
        }
        assert!(registry.by_id.len() <= 4, "{} kept", registry.by_id.len());
        let cell = registry.by_id(held.id()).expect("its permit is out");
        assert!(registry.has_permits());
        assert!(cell.report(grant.permit, &Report::new(Outcome::Success)).expect("here").0.settled);
        assert!(!registry.has_permits());
    }

    /// Goal: whoever claims a budget twice, for two reasons at once, has it once: a second heart that goes on from the same save would
    /// grant everything again.
    #[test]
    fn is_seated_once() {
        let (registry, _thread) = registry(2);
        let registry = registry.clustered();
        let (here, back) = (name("p/here"), Resumed::at(registry.clock().now()));
        registry.seat(&here, declared(&here), &back, false).expect("room");
        let first = registry.find(&here).expect("seated");
        registry.seat(&here, declared(&here), &back, false).expect("it is there");
        assert!(Arc::ptr_eq(&first, &registry.find(&here).expect("still there")));
    }

    /// Goal: whoever asks for a budget while it comes from another server is told that it is elsewhere or gets it, and never hears that
    /// there is none.
    #[test]
    fn is_found_while_it_comes() {
        let (registry, _thread) = registry(2);
        let registry = registry.clustered();
        let (here, back) = (name("p/here"), Resumed::at(registry.clock().now()));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    registry.seat(&here, declared(&here), &back, false).expect("room");
                    registry.unseat(&here, false);
                }
            });
            for _ in 0..200_000 {
                for found in [registry.find_or_make(&here), registry.find(&here)] {
                    if !matches!(found, Ok(_) | Err(RegistryError::Elsewhere { .. })) {
                        is_over.store(true, Ordering::Relaxed);
                        panic!("{found:?}");
                    }
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
