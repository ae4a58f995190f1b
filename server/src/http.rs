//! What is asked over plain HTTP: by machines `/healthz` (is the process alive), `/readyz` (may it be sent traffic) and `/metrics`, by
//! people the console.

mod guard;
mod place;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, task};
use tonic::Code;

use self::{guard::Guard, place::Place};
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
        .merge(console)
        .layer(middleware::from_fn(answer));
    let service = router.into_make_service_with_connect_info::<Place>();
    axum::serve(Guard::new(listener, tls), service).with_graceful_shutdown(shutdown).await
}

/// Tells the connection's place that a request's head is there, and when it is answered.
async fn answer(ConnectInfo(place): ConnectInfo<Place>, request: Request, next: Next) -> Response {
    let _under_way = place.begin();
    next.run(request).await
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
    use std::{net::SocketAddr, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::{JoinHandle, yield_now},
        time::{Instant, sleep},
    };

    use super::*;
    use crate::{alarm::Alarms, cell::Footing, clock::Clock, config::AuthConfig, registry::Registry};

    const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";

    /// What serves, until it drains.
    struct Serving {
        address: SocketAddr,
        phase: watch::Sender<Phase>,
        ended: JoinHandle<io::Result<()>>,
    }

    impl Serving {
        async fn start() -> Self {
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
            let ended = tokio::spawn(serve(listener, None, world, Router::new(), stopped));
            Self { address, phase, ended }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("it listens")
        }

        async fn ask(&self, path: &str) -> String {
            let mut stream = self.connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("it answers");
            answer
        }

        async fn stop(self) {
            self.phase.send_replace(Phase::Draining);
            self.ended.await.expect("no panic").expect("ends well");
        }
    }

    /// Where time is paused: waits for what happens without any of it passing.
    async fn at_once<T>(what: impl Future<Output = T>) -> T {
        let awake = async {
            loop {
                yield_now().await;
            }
        };
        tokio::select! {
            done = what => done,
            () = awake => unreachable!("it goes on"),
        }
    }

    /// Asks on a connection that stays.
    async fn is_alive(stream: &mut TcpStream) {
        stream.write_all(HEALTHZ).await.expect("it reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            let read = stream.read_buf(&mut answer).await.expect("it answers");
            assert!(read > 0, "it stays");
        }
    }

    /// How long a connection lasts to which these bytes are sent, one every so often.
    async fn lasts(stream: TcpStream, bytes: &[u8], every: Duration) -> Duration {
        let begun = Instant::now();
        let (mut reading, mut writing) = stream.into_split();
        let trickle = async {
            for byte in bytes {
                // It may have ended just now.
                let _ = writing.write_all(&[*byte]).await;
                sleep(every).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = reading.read_u8() => assert!(read.is_err(), "nothing is answered"),
            () = trickle => {}
        }
        begun.elapsed()
    }

    /// Goal: alive always, ready only between start and drain, metrics as Prometheus wants them.
    #[tokio::test]
    async fn answers_by_phase() {
        let serving = Serving::start().await;
        let answer = serving.ask("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("starting\n"), "{answer}");
        assert!(serving.ask("/healthz").await.starts_with("HTTP/1.1 200"));
        serving.phase.send_replace(Phase::Serving);
        assert!(serving.ask("/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = serving.ask("/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(serving.ask("/nowhere").await.starts_with("HTTP/1.1 404"));
        serving.stop().await;
    }

    /// Goal: a head that trickles ends its connection after ten seconds, the first one as any other, and silence between two requests
    /// does after ninety. The time that nobody waits for passes at once.
    #[tokio::test(start_paused = true)]
    async fn slow_heads_and_silence_end_a_connection() {
        let serving = Serving::start().await;
        let (byte, head, idle) = (Duration::from_secs(4), Duration::from_secs(10), Duration::from_secs(90));
        // A byte may be heard of when the next one is sent.
        let is_about = |lasted: Duration, most: Duration| {
            assert!((most..=most + 3 * byte).contains(&lasted), "{lasted:?} of {most:?}");
        };
        is_about(lasts(at_once(serving.connect()).await, b"", byte).await, head);
        is_about(lasts(at_once(serving.connect()).await, HEALTHZ, byte).await, head);

        let mut stays = at_once(serving.connect()).await;
        for _ in 0..3 {
            at_once(is_alive(&mut stays)).await;
            sleep(idle / 2).await;
        }
        is_about(lasts(stays, HEALTHZ, byte).await, head);
        let mut stays = at_once(serving.connect()).await;
        at_once(is_alive(&mut stays)).await;
        is_about(lasts(stays, b"", byte).await, idle);
        serving.stop().await;
    }
}
