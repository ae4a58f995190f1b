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
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod http;
pub mod metrics;
pub mod profile;
pub mod registry;
pub mod status;
pub mod tls;

mod acquire;
mod alarm;
mod connection;
mod drain;
mod files;
mod health;
mod inbox;
mod listeners;
mod pace;
mod permit_id;
mod reading;
mod service;
mod session;
mod shared;
mod wire;
mod worker;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

pub use crate::listeners::Listeners;
use crate::{
    admin::Admin,
    alarm::Alarms,
    audit::Trail,
    auth::{Gate, JwksError},
    cell::Source,
    clock::Clock,
    config::{Config, ConfigError},
    health::Health,
    http::{Phase, World},
    metrics::Metrics,
    permit_id::{PermitIds, Seal},
    profile::Profiles,
    registry::{Registry, RegistryError},
    session::Sessions,
    shared::Shared,
    tls::{Tls, TlsError},
    worker::{Stop, Workers},
};

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
    /// A profile of `server.profiles` is wrong.
    #[error("can't use the configured profiles: {0}")]
    Profiles(#[from] ConfigError),
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
    let (tls, tls_files) = config.server.tls.as_ref().map(Tls::load).transpose()?.unzip();
    let (gate, jwks_file) = Gate::load(&config.auth)?;
    let clock = Clock::start();
    let (grant_alarms, grant_thread) = Alarms::start("grants", clock)?;
    let (alarms, stream_thread) = Alarms::start("streams", clock)?;
    let (phase, phases) = watch::channel(Phase::Starting);
    let (stop, stops) = watch::channel(Stop::Run);
    let registry = Arc::new(registry(&config, clock, &grant_alarms)?);
    let metrics = Arc::new(Metrics::new(Arc::clone(&registry), config.server.bounds.metric_budgets));
    let trail = Arc::new(Trail::new(config.server.bounds.changes));
    let admin = Admin::new(
        Arc::clone(&registry),
        trail,
        Arc::clone(&metrics),
        phases.clone(),
        gate.clone(),
        &config.server.bounds,
    );
    let shared = Arc::new(Shared {
        clock,
        alarms,
        sessions: Sessions::new(config.server.bounds.sessions),
        config: config.server,
        registry,
        permit_ids: PermitIds::new(Seal::random()),
        metrics,
        phase: phases.clone(),
        gate: gate.clone(),
        tls: tls.clone(),
    });
    // What is in it ends with it.
    let mut background = JoinSet::new();
    if let (Some(tls), Some(files)) = (tls, tls_files) {
        background.spawn(files.watch(move || tls.reload()));
    }
    if let Some(file) = jwks_file {
        background.spawn(file.watch(move || gate.reload()));
    }
    let health = Health::new().await;
    let mut workers = Workers::start(&shared, &admin, &health, &stops)?;
    let Listeners { grpc, http, ready } = listeners;
    background.spawn(workers.accept(grpc, &shared, stops.clone()));
    if let Some(listener) = http {
        let mut stops = stops.clone();
        let stopped = async move { drop(stops.wait_for(|&stop| stop > Stop::Run).await) };
        let serving = http::serve(listener, shared.tls.clone(), World::of(&shared), stopped);
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
    let sound = workers.join() & grant_thread.join() & stream_thread.join();
    if sound { Ok(()) } else { Err(Error::Panicked) }
}

fn registry(config: &Config, clock: Clock, alarms: &Arc<Alarms>) -> Result<Registry, Error> {
    let profiles = Profiles::load(config.server.profiles.iter().map(PathBuf::as_path))?;
    let registry = Registry::new(clock, Arc::clone(alarms), config.server.bounds.budgets, &config.providers)
        .with_profiles(profiles);
    for (name, spec) in &config.budgets {
        registry.set(name, spec.clone(), Source::Config, "", false)?;
    }
    Ok(registry)
}
