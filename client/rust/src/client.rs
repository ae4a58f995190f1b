//! The handle: cheap to clone, one session behind all clones.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};

use crate::{
    Acquire, Caller, ClientBuilder, Error, Permit, Request,
    builder::OutagePolicy,
    call::{ByResult, CallError},
    driver::Owners,
};

/// How long [`Client::close`] waits for answers to reports.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Asks for permits over one session. Clones share it; when the last clone and the last guard are gone, the session ends politely.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the driver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Connecting,
    Connected,
    /// The outage policy holds; with the last problem.
    Outage(Arc<str>),
    Closed,
}

impl Client {
    /// Connects to the first of `endpoints` that answers, with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    /// An endpoint that makes no sense, or no server that can be reached in time.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), permitd_client::Error> {
    /// let client = permitd_client::Client::connect(["http://127.0.0.1:7110"]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect<I>(endpoints: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self::builder().endpoints(endpoints).connect().await
    }

    /// Everything that can be set.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Asks for a permit of the budget `provider/key`; await what this returns.
    ///
    /// ```no_run
    /// # async fn example(client: permitd_client::Client) -> Result<(), permitd_client::Error> {
    /// use permitd_client::Report;
    ///
    /// let guard = client.acquire("anthropic/prod").model("claude-sonnet-4-5").tokens(1_200).await?;
    /// // ... make the call ...
    /// guard.report(Report::success().input_tokens(812).output_tokens(96)).await?;
    /// # Ok(()) }
    /// ```
    pub fn acquire(&self, request: impl Into<Request>) -> Acquire {
        Acquire::new(Arc::clone(&self.handle), request.into())
    }

    /// Acquires, runs the future that `call` makes, reports how it went, and again while the server advises it. An `Ok` counts as a
    /// success and an `Err` as a failure; to look closer, and for the number of attempts, see [`caller`](Self::caller).
    ///
    /// # Errors
    /// [`CallError::Permit`]: no permit. [`CallError::Call`]: the caller's own.
    ///
    /// ```no_run
    /// # async fn fetch() -> std::io::Result<String> { Ok(String::new()) }
    /// # async fn example(client: permitd_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let page = client.call("github", |_permit| fetch()).await?;
    /// # Ok(()) }
    /// ```
    pub async fn call<T, E, Fut>(
        &self,
        request: impl Into<Request>,
        call: impl FnMut(Permit) -> Fut,
    ) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        self.caller().call(request, call).await
    }

    /// A way of making calls: how results are read, how many attempts. To be kept and used many times.
    pub fn caller(&self) -> Caller<ByResult> {
        Caller::new(self.clone())
    }

    /// Whether a session stands at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.handle.status.borrow() == Status::Connected
    }

    /// Where this client asks for budgets beside its own server, at this moment: the addresses of their owners, in order. See
    /// [`ClientBuilder::follow_owners`].
    #[must_use]
    pub fn owners(&self) -> Vec<String> {
        self.handle.owners.addresses()
    }

    /// Ends the session politely: reports that are on their way are answered first (within 5 seconds), requests that wait end with an
    /// error for which [`is_closed`](Error::is_closed) holds. Other clones are closed too. Without it, a process that exits may leave
    /// its last detached reports unsent.
    pub async fn close(self) {
        self.handle.owners.close(self.handle.status.clone(), CLOSE_WAIT * 2).await;
    }

    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Waits for the first session, or for the outage policy to take over.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        let mut status = self.handle.status.clone();
        let status = status.wait_for(|status| *status != Status::Connecting).await;
        match status.map(|status| status.clone()) {
            Ok(Status::Outage(problem)) if self.handle.policy == OutagePolicy::FailClosed => {
                Err(Error::no_server(&problem))
            }
            Ok(Status::Closed) | Err(_) => Err(Error::closed()),
            Ok(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &*self.handle.status.borrow()).finish_non_exhaustive()
    }
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Handle {
    owners: Arc<Owners>,
    slots: Arc<Semaphore>,
    waiting_max: usize,
    status: watch::Receiver<Status>,
    policy: OutagePolicy,
}

impl Handle {
    pub(crate) fn new(
        owners: Arc<Owners>,
        waiting_max: usize,
        status: watch::Receiver<Status>,
        policy: OutagePolicy,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(waiting_max));
        Self { owners, slots, waiting_max, status, policy }
    }

    /// Where requests go.
    pub(crate) fn owners(&self) -> &Owners {
        &self.owners
    }

    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    pub(crate) fn waiting_max(&self) -> usize {
        self.waiting_max
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.owners.abandon();
    }
}
