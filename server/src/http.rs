//! What is asked over plain HTTP: by machines `/healthz` (is the process alive), `/readyz` (may it be sent traffic) and `/metrics`, by
//! people the console.

mod guard;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, task};
use tonic::Code;

use self::guard::Guard;
use crate::{auth::Gate, metrics::Metrics, shared::Shared, status::Fault, tls::Tls};

/// What the server is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not ready yet.
    #[default]
    Starting,
    /// Takes everything.
    Serving,
    /// Gives its budgets to other servers, and passes on to them what those ask who are here. Lets nobody in.
    HandingOver,
    /// Takes reports only, and will be gone soon.
    Draining,
    /// Has nothing any more that other servers do not have: whoever is here goes there.
    HandedOver,
}

/// What is told.
#[derive(Clone, Debug)]
pub(crate) struct World {
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
    gate: Gate,
}

impl World {
    pub(crate) fn of(shared: &Shared) -> Self {
        let (phase, metrics, gate) = (shared.phase.clone(), Arc::clone(&shared.metrics), shared.gate.clone());
        Self { phase, metrics, gate }
    }
}

/// Serves until `shutdown`, with the console's routes beside its own.
///
/// # Errors
/// Those of the listener.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    world: World,
    console: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(world)
        .merge(console);
    axum::serve(Guard::new(listener, tls), router).with_graceful_shutdown(shutdown).await
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(world): State<World>) -> (StatusCode, &'static str) {
    match *world.phase.borrow() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::HandingOver | Phase::Draining | Phase::HandedOver => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
    }
}

async fn render_metrics(State(world): State<World>, headers: HeaderMap) -> Response {
    if let Err(fault) = world.gate.admit_to_metrics(&headers) {
        world.metrics.denied.inc();
        return denied(&fault);
    }
    // Looks at every budget: off the threads that answer others.
    let rendered = task::spawn_blocking(move || world.metrics.render()).await;
    match rendered {
        Ok(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}

/// As HTTP says it.
fn denied(fault: &Fault) -> Response {
    let said = format!("{}\n", fault.message());
    match fault.code() {
        Code::Unauthenticated => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], said).into_response()
        }
        _ => (StatusCode::FORBIDDEN, said).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::{alarm::Alarms, cell::Footing, clock::Clock, config::AuthConfig, registry::Registry};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    /// Goal: alive always, ready only between start and drain, metrics as Prometheus wants them.
    #[tokio::test]
    async fn answers_by_phase() {
        let clock = Clock::start();
        let (alarms, _) = Alarms::start("test", clock).expect("a thread");
        let registry = Arc::new(Registry::new(Footing::in_memory(clock, alarms), 10));
        let metrics = Arc::new(Metrics::new(registry, 10));
        let (phase, phases) = watch::channel(Phase::Starting);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut stops = phases.clone();
        let stopped = async move { drop(stops.wait_for(|phase| *phase == Phase::Draining).await) };
        let (gate, _) = Gate::load(&AuthConfig::default()).expect("open");
        let world = World { phase: phases, metrics, gate };
        let serving = tokio::spawn(serve(listener, None, world, Router::new(), stopped));

        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("starting\n"), "{answer}");
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        phase.send_replace(Phase::Serving);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(ask(address, "/nowhere").await.starts_with("HTTP/1.1 404"));
        phase.send_replace(Phase::Draining);
        serving.await.expect("no panic").expect("ends well");
    }
}
