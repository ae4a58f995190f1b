//! Asking for permits. Whoever stops waiting leaves the queue: dropping any future or stream of this module cancels at the server.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use permitd_proto::v1 as wire;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    Error, Guard, Priority, Request, Usage,
    client::Handle,
    mailbox::{Command, Mailbox, Reply, Waiting},
};

/// What the server's answer may take beyond `max_wait`, before the client stops waiting for it.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// A request being put together; await it for a [`Guard`]. See [`Client::acquire`](crate::Client::acquire).
#[derive(Clone)]
#[must_use = "nothing is asked before this is awaited"]
pub struct Acquire {
    handle: Arc<Handle>,
    request: Request,
}

impl Acquire {
    pub(crate) fn new(handle: Arc<Handle>, request: Request) -> Self {
        Self { handle, request }
    }

    /// See [`Request::model`].
    pub fn model(self, model: impl Into<String>) -> Self {
        self.with(|request| request.model(model))
    }

    /// See [`Request::tenant`].
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        self.with(|request| request.tenant(tenant))
    }

    /// See [`Request::traceparent`].
    pub fn traceparent(self, traceparent: impl Into<String>) -> Self {
        self.with(|request| request.traceparent(traceparent))
    }

    /// See [`Request::tokens`].
    pub fn tokens(self, tokens: u64) -> Self {
        self.with(|request| request.tokens(tokens))
    }

    /// See [`Request::estimate`].
    pub fn estimate(self, estimate: Usage) -> Self {
        self.with(|request| request.estimate(estimate))
    }

    /// See [`Request::priority`].
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|request| request.priority(priority))
    }

    /// See [`Request::max_wait`].
    pub fn max_wait(self, max_wait: Duration) -> Self {
        self.with(|request| request.max_wait(max_wait))
    }

    /// See [`Request::deadline`].
    pub fn deadline(self, deadline: std::time::Instant) -> Self {
        self.with(|request| request.deadline(deadline))
    }

    /// See [`Request::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|request| request.timeout(timeout))
    }

    /// Asks for `count` permits at once, up to [`COUNT_MAX`](crate::COUNT_MAX), each for the whole estimate. They come as they
    /// become possible; the request has one place in the queue.
    pub fn many(self, count: u32) -> Grants {
        let Self { handle, request } = self;
        Grants { state: GrantsState::Starting(Box::pin(start_many(handle, request, count))) }
    }

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    fn with(self, set: impl FnOnce(Request) -> Request) -> Self {
        Self { handle: self.handle, request: set(self.request) }
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Guard, Error>;
    type IntoFuture = Acquiring;

    fn into_future(self) -> Acquiring {
        Acquiring(Box::pin(acquire_one(self.handle, self.request)))
    }
}

impl From<Acquire> for Request {
    fn from(acquire: Acquire) -> Self {
        acquire.request
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acquire").field(&self.request).finish()
    }
}

/// The future of [`Acquire`]. Dropping it leaves the queue.
#[must_use = "futures do nothing unless awaited"]
pub struct Acquiring(Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send>>);

impl Future for Acquiring {
    type Output = Result<Guard, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Acquiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acquiring")
    }
}

pub(crate) async fn acquire_one(handle: Arc<Handle>, request: Request) -> Result<Guard, Error> {
    let (reply, answer) = oneshot::channel();
    let bound = Bound::of(&request);
    let mut place = post(&handle, request, 1, Reply::One(Some(reply))).await?;
    let answer = bound.keep(answer).await?;
    place.answered = true;
    answer.unwrap_or_else(|_| Err(Error::closed())).map(Guard::hand_over)
}

/// Puts the request into the mailbox once the client has room for it.
async fn post(handle: &Arc<Handle>, request: Request, count: u32, reply: Reply) -> Result<Place, Error> {
    let asked_at = Instant::now();
    let wait = request.wait_from(asked_at);
    let ask: wire::AcquireRequest = request.into_wire(count)?;
    let slot = slot(handle, asked_at, wait).await?;
    let mailbox = handle.owners().mailbox(&ask);
    let request_id = mailbox.next_request_id();
    let waiting = Waiting {
        ask,
        number: request_id,
        again_at: None,
        wait,
        asked_at,
        remaining: count,
        reply,
        sent: false,
        _slot: slot,
    };
    mailbox.push(Command::Acquire { request_id, waiting: Box::new(waiting) });
    Ok(Place { mailbox, request_id, answered: false })
}

async fn slot(
    handle: &Handle,
    asked_at: Instant,
    wait: Option<Duration>,
) -> Result<OwnedSemaphorePermit, Error> {
    let slots = handle.slots();
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Ok(slot);
    }
    let free = Arc::clone(slots).acquire_owned();
    let slot = match wait.map(|wait| asked_at.checked_add(wait)) {
        Some(Some(until)) => {
            timeout_at(until, free).await.map_err(|_| Error::client_full(handle.waiting_max()))?
        }
        Some(None) | None => free.await,
    };
    slot.map_err(|_| Error::closed())
}

/// Cancels when dropped before the last answer.
#[derive(Debug)]
struct Place {
    mailbox: Arc<Mailbox>,
    request_id: u64,
    answered: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.push(Command::Cancel { request_id: self.request_id });
        }
    }
}

/// Until when the client itself waits.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Deadline(Instant),
    MaxWait(Instant),
    None,
}

impl Bound {
    fn of(request: &Request) -> Self {
        let max_wait =
            request.max_wait.and_then(|wait| Instant::now().checked_add(wait.saturating_add(ANSWER_SLACK)));
        match (request.deadline, max_wait) {
            (Some(deadline), Some(other)) if other < deadline => Bound::MaxWait(other),
            (Some(deadline), _) => Bound::Deadline(deadline),
            (None, Some(other)) => Bound::MaxWait(other),
            (None, None) => Bound::None,
        }
    }

    async fn keep<F: Future>(self, future: F) -> Result<F::Output, Error> {
        match self {
            Bound::Deadline(at) => timeout_at(at, future).await.map_err(|_| Error::deadline()),
            Bound::MaxWait(at) => timeout_at(at, future).await.map_err(|_| Error::no_answer_in_time()),
            Bound::None => Ok(future.await),
        }
    }
}

/// Several grants of one request, as they become possible. It is a [`Stream`]; [`next`](Grants::next) needs no extension trait.
/// It ends after the last grant or the first error. Dropping it cancels what was not granted yet.
#[must_use = "nothing is asked before the first grant is awaited"]
pub struct Grants {
    state: GrantsState,
}

enum GrantsState {
    Starting(Pin<Box<dyn Future<Output = Result<Running, Error>> + Send>>),
    Running(Running),
    Ended,
}

struct Running {
    answers: mpsc::Receiver<Result<Guard, Error>>,
    left: u32,
    /// Of the whole request, not of each grant.
    gives_up: Option<Pin<Box<tokio::time::Sleep>>>,
    deadline_error: fn() -> Error,
    place: Place,
}

async fn start_many(handle: Arc<Handle>, request: Request, count: u32) -> Result<Running, Error> {
    let room = usize::try_from(count.min(crate::COUNT_MAX)).expect("the bound fits") + 1;
    let (reply, answers) = mpsc::channel(room);
    let (gives_up, deadline_error): (_, fn() -> Error) = match Bound::of(&request) {
        Bound::Deadline(at) => (Some(at), Error::deadline),
        Bound::MaxWait(at) => (Some(at), Error::no_answer_in_time),
        Bound::None => (None, Error::deadline),
    };
    let place = post(&handle, request, count, Reply::Many(reply)).await?;
    let gives_up = gives_up.map(|at| Box::pin(tokio::time::sleep_until(at)));
    Ok(Running { answers, left: count, gives_up, deadline_error, place })
}

impl Grants {
    /// The next grant; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Guard, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Grants {
    type Item = Result<Guard, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let GrantsState::Starting(start) = &mut self.state {
            match ready!(start.as_mut().poll(context)) {
                Ok(running) => self.state = GrantsState::Running(running),
                Err(error) => {
                    self.state = GrantsState::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let GrantsState::Running(running) = &mut self.state else { return Poll::Ready(None) };
        let answer = ready!(running.poll_answer(context));
        running.left -= 1;
        if answer.is_err() || running.left == 0 {
            running.place.answered = running.left == 0;
            self.state = GrantsState::Ended;
        }
        Poll::Ready(Some(answer.map(Guard::hand_over)))
    }
}

impl Running {
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<Guard, Error>> {
        if let Poll::Ready(answer) = self.answers.poll_recv(context) {
            return Poll::Ready(answer.unwrap_or_else(|| Err(Error::closed())));
        }
        match &mut self.gives_up {
            Some(gives_up) => gives_up.as_mut().poll(context).map(|()| Err((self.deadline_error)())),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grants")
    }
}
