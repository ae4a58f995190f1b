//! permitd's server as a library: gRPC services over the budgets of `permitd-budget`.
//!
//! [`run`] takes its world as arguments: what it is configured to be, the sockets that it listens on, and a future that says
//! when to stop. The binary and the tests call the same one.
//!
//! ```no_run
//! # async fn serve() -> Result<(), permitd_server::Error> {
//! use permitd_server::{Listeners, config::Config, run};
//!
//! let config = Config::default();
//! let listeners = Listeners::bind(&config.server).await?;
//! println!("listening on {}", listeners.grpc_address());
//! run(config, listeners, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await
//! # }
//! ```

pub mod admin;
pub mod audit;
pub mod auth;
pub mod cell;
pub mod clock;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
pub mod metrics;
pub mod profile;
pub mod record;
pub mod registry;
pub mod schedule;
pub mod shown;
pub mod status;
pub mod store;
pub mod tls;
pub mod words;

mod acquire;
mod alarm;
mod cluster;
mod connection;
mod console;
mod drain;
mod explain;
mod files;
mod health;
mod inbox;
mod listeners;
mod pace;
mod permit_id;
mod pool;
mod reading;
mod reload;
mod service;
mod serving;
mod session;
mod shared;
mod traces;
mod turns;
mod wire;
mod worker;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc};

use opentelemetry_otlp::ExporterBuildError;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    admin::Admin,
    alarm::{AlarmThread, Alarms},
    audit::Trail,
    auth::{Gate, JwksError},
    cell::Footing,
    clock::{Clock, Reading},
    cluster::Joined,
    config::{Config, ConfigError, Data},
    console::Console,
    health::Health,
    http::{Phase, World},
    metrics::Metrics,
    permit_id::PermitIds,
    profile::Profiles,
    record::{Recorder, RecorderThread},
    registry::{File, Registry, RegistryError},
    session::Sessions,
    shared::Shared,
    store::{Begun, Embedded, Keeper, KeeperThread, Store, StoreError},
    tls::{Tls, TlsError},
    traces::Traces,
    worker::{Stop, Workers},
};
pub use crate::{cluster::ClusterError, listeners::Listeners, reload::Reload};

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be listened on.
    #[error("can't listen on {address}: {source}; is another server running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gave no thread, or nothing to wait for sockets with.
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
    /// The configured budgets do not fit the configured bounds.
    #[error("can't declare the configured budgets: {0}")]
    Budgets(#[from] RegistryError),
    /// The configured certificates can't be used.
    #[error("can't serve TLS: {0}")]
    Tls(#[from] TlsError),
    /// The configured keys of JWTs can't be used.
    #[error("can't check who calls: {0}")]
    Auth(#[from] JwksError),
    /// Nothing can be sent to the configured collector of traces.
    #[error("can't send traces to server.telemetry.otlp: {0}")]
    Traces(#[from] ExporterBuildError),
    /// A profile of `server.profiles` is wrong.
    #[error("can't use the configured profiles: {0}")]
    Profiles(#[from] ConfigError),
    /// The configured trace can't be written.
    #[error("can't write server.record: {0}")]
    Record(io::Error),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster can't be joined.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// One of the server's threads panicked.
    #[error("a thread of the server panicked; its message stands above")]
    Panicked,
}

/// Runs a server until `shutdown` resolves, then drains it: it takes no new requests, tells those waiting where they stand, still
/// takes reports for `server.drain`, and returns within 10 s even with sessions open.
///
/// # Errors
/// If it can't start. Nothing that a client does makes it end.
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let origin = Origin::of(&config)?;
    run_from(origin, config, listeners, shutdown).await
}

/// What a server begins from.
#[derive(Debug)]
pub struct Origin {
    /// Where state is kept; `None` keeps it in memory.
    pub store: Option<Box<dyn Store>>,
    /// What the machine says of time, now.
    pub reading: Reading,
    /// How the configuration is read again, if it is.
    pub reload: Option<Reload>,
}

impl Origin {
    /// With what is configured: a store of its own, or none where a cluster's etcd keeps everything.
    ///
    /// # Errors
    /// If it can't be used.
    pub fn of(config: &Config) -> Result<Self, StoreError> {
        match config.cluster {
            None => Self::open(&config.server.data),
            Some(_) => Self::open(&Data::Memory),
        }
    }

    /// With the store that is configured.
    ///
    /// # Errors
    /// If it can't be used.
    pub fn open(data: &Data) -> Result<Self, StoreError> {
        let store: Option<Box<dyn Store>> = match data {
            Data::Memory => None,
            Data::Folder(folder) => Some(Box::new(Embedded::open(folder)?)),
        };
        Ok(Self { store, reading: Reading::now(), reload: None })
    }
}

/// As [`run`], from an origin that the caller made.
///
/// # Errors
/// As there.
pub async fn run_from(
    origin: Origin,
    config: Config,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (tls, tls_files) = config.server.tls.as_ref().map(Tls::load).transpose()?.unzip();
    let (gate, jwks_file) = Gate::load(&config.auth)?;
    let Origin { store, reading, reload } = origin;
    let joined = match &config.cluster {
        Some(cluster) => {
            Some(Joined::begin(&config, cluster, listeners.grpc_address(), Clock::start()).await?)
        }
        None => None,
    };
    let gate = if joined.is_some() { gate.with_peers() } else { gate };
    let record = config.server.record.as_deref();
    let recording = record.map(|path| Recorder::start(path, config.server.bounds.record_bytes as u64));
    let (recorder, recording) = recording.transpose().map_err(Error::Record)?.unzip();
    let Held { clock, permit_ids, registry, trail, grant_thread, keeping } = match &joined {
        Some(joined) => hold_with_others(joined, &config, recorder).await?,
        None => hold(store, &reading, &config, recorder).await?,
    };
    // What is in it ends with it.
    let mut background = JoinSet::new();
    let cluster = match joined {
        Some(joined) => Some(joined.enter(Arc::clone(&registry), Arc::clone(&trail), &mut background).await?),
        None => None,
    };
    let traces = Traces::start(&config.server.telemetry, clock)?;
    let (alarms, stream_thread) = Alarms::start("streams", clock)?;
    let (phase, phases) = watch::channel(Phase::Starting);
    let (stop, stops) = watch::channel(Stop::Run);
    let metrics = Metrics::new(Arc::clone(&registry), config.server.bounds.metric_budgets);
    let metrics = Arc::new(metrics.with_cluster(cluster.clone()));
    let admin = Admin::new(
        Arc::clone(&registry),
        Arc::clone(&trail),
        cluster.clone(),
        Arc::clone(&metrics),
        phases.clone(),
        gate.clone(),
        &config.server.bounds,
    );
    let begun = config.clone();
    let shared = Arc::new(Shared {
        clock,
        alarms,
        sessions: Sessions::new(config.server.bounds.sessions),
        config: config.server,
        registry,
        permit_ids,
        metrics,
        traces: traces.clone(),
        phase: phases.clone(),
        gate: gate.clone(),
        tls: tls.clone(),
        cluster,
    });
    if let (Some(tls), Some(files)) = (tls, tls_files) {
        background.spawn(files.watch(move || tls.reload()));
    }
    background.spawn(schedule::follow(Arc::clone(&shared.registry), trail));
    if let Some(file) = jwks_file {
        let gate = gate.clone();
        background.spawn(file.watch(move || gate.reload()));
    }
    if let Some(reload) = reload {
        background.spawn(reload::follow(reload, begun, Arc::clone(&shared.registry), gate));
    }
    let health = Health::new().await;
    let mut workers = Workers::start(&shared, &admin, &health, &stops)?;
    let Listeners { grpc, http, ready } = listeners;
    background.spawn(workers.accept(grpc, &shared, stops.clone()));
    if let Some(listener) = http {
        let console = Console::new(admin, shared.gate.clone(), shared.metrics.denied.clone());
        let mut stops = stops.clone();
        let stopped = async move { drop(stops.wait_for(|&stop| stop > Stop::Run).await) };
        let serving =
            http::serve(listener, shared.tls.clone(), World::of(&shared), console.routes(), stopped);
        background.spawn(async move { drop(serving.await) });
    }
    phase.send_replace(Phase::Serving);
    health.report(true).await;
    if let Some(ready) = ready {
        // Whoever wanted to know may have gone since.
        let _ = ready.send(());
    }

    shutdown.await;
    drain::drain(&shared, &phase, &health, &stop, &mut workers).await;

    drop(background);
    traces.finish().await;
    let sound = workers.join() & grant_thread.join() & stream_thread.join();
    let kept = keeping.map_or(Some(Ok(())), |keeping| keeping.finish(shared.registry.list()));
    if let Some(cluster) = &shared.cluster {
        // After the last write, which is made under the claims that go with the lease.
        cluster.end().await;
    }
    // Last, since a trace on a disk that does not answer must not cost what has to be kept.
    let recorded = recording.is_none_or(RecorderThread::finish);
    match kept {
        Some(written) if sound && recorded => Ok(written?),
        _ => Err(Error::Panicked),
    }
}

/// The budgets and what outlasts them, with the threads behind them.
struct Held {
    clock: Clock,
    permit_ids: PermitIds,
    registry: Arc<Registry>,
    trail: Arc<Trail>,
    grant_thread: AlarmThread,
    /// `None` if everything stays in memory.
    keeping: Option<KeeperThread>,
}

/// Goes on with what is kept, with the configuration as it is now; from here on, whatever changes is written down.
async fn hold(
    mut store: Option<Box<dyn Store>>,
    reading: &Reading,
    config: &Config,
    recorder: Option<Arc<Recorder>>,
) -> Result<Held, Error> {
    let Begun { kept, seal, clock, resumed } = store::begin(&mut store, reading)?;
    let (alarms, grant_thread) = Alarms::start("grants", clock)?;
    let profiles = Profiles::load(config.server.profiles.iter().map(PathBuf::as_path))?;
    let keeper = store.is_some().then(Arc::<Keeper>::default);
    let (contention, server) = (Arc::default(), Arc::default());
    let footing = Footing { clock, alarms, keeper: keeper.clone(), contention, profiles, server, recorder };
    let registry = Arc::new(Registry::new(footing, config.server.bounds.budgets));
    let changes = registry.restore(kept, &resumed)?;
    registry.follow(File::of(config))?;
    let trail = Arc::new(Trail::resume(config.server.bounds.changes, changes, keeper.clone()));
    let keeping = match keeper.zip(store) {
        Some((keeper, store)) => {
            let thread = KeeperThread::start(Arc::clone(&keeper), store, clock)?;
            // Nothing is granted before that.
            keeper.flush().await?;
            Some(thread)
        }
        None => None,
    };
    Ok(Held { clock, permit_ids: PermitIds::new(seal), registry, trail, grant_thread, keeping })
}

/// As one of several servers: budgets come later, one by one, as they are claimed.
async fn hold_with_others(
    joined: &Joined,
    config: &Config,
    recorder: Option<Arc<Recorder>>,
) -> Result<Held, Error> {
    let clock = joined.clock();
    let (alarms, grant_thread) = Alarms::start("grants", clock)?;
    let profiles = Profiles::load(config.server.profiles.iter().map(PathBuf::as_path))?;
    let keeper = Arc::<Keeper>::default();
    let (contention, server) = (Arc::default(), joined.name().into());
    let footing =
        Footing { clock, alarms, keeper: Some(Arc::clone(&keeper)), contention, profiles, server, recorder };
    let registry = Arc::new(Registry::new(footing, config.server.bounds.budgets).clustered());
    registry.follow(File::of(config))?;
    let trail = Trail::resume(config.server.bounds.changes, Vec::new(), Some(Arc::clone(&keeper)));
    let trail = Arc::new(trail.shared_by(joined.name()));
    let keeping = Some(KeeperThread::start(Arc::clone(&keeper), Box::new(joined.store()?), clock)?);
    Ok(Held {
        clock,
        permit_ids: PermitIds::new(joined.seal.clone()),
        registry,
        trail,
        grant_thread,
        keeping,
    })
}
