//! A provider to measure against: real HTTP in Anthropic's and OpenAI's shape, limits that are enforced to the nanosecond,
//! outputs that no caller can know beforehand, and counters that say afterwards what was possible and what was used.
//!
//! | path | |
//! |---|---|
//! | `POST /v1/messages` | Anthropic's shape, key in `x-api-key`, or in `authorization: Bearer` |
//! | `POST /v1/chat/completions` | OpenAI's shape, key in `Authorization: Bearer` |
//! | `GET`, `PUT /sim/limits` | [`Limits`], changed at once by a JSON merge patch |
//! | `GET`, `PUT /sim/behaviour` | [`Behaviour`], likewise |
//! | `GET /sim/stats` | [`Stats`] |
//! | `POST /sim/reset` | starts anew: counters, sequence numbers and full buckets |
//!
//! Callers may send `x-sim-client` (a name for the counters), `x-sim-call` (the number of the call, which decides its latency and
//! output) and `x-sim-input-tokens`. Latency, output and overload are functions of the seed, the client and that number. A call
//! with `x-sim-turn: fair` or `x-sim-turn: urgent` waits in the provider until it fits instead of being refused.

pub mod account;
mod anthropic;
pub mod buckets;
mod calls;
mod config;
mod connections;
mod crew;
pub(crate) mod draws;
mod openai;
mod shape;
mod simulation;
mod stats;
mod turns;
mod world;

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::Uri,
    routing::{get, post},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use self::{
    anthropic::Anthropic, connections::Bounded, openai::OpenAi, shape::Fault, shape::Shape, world::World,
};
pub use self::{
    config::{AMOUNT_MAX, Behaviour, Bounds, CAPACITY_MAX, Changeable, Config, ConfigError, Limits, Rate},
    stats::{ByDimension, Counters, Stats},
};

/// How long calls may take to end once the provider shuts down.
const DRAIN: Duration = Duration::from_secs(2);

/// The simulated provider.
#[derive(Debug)]
pub struct Provider;

impl Provider {
    /// Serves on `listener` until `shutdown` resolves, then ends calls in flight within two seconds.
    ///
    /// # Errors
    /// A configuration that makes no sense ([`io::ErrorKind::InvalidInput`]), or the listener's.
    pub async fn serve(
        config: Config,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        config.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = Bounded::new(listener, config.bounds.connections);
        let router = router(&Arc::new(Shared::new(&config)));
        let (told, heard) = tokio::sync::oneshot::channel();
        let shutdown = async move {
            shutdown.await;
            // Nobody listens any more if serving has failed in the meantime.
            let _ = told.send(());
        };
        let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown);
        tokio::select! {
            served = async { serving.await } => served,
            () = async {
                if heard.await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(DRAIN).await;
            } => Ok(()),
        }
    }
}

/// What all calls share.
pub(crate) struct Shared {
    world: Mutex<World>,
    turns: turns::Turns,
    bounds: Bounds,
    began: Instant,
    began_wall: Timestamp,
    ids: AtomicU64,
}

impl Shared {
    fn new(config: &Config) -> Self {
        Self {
            world: Mutex::new(World::new(config)),
            turns: turns::Turns::default(),
            bounds: config.bounds,
            began: Instant::now(),
            began_wall: Timestamp::now(),
            ids: AtomicU64::new(0),
        }
    }

    fn now(&self) -> buckets::Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall(&self) -> Timestamp {
        self.began_wall.checked_add(self.began.elapsed()).unwrap_or(Timestamp::MAX)
    }

    fn next_id(&self) -> String {
        format!("req_sim{:016}", self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    let calls = |shape: &'static dyn Shape| {
        let shared = Arc::clone(shared);
        post(move |request: Request| calls::call(Arc::clone(&shared), shape, request))
    };
    let unknown = Arc::clone(shared);
    Router::new()
        .route("/v1/messages", calls(&Anthropic))
        .route("/v1/chat/completions", calls(&OpenAi))
        .route("/sim/limits", get(simulation::limits).put(simulation::set_limits))
        .route("/sim/behaviour", get(simulation::behaviour).put(simulation::set_behaviour))
        .route("/sim/stats", get(simulation::stats))
        .route("/sim/reset", post(simulation::reset))
        .layer(DefaultBodyLimit::max(shared.bounds.body_bytes))
        .with_state(Arc::clone(shared))
        .fallback(move |uri: Uri| {
            let shape: &dyn Shape = if uri.path().starts_with("/v1/chat") { &OpenAi } else { &Anthropic };
            let response = calls::refuse(&unknown, shape, &unknown.next_id(), &Fault::NotFound, "");
            std::future::ready(response)
        })
}
