//! Sessions with the owners of budgets, beside the client's own session (*home*). Where several servers are a cluster, they tell who owns what
//! they pass on; from then on it is asked for there, which saves a hop.
//!
//! Invariant: nothing depends on it. A session with an owner takes requests only while it stands there. Once it does not, it takes no further
//! ones, and goes on at the client's own servers with those that it has, as any session does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use permitd_proto::v1 as wire;
use tokio::{sync::watch, time::timeout_at};

use super::{Driver, settings::Settings, table::budget_name};
use crate::{
    client::Status,
    mailbox::{Command, Mailbox},
};

/// Sessions with owners at a time.
const SESSIONS_MAX: usize = 16;
/// Budgets that go to owners; beyond, all are forgotten, and told again.
const BUDGETS_MAX: usize = 10_000;
/// A session that nobody uses for so long ends.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Owners {
    settings: Settings,
    home: Arc<Mailbox>,
    /// Whether any budget is asked for elsewhere, which is looked at first.
    any: AtomicBool,
    routes: RwLock<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    is_closed: bool,
    /// Where the server of the home session is, as servers tell it.
    home: String,
    /// By address.
    sessions: HashMap<String, Arc<OwnerSession>>,
    budgets: HashMap<Arc<str>, Arc<OwnerSession>>,
    /// Sessions that take nothing more, and have not ended.
    left: Vec<Arc<OwnerSession>>,
}

/// A session with an owner.
#[derive(Debug)]
pub(super) struct OwnerSession {
    address: String,
    mailbox: Arc<Mailbox>,
    stands: AtomicBool,
    left: AtomicBool,
    status: watch::Receiver<Status>,
}

impl Owners {
    pub(crate) fn new(settings: Settings, home: Arc<Mailbox>) -> Self {
        Self { settings, home, any: AtomicBool::new(false), routes: RwLock::default() }
    }

    /// Where a request goes.
    pub(crate) fn mailbox(&self, ask: &wire::AcquireRequest) -> Arc<Mailbox> {
        if self.any.load(Ordering::Relaxed) {
            let routes = self.routes.read();
            let session = routes.budgets.get(&budget_name(&ask.provider, &ask.key));
            if let Some(session) = session.filter(|session| session.stands.load(Ordering::Acquire)) {
                return Arc::clone(&session.mailbox);
            }
        }
        Arc::clone(&self.home)
    }

    /// The owners that are asked.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let routes = self.routes.read();
        let asked = routes.budgets.values().filter(|session| session.stands.load(Ordering::Acquire));
        let mut addresses: Vec<String> = asked.map(|session| session.address.clone()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The home session stands at the server of that address.
    pub(super) fn home_is(&self, address: &str) {
        if self.settings.follow_owners {
            address.clone_into(&mut self.routes.write().home);
        }
    }

    /// A server has told who owns a budget.
    pub(super) fn learn(self: &Arc<Self>, owner: &wire::Owner) {
        if !self.settings.follow_owners {
            return;
        }
        let budget = budget_name(&owner.provider, &owner.key);
        let mut routes = self.routes.write();
        if routes.budgets.len() >= BUDGETS_MAX {
            routes.budgets.clear();
        }
        routes.budgets.remove(&budget);
        let mut new = None;
        // An owner without an address is not known to who tells it.
        if !owner.address.is_empty() && owner.address != routes.home {
            if !routes.sessions.contains_key(&owner.address) {
                new = self.begin(&mut routes, &owner.address);
            }
            if let Some(session) = routes.sessions.get(&owner.address).cloned() {
                routes.budgets.insert(budget, session);
            }
        }
        self.any.store(!routes.budgets.is_empty(), Ordering::Relaxed);
        drop(routes);
        // Without the lock: a runtime that goes down drops it at once, and it wants to be forgotten then.
        if let Some(driver) = new {
            tokio::spawn(driver.run());
        }
    }

    /// A session with the owner at that address, for its driver to run, if there may be one.
    fn begin(self: &Arc<Self>, routes: &mut Routes, address: &str) -> Option<Driver> {
        if routes.is_closed || routes.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let settings = self.settings.at_owner(address);
        let settings =
            settings.inspect_err(|error| tracing::debug!(address, %error, "does not follow")).ok()?;
        let (told, status) = watch::channel(Status::Connecting);
        let mailbox = Arc::new(Mailbox::beside(&self.home));
        let session = Arc::new(OwnerSession {
            address: address.to_owned(),
            mailbox: Arc::clone(&mailbox),
            stands: AtomicBool::new(false),
            left: AtomicBool::new(false),
            status,
        });
        let driver = Driver::new(settings, mailbox, told, Arc::clone(self)).of_owner(Arc::clone(&session));
        routes.sessions.insert(address.to_owned(), session);
        Some(driver)
    }

    /// Nothing more is put to a session. Once this returns, nobody holds its mailbox for long; what still comes there goes home when its
    /// driver is gone.
    pub(super) fn leave(&self, session: &Arc<OwnerSession>) {
        session.stands.store(false, Ordering::Release);
        let routes = &mut *self.routes.write();
        if session.left.swap(true, Ordering::AcqRel) {
            return;
        }
        routes.budgets.retain(|_, other| !Arc::ptr_eq(other, session));
        // Only a session that was left has a successor at the same address.
        routes.left.extend(routes.sessions.remove(&session.address));
        self.any.store(!routes.budgets.is_empty(), Ordering::Relaxed);
    }

    /// A session's driver is gone.
    pub(super) fn ended(&self, session: &Arc<OwnerSession>) {
        self.leave(session);
        self.routes.write().left.retain(|other| !Arc::ptr_eq(other, session));
    }

    /// Nobody is left who could acquire.
    pub(crate) fn abandon(&self) {
        self.shut().iter().for_each(|session| session.mailbox.abandon());
        self.home.abandon();
    }

    /// Ends all sessions politely, within so much time.
    pub(crate) async fn close(&self, mut home: watch::Receiver<Status>, patience: Duration) {
        let until = tokio::time::Instant::now() + patience;
        let sessions = self.shut();
        let mailboxes = sessions.iter().map(|session| &session.mailbox).chain([&self.home]);
        mailboxes.for_each(|mailbox| mailbox.push(Command::Close));
        for status in sessions.iter().map(|session| &session.status).chain([&home.clone()]) {
            home = status.clone();
            // An error means that the driver is gone, which is what is waited for.
            drop(timeout_at(until, home.wait_for(|status| *status == Status::Closed)).await);
        }
    }

    /// From now on no session is made. Those that there are, of which some may be about to end.
    fn shut(&self) -> Vec<Arc<OwnerSession>> {
        let mut routes = self.routes.write();
        routes.is_closed = true;
        routes.sessions.values().chain(&routes.left).cloned().collect()
    }
}

impl OwnerSession {
    /// It takes requests, unless it was left.
    pub(super) fn begin(&self) {
        self.stands.store(!self.is_left(), Ordering::Release);
    }

    /// Whether nothing more is put to it.
    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}
