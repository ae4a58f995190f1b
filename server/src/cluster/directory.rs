//! What a server knows of the cluster: who runs, who owns which budget, and what budgets there are. It follows etcd, so it may be
//! behind; nothing that has to be right depends on it, only where a request is sent first.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use permitd_budget::Time;
use prost::Message;

use super::placement::{Candidate, better, place};
use crate::{
    clock::{Boot, Clock, Pulse},
    config::BudgetName,
    store::StoredBudget,
};

/// Processes whose clocks are remembered; beyond, those that run.
const CLOCKS_MAX: usize = 10_000;

/// Names that are known without what was declared of them.
const NAMES_MAX: usize = 10_000;

/// A server, as it describes itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberRow {
    /// Where others reach it, as a URL.
    #[prost(string, tag = "1")]
    pub(crate) address: String,
    /// Of the program.
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    /// Whether it takes no budgets: it was drained, or is about to go.
    #[prost(bool, tag = "3")]
    pub(crate) leaving: bool,
    /// Its clock when it wrote this.
    #[prost(fixed64, tag = "4")]
    pub(crate) at_nanos: u64,
    /// The start of its machine, and how long that was ago.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) boot: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub(crate) up_nanos: u64,
    /// Which process it is.
    #[prost(string, tag = "7")]
    pub(crate) instance: String,
    /// When it got its lease, by its clock; 0 of versions that do not tell.
    #[prost(fixed64, tag = "8")]
    pub(crate) since_nanos: u64,
    /// Where clients reach it, as a URL; empty if they are not told. `None` of versions that do not tell: as others do.
    #[prost(string, optional, tag = "9")]
    pub(crate) clients: Option<String>,
}

impl MemberRow {
    /// With the clock as it is now. `since`: when it got its lease.
    pub(crate) fn now(address: &str, instance: &str, leaving: bool, since: Time, clock: &Clock) -> Self {
        let pulse = clock.pulse();
        let (boot, up) = pulse.boot.map_or((Vec::new(), Duration::ZERO), |boot| (boot.id.to_vec(), boot.up));
        Self {
            address: address.to_owned(),
            instance: instance.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leaving,
            at_nanos: pulse.at.as_nanos(),
            boot,
            up_nanos: u64::try_from(up.as_nanos()).unwrap_or(u64::MAX),
            since_nanos: since.as_nanos(),
            clients: None,
        }
    }

    /// Where clients reach it, if they are told.
    pub(crate) fn for_clients(&self) -> Option<&str> {
        let address = self.clients.as_ref().unwrap_or(&self.address);
        (!address.is_empty()).then_some(address)
    }

    pub(crate) fn pulse(&self) -> Pulse {
        let boot = self.boot.clone().try_into().ok();
        let boot = boot.map(|id| Boot { id, up: Duration::from_nanos(self.up_nanos) });
        Pulse { at: Time::from_nanos(self.at_nanos), boot }
    }
}

/// What is known of a server's clock: what it showed, and when that was seen here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) pulse: Pulse,
    pub(crate) at: Instant,
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    members: BTreeMap<String, MemberRow>,
    /// By process, also of those that are gone: what they left behind tells time by their clocks.
    clocks: HashMap<String, Seen>,
    owners: HashMap<BudgetName, String>,
    owned: HashMap<String, usize>,
    budgets: BTreeMap<BudgetName, (u32, StoredBudget)>,
    /// The servers that budgets were moved to, to stay there.
    pins: BTreeMap<BudgetName, String>,
    names: HashMap<u32, BudgetName>,
}

impl Directory {
    /// A server came, or said something new of itself. Whether that is more than the time.
    pub(crate) fn member_is(&mut self, name: String, row: MemberRow, now: Instant) -> bool {
        if self.clocks.len() >= CLOCKS_MAX {
            let running: Vec<&str> = self.members.values().map(|row| &*row.instance).collect();
            self.clocks.retain(|instance, _| running.contains(&&**instance));
        }
        self.clocks.insert(row.instance.clone(), Seen { pulse: row.pulse(), at: now });
        let (address, instance, leaving) = (row.address.clone(), row.instance.clone(), row.leaving);
        let before = self.members.insert(name, row);
        before.is_none_or(|before| {
            (before.address, before.instance, before.leaving) != (address, instance, leaving)
        })
    }

    pub(crate) fn member_gone(&mut self, name: &str) {
        self.members.remove(name);
    }

    pub(crate) fn owner_is(&mut self, budget: BudgetName, owner: String) {
        self.owner_gone(&budget);
        *self.owned.entry(owner.clone()).or_default() += 1;
        self.owners.insert(budget, owner);
    }

    pub(crate) fn owner_gone(&mut self, budget: &BudgetName) {
        let Some(owner) = self.owners.remove(budget) else { return };
        if let Some(owned) = self.owned.get_mut(&owner) {
            *owned -= 1;
        }
    }

    /// `owner` gave a budget up. Who has taken it since then may be known already.
    pub(crate) fn owner_left(&mut self, budget: &BudgetName, owner: &str) {
        if self.owner(budget) == Some(owner) {
            self.owner_gone(budget);
        }
    }

    pub(crate) fn budget_is(&mut self, id: u32, stored: StoredBudget) {
        let name = stored.name.clone();
        self.budget_gone(&name);
        self.names.insert(id, name.clone());
        self.budgets.insert(name, (id, stored));
    }

    /// A budget of that id is called so; more of it is to be told yet.
    pub(crate) fn name_is(&mut self, id: u32, budget: &BudgetName) {
        // What is never told in full stays; so it is bounded.
        if self.names.len() < self.budgets.len() + NAMES_MAX {
            self.names.insert(id, budget.clone());
        }
    }

    pub(crate) fn budget_gone(&mut self, budget: &BudgetName) {
        if let Some((id, _)) = self.budgets.remove(budget) {
            self.names.remove(&id);
        }
    }

    pub(crate) fn pin_is(&mut self, budget: BudgetName, server: String) {
        self.pins.insert(budget, server);
    }

    pub(crate) fn pin_gone(&mut self, budget: &BudgetName) {
        self.pins.remove(budget);
    }

    /// Everything is read anew; only clocks are remembered.
    pub(crate) fn clear(&mut self) {
        *self = Self { clocks: std::mem::take(&mut self.clocks), ..Self::default() };
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &MemberRow)> {
        self.members.iter().map(|(name, row)| (&**name, row))
    }

    pub(crate) fn member(&self, name: &str) -> Option<&MemberRow> {
        self.members.get(name)
    }

    pub(crate) fn clock_of(&self, instance: &str) -> Option<Seen> {
        self.clocks.get(instance).copied()
    }

    /// Who owns a budget.
    pub(crate) fn owner(&self, budget: &BudgetName) -> Option<&str> {
        self.owners.get(budget).map(String::as_str)
    }

    /// How many budgets a server owns.
    pub(crate) fn owned(&self, member: &str) -> usize {
        self.owned.get(member).copied().unwrap_or(0)
    }

    /// What was declared of a budget; deleted ones that leave a mark included.
    pub(crate) fn budget(&self, name: &BudgetName) -> Option<&(u32, StoredBudget)> {
        self.budgets.get(name)
    }

    /// The budget of that id.
    pub(crate) fn name(&self, id: u32) -> Option<&BudgetName> {
        self.names.get(&id)
    }

    /// Budgets that nobody owns.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = &BudgetName> {
        let living = self.budgets.iter().filter(|(_, (_, stored))| !stored.deleted);
        living.map(|(name, _)| name).filter(|name| !self.owners.contains_key(*name))
    }

    /// Budgets of that server.
    pub(crate) fn owned_by(&self, member: &str) -> impl Iterator<Item = &BudgetName> {
        self.owners.iter().filter(move |(_, owner)| *owner == member).map(|(budget, _)| budget)
    }

    /// Who should own a budget that nobody owns.
    pub(crate) fn place(&self, budget: &BudgetName) -> Option<&str> {
        self.pinned(budget).or_else(|| place(budget, &self.candidates()))
    }

    /// To whom a budget of `owner` should move, if to anybody.
    pub(crate) fn better(&self, budget: &BudgetName, owner: &str) -> Option<&str> {
        match self.pinned(budget) {
            Some(pinned) => (pinned != owner).then_some(pinned),
            None => better(budget, owner, &self.candidates()),
        }
    }

    /// Whether somebody moved the budget.
    pub(crate) fn is_pinned(&self, budget: &BudgetName) -> bool {
        self.pins.contains_key(budget)
    }

    /// Budgets of `owner` that somebody moved to others, who take them.
    pub(crate) fn moved_from(&self, owner: &str) -> impl Iterator<Item = &BudgetName> {
        let owned = self.pins.keys().filter(move |budget| self.owner(budget) == Some(owner));
        owned.filter(move |budget| self.pinned(budget).is_some_and(|pinned| pinned != owner))
    }

    /// The server that somebody moved the budget to, while it takes budgets.
    fn pinned(&self, budget: &BudgetName) -> Option<&str> {
        let (name, row) = self.members.get_key_value(self.pins.get(budget)?)?;
        (!row.leaving).then_some(name)
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let staying = self.members.iter().filter(|(_, row)| !row.leaving);
        staying.map(|(name, _)| Candidate { name, owned: self.owned(name) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the next owner of a budget that was given up is not forgotten, though it may be heard of before all is done here.
    #[test]
    fn the_next_owner_is_heard_of_early() {
        let mut directory = Directory::default();
        let budget: BudgetName = "p/k".parse().expect("a name");
        directory.owner_is(budget.clone(), "a".to_owned());
        directory.owner_is(budget.clone(), "b".to_owned());
        directory.owner_left(&budget, "a");
        assert_eq!((directory.owner(&budget), directory.owned("a"), directory.owned("b")), (Some("b"), 0, 1));
        directory.owner_left(&budget, "b");
        assert_eq!((directory.owner(&budget), directory.owned("b")), (None, 0));
    }

    /// Goal: a budget that was moved stays where it was moved to, while that server takes budgets.
    #[test]
    fn what_was_moved_stays() {
        let mut directory = Directory::default();
        let row = |leaving| MemberRow { leaving, ..MemberRow::default() };
        for server in ["a", "b", "c"] {
            directory.member_is(server.to_owned(), row(false), Instant::now());
        }
        let budget: BudgetName = "p/k".parse().expect("a name");
        let by_itself = directory.place(&budget).expect("there are servers").to_owned();
        let other = ["a", "b", "c"].into_iter().find(|server| **server != by_itself).expect("three");
        directory.owner_is(budget.clone(), by_itself.clone());
        assert_eq!(directory.better(&budget, &by_itself), None);

        directory.pin_is(budget.clone(), other.to_owned());
        assert_eq!(directory.place(&budget), Some(other));
        assert_eq!(directory.better(&budget, &by_itself), Some(other));
        assert_eq!(directory.moved_from(&by_itself).collect::<Vec<_>>(), [&budget]);
        directory.owner_is(budget.clone(), other.to_owned());
        assert_eq!(directory.better(&budget, other), None, "though it would be another's");
        assert_eq!(directory.moved_from(other).count(), 0);

        directory.member_is(other.to_owned(), row(true), Instant::now());
        assert_eq!(directory.place(&budget), Some(&*by_itself), "while that one takes none");
        directory.member_is(other.to_owned(), row(false), Instant::now());
        directory.pin_gone(&budget);
        assert_eq!(directory.place(&budget), Some(&*by_itself));
    }
}
