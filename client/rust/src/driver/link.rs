//! The way to a server: waiting to try, trying, or up. There is always exactly one of these, and each makes progress by itself.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use permitd_proto::v1 as wire;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::transport::Endpoint;

use crate::credentials::Credentials;

use super::{
    Settings, backoff,
    dial::{Problem, Session, dial},
};

/// How long the server is given to end its side of a session politely.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Link {
    endpoints: Vec<Endpoint>,
    /// The one in use or to be tried next.
    at: usize,
    credentials: Credentials,
    hello: wire::Hello,
    connect_timeout: Duration,
    /// Failures since the last session that lived.
    failures: u32,
    state: State,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Dialing(Pin<Box<dyn Future<Output = Result<Session, Problem>> + Send>>),
    Up { session: Box<Session>, since: Instant },
}

/// What happened on the way to the server.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Up {
        resumed: bool,
        first: Box<wire::SessionResponse>,
    },
    Response(Box<wire::SessionResponse>),
    /// There is room for one message.
    Writable,
    /// Call [`Link::retry`].
    Lost(Problem),
}

impl Link {
    pub(crate) fn new(settings: &Settings) -> Self {
        let hello = wire::Hello {
            session_id: format!("{:032x}", rand::random::<u128>()),
            client: settings.name.clone(),
            tenant: settings.tenant.clone(),
            progress: false,
            owners: settings.follow_owners,
        };
        let mut link = Self {
            endpoints: settings.endpoints.clone(),
            at: 0,
            credentials: settings.credentials.clone(),
            hello,
            connect_timeout: settings.connect_timeout,
            failures: 0,
            state: State::Waiting(Box::pin(sleep(Duration::ZERO))),
        };
        link.dial();
        link
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether the first of its endpoints is in use, or to be tried next.
    pub(crate) fn is_at_first(&self) -> bool {
        self.at == 0
    }

    /// The next thing that happens; with `wants_to_send` also that it can. Cancel safe.
    pub(crate) async fn next(&mut self, wants_to_send: bool) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    until.as_mut().await;
                    self.dial();
                }
                State::Dialing(dialing) => match dialing.as_mut().await {
                    Ok(mut session) => {
                        let (resumed, first) =
                            (session.resumed, Box::new(std::mem::take(&mut session.first)));
                        self.state = State::Up { session: Box::new(session), since: Instant::now() };
                        return LinkEvent::Up { resumed, first };
                    }
                    Err(problem) => return LinkEvent::Lost(problem),
                },
                State::Up { session, .. } => {
                    let wants_to_send = wants_to_send && !session.outbound.is_closed();
                    let response = tokio::select! {
                        // Without a reader the stream is over; the other half says why.
                        Ok(_) = session.outbound.reserve(), if wants_to_send => return LinkEvent::Writable,
                        response = session.inbound.message() => response,
                    };
                    let uri = self.endpoints[self.at].uri();
                    return match response {
                        Ok(Some(response)) => LinkEvent::Response(Box::new(response)),
                        Ok(None) => LinkEvent::Lost(Problem::ended().at(uri)),
                        Err(status) => LinkEvent::Lost(Problem::midway(&status).at(uri)),
                    };
                }
            }
        }
    }

    /// After [`LinkEvent::Writable`].
    pub(crate) fn send(&mut self, message: wire::SessionRequest) {
        if message == wire::SessionRequest::default() {
            return;
        }
        if let State::Up { session, .. } = &self.state {
            // A stream that ended meanwhile loses nothing: what has no answer is sent again.
            drop(session.outbound.try_send(message));
        }
    }

    /// Tries again after a while, on the next endpoint or this one.
    pub(crate) fn retry(&mut self, elsewhere: bool) {
        if let State::Up { since, .. } = &self.state
            && since.elapsed() >= backoff::GOOD_LIFE
        {
            self.failures = 0;
        }
        if elsewhere {
            self.at = (self.at + 1) % self.endpoints.len();
        }
        self.state = State::Waiting(Box::pin(sleep(backoff::wait(self.failures, rand::random()))));
        self.failures = self.failures.saturating_add(1);
    }

    /// Half-closes, and lets the server end its side.
    pub(crate) async fn end(&mut self) {
        let ended = State::Waiting(Box::pin(sleep(Duration::ZERO)));
        if let State::Up { session, .. } = std::mem::replace(&mut self.state, ended) {
            let Session { outbound, mut inbound, .. } = *session;
            drop(outbound);
            let rest = async { while let Ok(Some(_)) = inbound.message().await {} };
            // A server that keeps it open past that is left.
            drop(timeout(END_PATIENCE, rest).await);
        }
    }

    fn dial(&mut self) {
        let (endpoint, credentials) = (self.endpoints[self.at].clone(), self.credentials.clone());
        let dialing = dial(endpoint, credentials, self.hello.clone(), self.connect_timeout);
        self.state = State::Dialing(Box::pin(dialing));
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waiting",
            State::Dialing(_) => "dialing",
            State::Up { .. } => "up",
        };
        f.debug_struct("Link")
            .field("state", &state)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
