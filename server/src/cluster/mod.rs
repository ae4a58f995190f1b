//! Several servers as one, on etcd. A budget has one owner at a time, who grants from it; the others pass on what they are asked.
//!
//! What keeps two from granting at once: an owner has claimed the budget in a transaction, under a lease; its heart grants only until
//! the lease could have lapsed by its own clock (`lease`); and whatever it writes down is refused by etcd once the claim is gone
//! (`store::etcd`). Who comes after it begins with everything counted as taken that it may have granted (`claims`). Where a request
//! is sent is a matter of speed only (`directory`, `placement`).

mod claims;
mod directory;
pub(crate) mod etcd;
mod follow;
mod handover;
mod join;
pub(crate) mod keys;
mod lease;
mod lookup;
pub(crate) mod peers;
mod placement;
mod service;
mod taking;
pub(crate) mod unary;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

pub use self::join::ClusterError;
use self::{
    directory::Directory,
    etcd::Etcd,
    keys::Keys,
    lease::Standing,
    lookup::{Answer, Lookups},
    peers::{Peer, Peers},
};
pub(crate) use self::{join::Joined, service::Service};
use crate::{
    audit::Trail, clock::Clock, config::BudgetName, inbox::Inbox, permit_id::PermitIds, registry::Registry,
    store::etcd::Owned,
};

/// How long a request may be without a server that answers for its budget before it is refused: a failover by far, and no more than
/// people wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long etcd may take to tell of a new budget.
pub(crate) const NEWS_MAX: Duration = Duration::from_secs(1);
/// Between two tries to find one, where nothing tells that there is one.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(50);
/// Budgets that are waited for at once. Further ones are asked for again by whoever waits.
const WANTED_MAX: usize = 10_000;

/// One of several servers.
pub(crate) struct Cluster {
    /// What the others know this one by.
    name: String,
    /// Where they reach it.
    address: String,
    /// Where clients do; empty if they are not told.
    for_clients: String,
    /// This process: another of the same name has another one.
    instance: String,
    lease: Duration,
    etcd: Etcd,
    keys: Keys,
    clock: Clock,
    registry: Arc<Registry>,
    trail: Arc<Trail>,
    owned: Arc<Owned>,
    peers: Peers,
    directory: RwLock<Directory>,
    /// What this server's claims stand on, while they do. Its lock is held while budgets come and go.
    standing: Mutex<Option<Standing>>,
    /// About to stop: gives its budgets up, and takes none.
    is_leaving: AtomicBool,
    /// The same, by somebody's wish, until it is undone.
    is_drained: AtomicBool,
    /// Budgets to claim, and whether a request asked for them.
    wanted: Mutex<BTreeMap<BudgetName, bool>>,
    wants: Notify,
    /// Budgets that are being handed over.
    on_their_way: Mutex<BTreeSet<BudgetName>>,
    /// Names that the directory does not know.
    lookups: Lookups,
    /// Sessions that want to look again when something changed.
    lookers: Mutex<Vec<Weak<Inbox>>>,
    changed: watch::Sender<u64>,
}

/// Where a request about a budget goes.
#[derive(Debug)]
pub(crate) enum Route {
    /// This server owns it.
    Here,
    /// To its owner, or to whoever should be.
    There(Peer),
    /// Nobody owns it yet; look again when something changed.
    Wait,
    /// There is no such budget.
    Nowhere,
}

/// Where a server and its cluster stand, in figures.
#[derive(Debug)]
pub(crate) struct Standings {
    /// Servers that have a lease.
    pub(crate) members: usize,
    /// Those of them that take no budgets.
    pub(crate) drained: usize,
    /// Budgets that nobody owns.
    pub(crate) ownerless: usize,
    /// Budgets that this server owns.
    pub(crate) owned: usize,
    /// Whether this server has a lease.
    pub(crate) is_leased: bool,
}

/// What a request wants of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// To use it: it has to be declared, or to have defaults.
    Use,
    /// To declare it: it may be new.
    Declare,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Where to go with a request. `is_passed`: another server has passed it on, so it goes no further; if nobody owns the budget, this
    /// server does from now on.
    pub(crate) fn route(&self, budget: &BudgetName, errand: Errand, is_passed: bool) -> Route {
        if self.registry.is_seated(budget) {
            return Route::Here;
        }
        let directory = self.directory.read();
        if let Some(owner) = directory.owner(budget) {
            let there = directory.member(owner).filter(|_| owner != self.name);
            return there.map_or(Route::Wait, |row| Route::There(Peer::new(owner, &row.address)));
        }
        let declared = directory.budget(budget).map(|(_, stored)| !stored.deleted);
        let is_known = declared.unwrap_or_else(|| self.registry.is_configured(budget));
        if !is_known && errand == Errand::Use {
            // It may have been declared at another server just now.
            return match self.lookups.look_up(budget, Instant::now()) {
                Answer::NoSuchBudget => Route::Nowhere,
                Answer::Soon => Route::Wait,
            };
        }
        let takes_none = self.takes_none();
        match directory.place(budget) {
            Some(place) if place != self.name && (!is_passed || takes_none) => {
                let row = directory.member(place).expect("placed among members");
                Route::There(Peer::new(place, &row.address))
            }
            Some(_) if !takes_none => {
                drop(directory);
                self.want(budget);
                Route::Wait
            }
            _ => Route::Wait,
        }
    }

    /// Where it stands.
    pub(crate) fn standings(&self) -> Standings {
        let is_leased = self.standing.lock().is_some();
        let directory = self.directory.read();
        Standings {
            members: directory.members().count(),
            drained: directory.members().filter(|(_, row)| row.leaving).count(),
            ownerless: directory.orphans().count(),
            owned: self.registry.seats().len(),
            is_leased,
        }
    }

    /// Whether this server certainly has no lease: of owners it knows what it heard last. Never waits, since sessions ask who are locked.
    pub(crate) fn lacks_lease(&self) -> bool {
        self.standing.try_lock().is_some_and(|standing| standing.is_none())
    }

    /// Whether this server takes no budgets.
    fn takes_none(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed) || self.is_drained.load(Ordering::Relaxed)
    }

    /// The budget of that id, if there is one.
    pub(crate) fn name_of(&self, id: u32) -> Option<BudgetName> {
        self.directory.read().name(id).cloned()
    }

    /// Whether there is a budget of that id, as far as this server hears: one that is new, and all while etcd is read anew, may have to be
    /// told of yet.
    pub(crate) async fn hears_of(&self, id: u32) -> bool {
        let end = Instant::now() + NEWS_MAX;
        while self.registry.by_id(id).is_none() && self.name_of(id).is_none() {
            if Instant::now() > end {
                return false;
            }
            self.change().await;
        }
        true
    }

    /// Where clients reach this server; empty if they are not told.
    pub(crate) fn for_clients(&self) -> &str {
        &self.for_clients
    }

    /// Where clients reach the server of that name, if one runs and they are told.
    pub(crate) fn clients_of(&self, name: &str) -> Option<String> {
        self.directory.read().member(name)?.for_clients().map(str::to_owned)
    }

    /// Whether a server of that name runs.
    pub(crate) fn has_member(&self, name: &str) -> bool {
        self.directory.read().member(name).is_some()
    }

    /// The server of that name, if one runs.
    fn peer(&self, name: &str) -> Option<Peer> {
        Some(Peer::new(name, &self.directory.read().member(name)?.address))
    }

    /// All other servers.
    pub(crate) fn others(&self) -> Vec<Peer> {
        let directory = self.directory.read();
        let others = directory.members().filter(|(name, _)| *name != self.name);
        others.map(|(name, row)| Peer::new(name, &row.address)).collect()
    }

    /// How to reach the others.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// A permit of that budget was granted elsewhere: its id tells the budget's, which etcd may not have told yet.
    pub(crate) fn learn(&self, permit_id: &str, budget: &BudgetName) {
        let Some(id) = PermitIds::cell_of(permit_id) else { return };
        if self.directory.read().name(id).is_none() {
            self.directory.write().name_is(id, budget);
        }
    }

    /// How often a request may have found another way.
    pub(crate) fn changes(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Wakes the inbox's reader whenever a request may find another way, for as long as there is one.
    pub(crate) fn look(&self, inbox: &Arc<Inbox>) {
        let mut lookers = self.lookers.lock();
        if lookers.len() == lookers.capacity() {
            lookers.retain(|looker| looker.strong_count() > 0);
        }
        lookers.push(Arc::downgrade(inbox));
    }

    /// Resolves when a request may find another way, or after a while.
    pub(crate) async fn change(&self) {
        let mut changed = self.changed.subscribe();
        // Whether anything was told or not, another look does no harm.
        let _ = tokio::time::timeout(RETRY_EVERY, changed.changed()).await;
    }

    fn want(&self, budget: &BudgetName) {
        let mut wanted = self.wanted.lock();
        if wanted.len() < WANTED_MAX {
            wanted.insert(budget.clone(), true);
            self.wants.notify_one();
        }
    }

    fn tell_change(&self) {
        self.changed.send_modify(|changes| *changes += 1);
        let mut inboxes = Vec::new();
        self.lookers.lock().retain(|looker| match looker.upgrade() {
            Some(inbox) => {
                inboxes.push(inbox);
                true
            }
            None => false,
        });
        inboxes.iter().for_each(|inbox| inbox.wake());
    }
}
