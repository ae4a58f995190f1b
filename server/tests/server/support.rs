//! A real server on real sockets, and a hand on one session stream.

use std::{future::Future, net::SocketAddr, time::Duration};

use permitd_budget::{BudgetSpec, LimitSpec};
use permitd_proto::v1::{
    AcquireRequest, Granted, Hello, Permit, Queued, Refused, ReportRequest, ReportResponse, SessionRequest,
    SessionResponse, permit_service_client::PermitServiceClient,
};
use permitd_server::{
    Error, Listeners,
    config::{Config, Data},
    run,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A day: nothing refills while a test runs.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Waits for what has to come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Asks again and again until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A server of the test's own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    /// Starts with these budgets of provider `p`, once it is ready.
    pub(crate) async fn start(budgets: &[(&str, Vec<LimitSpec>)]) -> Self {
        Self::start_with(budgets, |_| {}).await
    }

    pub(crate) async fn start_with(
        budgets: &[(&str, Vec<LimitSpec>)],
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::default();
        config.server.listen = "127.0.0.1:0".parse().expect("an address");
        config.server.http = None;
        config.server.data = Data::Memory;
        config.server.workers = 2;
        config.server.drain = Duration::from_millis(50);
        for (key, limits) in budgets {
            let spec =
                BudgetSpec { limits: limits.clone(), ..BudgetSpec::default() }.check().expect("a sound spec");
            config.budgets.insert(format!("p/{key}").parse().expect("a name"), spec);
        }
        edit(&mut config);
        let mut listeners = Listeners::bind(&config.server).await.expect("a free port");
        let (address, ready) = (listeners.grpc_address(), listeners.ready());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(config, listeners, async { drop(stopped.await) }));
        soon("a ready server", ready).await.expect("it runs");
        Self { address, stop: Some(stop), running }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        soon("a connection", endpoint.connect()).await.expect("it listens")
    }

    pub(crate) async fn permits(&self) -> PermitServiceClient<Channel> {
        PermitServiceClient::new(self.channel().await)
    }

    /// Opens a session on a connection of its own.
    pub(crate) async fn session(&self, session_id: &str) -> Session {
        Session::open(self.permits().await, hello(session_id)).await
    }

    /// Tells it to stop.
    pub(crate) fn tell_to_stop(&mut self) {
        self.stop.take().expect("only once").send(()).expect("it runs");
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(self) -> Result<(), Error> {
        soon("the end of the server", self.running).await.expect("no panic")
    }

    /// Stops it at once, for the end of a test.
    pub(crate) async fn stop(mut self) {
        self.tell_to_stop();
        self.stopped().await.expect("a clean end");
    }
}

/// A Hello with that id.
pub(crate) fn hello(session_id: &str) -> Hello {
    Hello { session_id: session_id.to_owned(), client: "test".to_owned(), ..Hello::default() }
}

/// Asks budget `p/KEY` for one permit.
pub(crate) fn ask(request_id: u64, key: &str) -> AcquireRequest {
    AcquireRequest { request_id, provider: "p".to_owned(), key: key.to_owned(), ..AcquireRequest::default() }
}

/// Reports a success.
pub(crate) fn success(permit_id: &str) -> ReportRequest {
    ReportRequest {
        permit_id: permit_id.to_owned(),
        outcome: permitd_proto::v1::Outcome::Success.into(),
        ..ReportRequest::default()
    }
}

/// Nothing but acquires.
pub(crate) fn acquires(acquire: Vec<AcquireRequest>) -> SessionRequest {
    SessionRequest { acquire, ..SessionRequest::default() }
}

/// One stream of a session, with everything that came and was not looked at.
pub(crate) struct Session {
    requests: Option<mpsc::Sender<SessionRequest>>,
    responses: Streaming<SessionResponse>,
    /// The answer to the Hello.
    pub(crate) id: String,
    pub(crate) resumed: bool,
    unread: SessionResponse,
}

impl Session {
    pub(crate) async fn open(client: PermitServiceClient<Channel>, hello: Hello) -> Self {
        Self::open_with(client, SessionRequest { hello: Some(hello), ..SessionRequest::default() }).await
    }

    pub(crate) async fn open_with(mut client: PermitServiceClient<Channel>, first: SessionRequest) -> Self {
        let (requests, outbound) = mpsc::channel(64);
        requests.send(first).await.expect("room");
        let opened = soon("a session", client.session(ReceiverStream::new(outbound))).await;
        let responses = opened.expect("no refusal").into_inner();
        let mut session = Self {
            requests: Some(requests),
            responses,
            id: String::new(),
            resumed: false,
            unread: SessionResponse::default(),
        };
        while session.unread.welcome.is_none() {
            session.read().await.expect("a welcome");
        }
        let welcome = session.unread.welcome.take().expect("just seen");
        (session.id, session.resumed) = (welcome.session_id, welcome.resumed);
        session
    }

    pub(crate) async fn send(&self, request: SessionRequest) {
        self.requests.as_ref().expect("still open").send(request).await.expect("the stream lives");
    }

    pub(crate) async fn ask(&self, request_id: u64, key: &str) {
        self.send(acquires(vec![ask(request_id, key)])).await;
    }

    pub(crate) async fn cancel(&self, request_id: u64) {
        self.send(SessionRequest { cancel: vec![request_id], ..SessionRequest::default() }).await;
    }

    pub(crate) async fn report(&mut self, permit_id: &str) -> ReportResponse {
        self.send(SessionRequest { report: vec![success(permit_id)], ..SessionRequest::default() }).await;
        self.reported().await
    }

    /// Half-closes.
    pub(crate) fn close(&mut self) {
        self.requests = None;
    }

    /// Breaks the stream: a reset, and no half-close before it.
    pub(crate) fn break_off(self) {
        // The stream of requests never ends by itself.
        std::mem::forget(self.requests);
        drop(self.responses);
    }

    /// One message more, or how the stream ended.
    async fn read(&mut self) -> Result<(), Option<Status>> {
        let message = soon("a message", self.responses.message()).await.map_err(Some)?.ok_or(None)?;
        let unread = &mut self.unread;
        unread.welcome = message.welcome.or(unread.welcome.take());
        unread.queued.extend(message.queued);
        unread.granted.extend(message.granted);
        unread.refused.extend(message.refused);
        unread.reported.extend(message.reported);
        unread.shares.extend(message.shares);
        Ok(())
    }

    pub(crate) async fn granted(&mut self) -> Granted {
        while self.unread.granted.is_empty() {
            self.read().await.expect("a grant before the end");
        }
        self.unread.granted.remove(0)
    }

    /// The permit that has to be for that request.
    pub(crate) async fn permit(&mut self, request_id: u64) -> Permit {
        let granted = self.granted().await;
        assert_eq!(granted.request_id, request_id);
        granted.permit.expect("a permit")
    }

    pub(crate) async fn refused(&mut self) -> Refused {
        while self.unread.refused.is_empty() {
            self.read().await.expect("a refusal before the end");
        }
        self.unread.refused.remove(0)
    }

    pub(crate) async fn reported(&mut self) -> ReportResponse {
        while self.unread.reported.is_empty() {
            self.read().await.expect("an answer before the end");
        }
        self.unread.reported.remove(0)
    }

    pub(crate) async fn queued(&mut self) -> Queued {
        while self.unread.queued.is_empty() {
            self.read().await.expect("a place before the end");
        }
        self.unread.queued.remove(0)
    }

    pub(crate) async fn share(&mut self) -> permitd_proto::v1::LocalShare {
        while self.unread.shares.is_empty() {
            self.read().await.expect("a share before the end");
        }
        self.unread.shares.remove(0)
    }

    /// Waits for everything sent so far to be answered, and says that there was no grant in it.
    pub(crate) async fn nothing_granted(&mut self) {
        let answered = self.report("not-a-permit").await;
        assert!(!answered.settled);
        assert_eq!(self.unread.granted, [], "no grant so far");
    }

    /// The permit_ids of grants that nobody looked at.
    pub(crate) fn take_grants(&mut self) -> Vec<String> {
        let grants = std::mem::take(&mut self.unread.granted);
        grants.into_iter().map(|granted| granted.permit.expect("a permit").permit_id).collect()
    }

    /// How the stream ended: `Ok` for politely.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        loop {
            match self.read().await {
                Ok(()) => {}
                Err(None) => return Ok(()),
                Err(Some(status)) => return Err(status),
            }
        }
    }

    /// How the stream failed.
    pub(crate) async fn failure(&mut self) -> (Code, String) {
        let status = self.end().await.expect_err("a failure");
        (status.code(), status.message().to_owned())
    }
}
