//! What machines ask over plain HTTP: `/healthz` (is the process alive), `/readyz` (may it be sent traffic) and `/metrics`.

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, task};

use crate::metrics::Metrics;

/// What the server is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet.
    #[default]
    Starting,
    /// Takes everything.
    Serving,
    /// Takes reports only, and will be gone soon.
    Draining,
}

#[derive(Clone, Debug)]
struct World {
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(World { phase, metrics });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn index() -> &'static str {
    "permitd\n\n/healthz  is the process alive\n/readyz   may it be sent traffic\n/metrics  for Prometheus\n"
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(world): State<World>) -> (StatusCode, &'static str) {
    match *world.phase.borrow() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn render_metrics(State(world): State<World>) -> Response {
    // Looks at every budget: off the threads that answer others.
    let rendered = task::spawn_blocking(move || world.metrics.render()).await;
    match rendered {
        Ok(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}
