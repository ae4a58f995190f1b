//! A permit service that does only what the test tells it to. It runs on a thread of its own, so that it can be killed like a process
//! and so that the test's clock may be paused.

use std::{
    collections::VecDeque,
    future::Future,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    time::Duration,
};

use permitd_proto::v1::{
    AcquireRequest, AcquireResponse, Granted, Hello, LocalShare, Outcome, Permit, Refused, ReportRequest,
    ReportResponse, SessionRequest, SessionResponse, Usage, Welcome,
    permit_service_server::{PermitService, PermitServiceServer},
};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// Nothing in a test takes as long as this, unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this happens soon")
}

/// Polls until `condition` holds, but not for ever.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A server on loopback.
pub(crate) struct FakeServer {
    address: SocketAddr,
    sessions: mpsc::Receiver<FakeSession>,
    runtime: Option<Runtime>,
}

impl FakeServer {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    /// Also where another one was killed before.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (arrived, sessions) = mpsc::channel(16);
        let listener = bind(address);
        let address = listener.local_addr().expect("a bound listener has an address");
        listener.set_nonblocking(true).expect("any socket can");
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener).expect("it does not block")
        };
        let service = PermitServiceServer::new(Fake { arrived });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, sessions, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next session, after its Hello and before its Welcome.
    pub(crate) async fn session(&mut self) -> FakeSession {
        soon(self.sessions.recv()).await.expect("the server lives")
    }

    /// The next session, welcomed.
    pub(crate) async fn welcomed(&mut self, resumed: bool) -> FakeSession {
        let mut session = self.session().await;
        session.welcome(resumed).await;
        session
    }

    /// As `kill -9`: connections break, the port is closed.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.runtime.take().expect("it is killed once").shutdown_background();
        self.address
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A server that was killed may take a moment to let go of its port.
fn bind(address: SocketAddr) -> TcpListener {
    let began = std::time::Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}

/// An address where nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener has an address")
}

/// One session stream, in the test's hands.
pub(crate) struct FakeSession {
    pub(crate) hello: Hello,
    requests: Streaming<SessionRequest>,
    items: VecDeque<Item>,
    responses: mpsc::Sender<Result<SessionResponse, Status>>,
}

/// One thing that the client said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Acquire(AcquireRequest),
    Report(ReportRequest),
    Cancel(u64),
    Extend(String),
}

impl FakeSession {
    pub(crate) async fn welcome(&mut self, resumed: bool) {
        let welcome = Welcome { session_id: self.hello.session_id.clone(), resumed, ..Welcome::default() };
        self.send(SessionResponse { welcome: Some(welcome), ..SessionResponse::default() }).await;
    }

    /// The next message as it is.
    pub(crate) async fn message(&mut self) -> Option<SessionRequest> {
        soon(self.requests.message()).await.unwrap_or(None)
    }

    /// The next thing that the client says; `None` at the end of the stream.
    pub(crate) async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            let message = self.message().await?;
            self.items.extend(message.report.into_iter().map(Item::Report));
            self.items.extend(message.acquire.into_iter().map(Item::Acquire));
            self.items.extend(message.cancel.into_iter().map(Item::Cancel));
            self.items.extend(message.extend.into_iter().map(Item::Extend));
        }
    }

    pub(crate) async fn acquire(&mut self) -> AcquireRequest {
        match self.item().await {
            Some(Item::Acquire(acquire)) => acquire,
            other => panic!("an acquire was expected, not {other:?}"),
        }
    }

    pub(crate) async fn report(&mut self) -> ReportRequest {
        match self.item().await {
            Some(Item::Report(report)) => report,
            other => panic!("a report was expected, not {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, response: SessionResponse) {
        self.responses.send(Ok(response)).await.expect("the client reads");
    }

    pub(crate) async fn grant(&mut self, request_id: u64, permit_id: &str) {
        self.grant_for(request_id, permit_id, Duration::from_secs(600)).await;
    }

    pub(crate) async fn grant_for(&mut self, request_id: u64, permit_id: &str, ttl: Duration) {
        let granted = vec![Granted { request_id, permit: Some(permit(permit_id, ttl)) }];
        self.send(SessionResponse { granted, ..SessionResponse::default() }).await;
    }

    pub(crate) async fn refuse(&mut self, refused: Refused) {
        self.send(SessionResponse { refused: vec![refused], ..SessionResponse::default() }).await;
    }

    pub(crate) async fn answer(&mut self, answer: ReportResponse) {
        self.send(SessionResponse { reported: vec![answer], ..SessionResponse::default() }).await;
    }

    /// Settles the permit, without a retry.
    pub(crate) async fn settle(&mut self, report: &ReportRequest) {
        self.answer(settled(report, false)).await;
    }

    pub(crate) async fn share(&mut self, share: LocalShare) {
        self.send(SessionResponse { shares: vec![share], ..SessionResponse::default() }).await;
    }

    /// Ends the stream with a status.
    pub(crate) async fn end(self, status: Status) {
        self.responses.send(Err(status)).await.expect("the client reads");
    }
}

pub(crate) fn settled(report: &ReportRequest, retry: bool) -> ReportResponse {
    let outcome = match report.outcome() {
        Outcome::Unspecified if report.http_status == 429 => Outcome::RateLimited,
        Outcome::Unspecified => Outcome::Success,
        said => said,
    };
    ReportResponse {
        permit_id: report.permit_id.clone(),
        outcome: outcome as i32,
        settled: true,
        retry,
        retry_after: None,
    }
}

fn permit(permit_id: &str, ttl: Duration) -> Permit {
    Permit {
        permit_id: permit_id.to_owned(),
        provider: "anthropic".to_owned(),
        key: "prod".to_owned(),
        expires_at: Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 }),
        ttl: Some(ttl.try_into().expect("a short span")),
        waited: Some(prost_types::Duration { seconds: 0, nanos: 7_000_000 }),
        charged: Some(Usage { requests: Some(1), tokens: Some(1_200), ..Usage::default() }),
    }
}

struct Fake {
    arrived: mpsc::Sender<FakeSession>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PermitService for Fake {
    type AcquireStream = Responses<AcquireResponse>;
    type SessionStream = Responses<SessionResponse>;

    async fn acquire(&self, _: Request<AcquireRequest>) -> Result<Response<Self::AcquireStream>, Status> {
        Err(Status::internal("clients use sessions"))
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::internal("clients use sessions"))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let opening = requests.message().await?.unwrap_or_default();
        let hello = opening.hello.ok_or_else(|| Status::failed_precondition("no Hello"))?;
        let (responses, stream) = mpsc::channel(64);
        let session = FakeSession { hello, requests, items: VecDeque::new(), responses };
        self.arrived.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
