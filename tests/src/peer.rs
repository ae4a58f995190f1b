//! A server as its callers see it: an address, and what can be asked there.

use std::net::SocketAddr;

use permitd_proto::v1::{
    AcquireRequest, AcquireResponse, Budget, BudgetState, GetBudgetRequest, Limit, LimitState, Outcome,
    PauseBudgetRequest, Permit, Queued, ReportRequest, ReportResponse, ResumeBudgetRequest, SetBudgetRequest,
    acquire_response::Event, admin_service_client::AdminServiceClient,
    cluster_service_client::ClusterServiceClient, permit_service_client::PermitServiceClient,
};
use tokio::sync::OnceCell;
use tonic::{
    IntoRequest, Status, Streaming,
    transport::{Channel, ClientTlsConfig},
};

use crate::{
    facts::{Facts, facts},
    line::{Line, sign},
    session::Session,
    wait::soon,
    words::{budget, hello, report, success},
};

/// A server as its callers see it.
#[derive(Debug)]
pub struct Peer {
    /// Where gRPC is served.
    pub address: SocketAddr,
    shared: OnceCell<Line>,
    tls: Option<ClientTlsConfig>,
    token: Option<String>,
}

impl Peer {
    /// The server at that address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, shared: OnceCell::new(), tls: None, token: None }
    }

    /// The same server, talked to through TLS.
    #[must_use]
    pub fn through(&self, tls: ClientTlsConfig) -> Self {
        Self { tls: Some(tls), token: self.token.clone(), ..Self::new(self.address) }
    }

    /// The same server, as it is to whoever has this token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { tls: self.tls.clone(), token: Some(token.to_owned()), ..Self::new(self.address) }
    }

    /// Where it is, as clients want it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn channel(&self) -> Line {
        self.try_channel().await.expect("it listens")
    }

    /// A connection of its own, or not.
    ///
    /// # Errors
    /// The innermost reason.
    ///
    /// # Panics
    /// If the TLS configured for it makes no sense.
    pub async fn try_channel(&self) -> Result<Line, String> {
        let mut endpoint = Channel::from_shared(self.url()).expect("an address");
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).expect("sound certificates");
        }
        let channel = soon("a connection", endpoint.connect()).await.map_err(|error| innermost(&error))?;
        Ok(sign(channel, self.token.as_deref()))
    }

    /// Connects for the calls that share a connection. False if nobody listens.
    pub async fn reach(&self) -> bool {
        self.shared.get_or_try_init(|| self.try_channel()).await.is_ok()
    }

    /// Unary calls, on a connection that all of them share.
    pub async fn permits(&self) -> PermitServiceClient<Line> {
        PermitServiceClient::new(self.shared.get_or_init(|| self.channel()).await.clone())
    }

    /// Administration, on the connection that all calls share.
    pub async fn admin(&self) -> AdminServiceClient<Line> {
        AdminServiceClient::new(self.shared.get_or_init(|| self.channel()).await.clone())
    }

    /// What is about a cluster, on the connection that all calls share.
    pub async fn cluster(&self) -> ClusterServiceClient<Line> {
        ClusterServiceClient::new(self.shared.get_or_init(|| self.channel()).await.clone())
    }

    /// Creates or replaces the budget `p/KEY`.
    pub async fn set(&self, key: &str, limits: Vec<Limit>) -> Budget {
        self.declare(budget(key, limits)).await
    }

    /// Creates or replaces a budget.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn declare(&self, budget: Budget) -> Budget {
        self.try_declare(budget).await.expect("a budget that makes sense")
    }

    /// Creates or replaces a budget, or not.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_declare(&self, budget: Budget) -> Result<Budget, Status> {
        let request = SetBudgetRequest { budget: Some(budget), ..SetBudgetRequest::default() };
        let answer = soon("a declared budget", self.admin().await.set_budget(request)).await?;
        Ok(answer.into_inner().budget.expect("the budget"))
    }

    /// The budget `p/KEY` as it stands.
    ///
    /// # Panics
    /// If there is none.
    pub async fn state(&self, key: &str) -> BudgetState {
        self.try_state(key).await.expect("the budget is known")
    }

    /// The budget `p/KEY` as it stands, if there is one.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_state(&self, key: &str) -> Result<BudgetState, Status> {
        let request = GetBudgetRequest { provider: "p".to_owned(), key: key.to_owned() };
        let answer = soon("a budget's state", self.admin().await.get_budget(request)).await?;
        Ok(answer.into_inner().state.expect("a state"))
    }

    /// The limit of the budget `p/KEY` on this unit for these models.
    ///
    /// # Panics
    /// If there is none.
    pub async fn limit(&self, key: &str, unit: &str, models: &str) -> LimitState {
        let mut limits = self.state(key).await.limits.into_iter();
        let found = limits.find(|limit| {
            limit.configured.as_ref().is_some_and(|limit| limit.unit == unit && limit.models == models)
        });
        found.unwrap_or_else(|| panic!("a limit on {unit} for {models:?}"))
    }

    /// What is left of the limit on this unit.
    pub async fn level(&self, key: &str, unit: &str) -> i64 {
        self.limit(key, unit, "").await.level
    }

    /// Pauses the budget `p/KEY`.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn pause(&self, key: &str) {
        let request =
            PauseBudgetRequest { provider: "p".to_owned(), key: key.to_owned(), reason: "a test".to_owned() };
        soon("a pause", self.admin().await.pause_budget(request)).await.expect("paused");
    }

    /// Resumes the budget `p/KEY`.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn resume(&self, key: &str) {
        let request = ResumeBudgetRequest { provider: "p".to_owned(), key: key.to_owned() };
        soon("the end of a pause", self.admin().await.resume_budget(request)).await.expect("resumed");
    }

    /// Begins an acquire; a refusal at once may come here or in the stream.
    ///
    /// # Errors
    /// The refusal.
    pub async fn acquire(&self, request: impl IntoRequest<AcquireRequest>) -> Result<Call, Status> {
        let answer = soon("an answer", self.permits().await.acquire(request.into_request())).await?;
        Ok(Call { stream: answer.into_inner() })
    }

    /// Acquires what has to be granted sooner or later.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn granted(&self, request: AcquireRequest) -> Permit {
        let mut call = self.acquire(request.clone()).await.unwrap_or_else(|status| {
            panic!("{request:?} was refused: {status:?}");
        });
        call.permit().await
    }

    /// Acquires what has to be granted at once.
    ///
    /// # Panics
    /// If it has to wait, or is refused.
    pub async fn granted_now(&self, request: AcquireRequest) -> Permit {
        self.granted(AcquireRequest { max_wait: Some(prost_types::Duration::default()), ..request }).await
    }

    /// Acquires what is granted at once, or not at all.
    ///
    /// # Errors
    /// The refusal.
    pub async fn try_granted_now(&self, request: AcquireRequest) -> Result<Permit, Status> {
        let now = Some(prost_types::Duration::default());
        self.try_granted(AcquireRequest { max_wait: now, ..request }).await
    }

    /// Acquires what is granted, or not.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn try_granted(&self, request: AcquireRequest) -> Result<Permit, Status> {
        let mut call = self.acquire(request).await?;
        loop {
            match call.next().await? {
                Some(Event::Granted(permit)) => return Ok(permit),
                Some(Event::Queued(_)) => {}
                None => panic!("an answer, not an end"),
            }
        }
    }

    /// Acquires what has to be refused, at once or later.
    ///
    /// # Panics
    /// If it is granted.
    pub async fn refused(&self, request: impl IntoRequest<AcquireRequest>) -> Facts {
        match self.acquire(request).await {
            Ok(mut call) => call.refusal().await,
            Err(status) => facts(&status),
        }
    }

    /// Acquires what has to be refused at once because it gives no time.
    pub async fn refused_now(&self, request: AcquireRequest) -> Facts {
        self.refused(AcquireRequest { max_wait: Some(prost_types::Duration::default()), ..request }).await
    }

    /// Begins an acquire that has to wait, and waits until it does.
    ///
    /// # Panics
    /// If it is refused or granted.
    pub async fn waiting(&self, request: AcquireRequest) -> (Call, Queued) {
        let mut call = self.acquire(request).await.expect("a place in the queue");
        let queued = call.queued().await;
        (call, queued)
    }

    /// Reports.
    ///
    /// # Errors
    /// The refusal.
    pub async fn try_report(&self, request: ReportRequest) -> Result<ReportResponse, Status> {
        Ok(soon("an answer", self.permits().await.report(request)).await?.into_inner())
    }

    /// Reports what has to be taken.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn report(&self, request: ReportRequest) -> ReportResponse {
        self.try_report(request).await.expect("an answer to a report")
    }

    /// Settles a live permit as it was charged.
    ///
    /// # Panics
    /// If it was settled before.
    pub async fn settle(&self, permit: &Permit) {
        assert!(self.report(success(&permit.permit_id)).await.settled, "{permit:?} was live");
    }

    /// Gives a live permit back as never used.
    ///
    /// # Panics
    /// If it was settled before.
    pub async fn give_back(&self, permit: &Permit) {
        assert!(
            self.report(report(&permit.permit_id, Outcome::Cancelled)).await.settled,
            "{permit:?} was live"
        );
    }

    /// A session on a connection of its own.
    pub async fn session(&self, session_id: &str) -> Session {
        Session::open(self.channel().await, hello(session_id)).await
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// One unary acquire under way.
#[derive(Debug)]
pub struct Call {
    stream: Streaming<AcquireResponse>,
}

impl Call {
    /// What comes next: an event, the end, or a refusal.
    ///
    /// # Errors
    /// The refusal.
    pub async fn next(&mut self) -> Result<Option<Event>, Status> {
        let message = soon("an event", self.stream.message()).await?;
        Ok(message.map(|message| message.event.expect("an event that this client knows")))
    }

    /// The next permit; places before it are passed over.
    ///
    /// # Panics
    /// If there is none.
    pub async fn permit(&mut self) -> Permit {
        loop {
            match self.next().await {
                Ok(Some(Event::Granted(permit))) => return permit,
                Ok(Some(Event::Queued(_))) => {}
                other => panic!("a permit, not {other:?}"),
            }
        }
    }

    /// The next place, which has to come before any permit.
    ///
    /// # Panics
    /// If something else comes.
    pub async fn queued(&mut self) -> Queued {
        match self.next().await {
            Ok(Some(Event::Queued(queued))) => queued,
            other => panic!("a place in the queue, not {other:?}"),
        }
    }

    /// The refusal; places before it are passed over.
    ///
    /// # Panics
    /// If there is none.
    pub async fn refusal(&mut self) -> Facts {
        loop {
            match self.next().await {
                Err(status) => return facts(&status),
                Ok(Some(Event::Queued(_))) => {}
                other => panic!("a refusal, not {other:?}"),
            }
        }
    }

    /// The polite end.
    ///
    /// # Panics
    /// If anything else comes.
    pub async fn end(&mut self) {
        assert!(matches!(self.next().await, Ok(None)), "the end of the stream");
    }
}
