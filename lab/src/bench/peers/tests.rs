//! Goal: each adapter speaks its protocol, asks for what it was told to, and takes nothing for a permit that is none.

use std::{
    future::{Ready, ready},
    io::{BufRead as _, BufReader},
    net::TcpListener as StdListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use axum::routing::post;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, body::Body, codegen::http, server::UnaryService, service::Routes};
use tonic_prost::ProstCodec;

use super::{grpc::*, *};
use crate::bench::{Plan, key_of};

/// Answers like each of them, and refuses the budget of this number.
const REFUSED: usize = 13;

/// What was asked for, by domain and key.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// All the servers of others in one.
#[derive(Clone, Default)]
struct Others {
    seen: Seen,
}

impl Others {
    fn decide(&self, domain: &str, key: &str) -> bool {
        self.seen.lock().push((domain.to_owned(), key.to_owned()));
        key != key_of(REFUSED)
    }
}

struct By<F>(F);

impl<Q, A, F: Fn(Q) -> A> UnaryService<Q> for By<F> {
    type Response = A;
    type Future = Ready<Result<Response<A>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        ready(Ok(Response::new((self.0)(request.into_inner()))))
    }
}

async fn answer<Q, A>(request: axum::extract::Request, by: impl Fn(Q) -> A) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).unary(By(by), request).await
}

async fn others() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let others = Others::default();
    let [envoy, throttlecrab, gubernator] = [&others; 3].map(Clone::clone);
    let router = axum::Router::new()
        .route(
            ENVOY,
            post(async move |request| {
                answer(request, |asked: ShouldRateLimit| {
                    let key = &asked.descriptors[0].entries[0].value;
                    RateLimited { overall_code: if envoy.decide(&asked.domain, key) { ENVOY_OK } else { 2 } }
                })
                .await
            }),
        )
        .route(
            THROTTLECRAB,
            post(async move |request| {
                answer(request, |asked: Throttle| Throttled { allowed: throttlecrab.decide("", &asked.key) })
                    .await
            }),
        )
        .route(
            GUBERNATOR,
            post(async move |request| {
                answer(request, |asked: RateLimits| {
                    let status = |limit: &RateLimit| i32::from(!gubernator.decide("", &limit.unique_key));
                    let answer =
                        |limit| RateLimitAnswer { status: status(limit), ..RateLimitAnswer::default() };
                    RateLimitAnswers { responses: asked.requests.iter().map(answer).collect() }
                })
                .await
            }),
        );
    let server = tonic::transport::Server::builder().add_routes(Routes::from(router));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, others.seen)
}

#[tokio::test]
async fn grpc_protocols() {
    let (address, seen) = others().await;
    for (name, path, domain) in
        [("envoy", "/api", "api"), ("envoy", "", "permitd"), ("throttlecrab", "", ""), ("gubernator", "", "")]
    {
        let peer: Peer = format!("{name}=http://{address}{path}").parse().expect("a peer");
        for way in Way::all(&[peer], &[]).await.expect("an address") {
            let asked = Asked::Peer(&way);
            let question: Vec<usize> = (0..asked.question(3)).collect();
            let mut askers = asked.askers(2).await.expect("it listens");
            for asker in &mut askers {
                asker.ask(&question).await.unwrap_or_else(|error| panic!("{way}: {error}"));
            }
            let expected: Vec<_> =
                (0..2).flat_map(|_| &question).map(|key| (domain.to_owned(), key_of(*key))).collect();
            assert_eq!(std::mem::take(&mut *seen.lock()), expected, "{way}");
            askers[0].ask(&[REFUSED]).await.expect_err("it is refused");
            seen.lock().clear();
        }
    }
}

/// A real Redis on a port of its own.
struct RealRedis(Child, SocketAddr);

impl RealRedis {
    fn start() -> Self {
        // Somebody else may take the port before it does.
        (0..10).find_map(|_| Self::try_start()).expect("redis-server starts; `make setup` installs it")
    }

    fn try_start() -> Option<Self> {
        let free = StdListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let mut child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &free.port().to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is there; `make setup` installs it");
        let told = BufReader::new(child.stdout.take().expect("piped"));
        let is_ready =
            told.lines().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
        let server = Self(child, free);
        is_ready.then_some(server)
    }
}

impl Drop for RealRedis {
    fn drop(&mut self) {
        // Nothing to do about one that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goal: the script is a bucket: it gives what is in it, and then says how long to wait; pipelined or not.
#[tokio::test]
async fn redis_script() {
    let server = RealRedis::start();
    let peer: Peer = format!("redis=redis://{}", server.1).parse().expect("a peer");
    let ways = Way::all(&[peer], &[]).await.expect("an address");
    let questions: Vec<usize> = ways.iter().map(|way| Asked::Peer(way).question(64)).collect();
    assert_eq!(questions, [64, 1]);
    assert!(ways[0].cpu().expect("Linux tells it").is_some(), "its process was found by the port");
    for way in &ways {
        let mut askers = Asked::Peer(way).askers(2).await.expect("it listens");
        for asker in &mut askers {
            asker.ask(&[0, 1, 2, 0]).await.expect("granted");
        }
    }
    let mut redis = Redis::connect(server.1).await.expect("it listens");
    // Two at once, and then one in eleven days.
    redis.bucket = ["0.000001", "2"];
    redis.ask(&[7, 8, 7]).await.expect("that is what is in them");
    let refused = redis.ask(&[7]).await.expect_err("nothing is left").to_string();
    assert!(refused.contains("did not grant"), "{refused}");
    redis.ask(&[8]).await.expect("one is left in the other");
}

/// Goal: whoever gets a flag wrong is told what is right.
#[test]
fn peers_by_name() {
    for (text, hint) in [
        ("redis", "redis=redis://HOST:PORT"),
        ("memcached=http://h:1", "envoy=http://HOST:PORT"),
        ("redis=http://127.0.0.1:6379", "redis://HOST:PORT"),
        ("envoy=http://127.0.0.1", "no port"),
        ("throttlecrab=http://127.0.0.1:1/api", "\"api\""),
    ] {
        let error = text.parse::<Peer>().expect_err(text);
        assert!(error.contains(hint), "{text}: {error}");
    }
    for text in ["redis", "redis=soon", "memcached=1"] {
        text.parse::<PeerProcess>().expect_err(text);
    }
}

/// Goal: a whole turn, as fast as it goes and at a rate, with several budgets and questions of several permits.
#[test]
fn turns() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (address, seen) = runtime.block_on(others());
    let peer: Peer = format!("gubernator=http://{address}").parse().expect("a peer");
    let ways = runtime.block_on(Way::all(&[peer], &[])).expect("an address");
    let plan =
        Plan { turn: Duration::from_millis(50), connections: 2, window: 4, budgets: 3, ..Plan::default() };
    for way in &ways {
        let answered = closed(Asked::Peer(way), &plan).expect("all are granted");
        assert!(answered.permits > 0 && answered.server.is_some(), "{answered:?}");
        let waits = open(Asked::Peer(way), &plan, 2_000.0).expect("all are granted");
        assert!(!waits.is_empty(), "{way}");
    }
    let keys: std::collections::BTreeSet<String> = seen.lock().drain(..).map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}
