//! Joining: whether etcd, its prefix and the other servers are what they should be is found out before anything else, and told with
//! what to do.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tonic::{Code, Status, transport::Uri};

use super::{
    Cluster,
    directory::{Directory, MemberRow},
    etcd::{Etcd, made_at, messages::TxnRequest, put},
    keys::{Keys, Live},
    lookup::Lookups,
    peers::Peers,
    taking::SKEW_MAX,
};
use crate::{
    audit::Trail,
    clock::Clock,
    config::{ClusterConfig, Config},
    permit_id::Seal,
    registry::Registry,
    store::{
        StoreError,
        etcd::{EtcdStore, Owned},
    },
};

/// What the layout is called. Servers that know another one keep away.
const FORMAT: &[u8] = b"permitd 1";

/// Why a server could not join its cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// etcd can't be reached, or has no majority.
    #[error(
        "can't reach etcd at {endpoints}: {why}; is it running, and are the endpoints of `--cluster` right?"
    )]
    Unreachable {
        /// Its endpoints.
        endpoints: String,
        /// What was wrong.
        why: String,
    },
    /// etcd does not know the user, or lets it do nothing here.
    #[error(
        "etcd at {endpoints} does not let this server in: {why}; mend cluster.user, cluster.password_file and the user's role there"
    )]
    Denied {
        /// Its endpoints.
        endpoints: String,
        /// What it said.
        why: String,
    },
    /// Something else has keys below the prefix.
    #[error(
        "something that is no cluster of this permitd has keys below {prefix:?} in etcd ({found}); choose another cluster.prefix"
    )]
    Foreign {
        /// The prefix.
        prefix: String,
        /// What stands there.
        found: String,
    },
    /// Another running server has the name.
    #[error(
        "another server of the cluster is called {name:?}, at {address}; give this one another cluster.name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other is.
        address: String,
    },
    /// The machine's date is not that of the others.
    #[error(
        "the clock of this machine and that of {other} are {apart:?} apart; set both by a time server (NTP) and start again"
    )]
    Clock {
        /// The other server.
        other: String,
        /// How far apart.
        apart: Duration,
    },
}

/// A server that may join.
#[derive(Debug)]
pub(crate) struct Joined {
    config: ClusterConfig,
    name: String,
    address: String,
    for_clients: String,
    instance: String,
    etcd: Etcd,
    keys: Keys,
    clock: Clock,
    owned: Arc<Owned>,
    peers: Peers,
    pub(crate) seal: Seal,
}

impl Joined {
    /// Looks at everything, and makes what a new cluster needs.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn begin(
        config: &Config,
        cluster: &ClusterConfig,
        listens: SocketAddr,
        clock: Clock,
    ) -> Result<Self, ClusterError> {
        let etcd = Etcd::new(&cluster.etcd).map_err(ClusterError::Config)?;
        let keys = Keys::new(&cluster.prefix);
        let scheme = if config.server.tls.is_some() { "https" } else { "http" };
        let address = match &cluster.address {
            Some(address) => address.clone(),
            None if listens.ip().is_unspecified() => {
                let message =
                    format!("the other servers can't reach this one at {listens}; set cluster.address");
                return Err(ClusterError::Config(message));
            }
            None => format!("{scheme}://{listens}"),
        };
        let name = cluster
            .name
            .clone()
            .unwrap_or_else(|| address.trim_start_matches(scheme).trim_start_matches("://").to_owned());
        let peers =
            Peers::new(config.server.tls.as_ref(), cluster, &address).map_err(ClusterError::Config)?;
        let for_clients = match cluster.advertise.as_deref() {
            None => address.clone(),
            Some(ClusterConfig::NOWHERE) => String::new(),
            Some(url) => told(url)?,
        };
        let instance = format!("{name}#{:016x}", rand::random::<u64>());
        let joined = Self {
            config: cluster.clone(),
            name,
            address,
            for_clients,
            instance,
            etcd,
            keys,
            clock,
            owned: Arc::default(),
            peers,
            seal: Seal::random(),
        };
        joined.check().await
    }

    async fn check(mut self) -> Result<Self, ClusterError> {
        let wrong = |status| self.wrong(&status);
        let (found, _) = self.etcd.range(self.keys.all()).await.map_err(wrong)?;
        let value = |key: Vec<u8>| found.iter().find(|kv| kv.key == key).map(|kv| &*kv.value);
        match value(self.keys.format()) {
            Some(FORMAT) => {}
            None if found.is_empty() => self.make().await.map_err(wrong)?,
            other => {
                let found = other.or(found.first().map(|kv| &*kv.key)).unwrap_or_default();
                let found = String::from_utf8_lossy(found).into_owned();
                return Err(ClusterError::Foreign { prefix: self.config.prefix.clone(), found });
            }
        }
        let seal = self.etcd.get(&self.keys.seal()).await.map_err(wrong)?;
        let seal = seal.and_then(|kv| <[u8; 16]>::try_from(kv.value).ok());
        let lost = || wrong(Status::data_loss("the key \"seal\" of the cluster is missing"));
        self.seal = Seal::from_bytes(seal.ok_or_else(lost)?);
        for kv in &found {
            let Some(Live::Member(other)) = self.keys.read(&kv.key) else { continue };
            let Ok(row) = MemberRow::decode(&*kv.value) else { continue };
            self.check_member(other, &row)?;
        }
        Ok(self)
    }

    /// What is there once. Servers that start together agree on the first's.
    async fn make(&self) -> Result<(), Status> {
        let request = TxnRequest {
            compare: vec![made_at(self.keys.format(), 0)],
            success: vec![
                put(self.keys.format(), FORMAT.to_vec(), 0),
                put(self.keys.seal(), self.seal.to_bytes().to_vec(), 0),
            ],
            failure: Vec::new(),
        };
        self.etcd.txn(request).await.map(drop)
    }

    fn check_member(&self, other: String, row: &MemberRow) -> Result<(), ClusterError> {
        if other == self.name && row.address != self.address {
            return Err(ClusterError::NameTaken { name: other, address: row.address.clone() });
        }
        // It may have been written a while ago: only by more than that is a clock behind.
        let (theirs, here) = (row.pulse().at, self.clock.now());
        let apart = theirs.since(here).max(here.since(theirs).saturating_sub(self.config.lease));
        if apart > SKEW_MAX {
            return Err(ClusterError::Clock { other, apart });
        }
        Ok(())
    }

    fn wrong(&self, status: &Status) -> ClusterError {
        let (endpoints, why) = (self.config.etcd.endpoints.join(", "), status.message().to_owned());
        let denied = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            || why.contains("authentication failed")
            || why.contains("user name is empty");
        if denied {
            ClusterError::Denied { endpoints, why }
        } else {
            ClusterError::Unreachable { endpoints, why }
        }
    }

    /// What the others know this server by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The clock that everything here goes by.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Where this server's budgets are written down.
    ///
    /// # Errors
    /// If the system gives no runtime.
    pub(crate) fn store(&self) -> Result<EtcdStore, StoreError> {
        let (keys, instance) = (self.keys.clone(), self.instance.clone());
        EtcdStore::open(&self.config.etcd, keys, instance, Arc::clone(&self.owned))
    }

    /// Becomes one of the cluster's servers. What has to go on for that is put into `background`.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn enter(
        self,
        registry: Arc<Registry>,
        trail: Arc<Trail>,
        background: &mut JoinSet<()>,
    ) -> Result<Arc<Cluster>, ClusterError> {
        let cluster = Arc::new(Cluster {
            name: self.name.clone(),
            address: self.address.clone(),
            for_clients: self.for_clients.clone(),
            instance: self.instance.clone(),
            lease: self.config.lease,
            clock: self.clock,
            keys: self.keys.clone(),
            owned: Arc::clone(&self.owned),
            peers: self.peers.clone(),
            etcd: Etcd::new(&self.config.etcd).map_err(ClusterError::Config)?,
            registry,
            trail,
            directory: RwLock::new(Directory::default()),
            standing: Mutex::new(None),
            is_leaving: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            wanted: Mutex::default(),
            wants: Notify::new(),
            on_their_way: Mutex::default(),
            lookups: Lookups::default(),
            lookers: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let wrong = |status| self.wrong(&status);
        cluster.need_ids().await.map_err(wrong)?;
        // An earlier process of this name may have ended without a word: its lease ends soon.
        let until = Instant::now() + 2 * self.config.lease;
        while cluster.enter().await.map_err(wrong)?.is_none() {
            if Instant::now() > until {
                let (name, address) = (self.name.clone(), self.address.clone());
                return Err(ClusterError::NameTaken { name, address });
            }
            tokio::time::sleep(super::RETRY_EVERY).await;
        }
        background.spawn(Arc::clone(&cluster).keep_lease());
        let revision = cluster.read_directory().await.map_err(wrong)?;
        background.spawn(Arc::clone(&cluster).follow(revision));
        background.spawn(Arc::clone(&cluster).claim_what_is_due());
        background.spawn(Arc::clone(&cluster).look_up_names());
        Ok(cluster)
    }
}

/// What clients are told, if they can use it.
fn told(url: &str) -> Result<String, ClusterError> {
    let uri = url.parse::<Uri>().ok();
    let is_sound = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    uri.filter(is_sound).map(|_| url.to_owned()).ok_or_else(|| {
        let wanted = "write where clients reach this server, like https://permitd-a:7110, or \"none\" to tell them nothing";
        ClusterError::Config(format!("cluster.advertise {url:?}: {wanted}"))
    })
}
