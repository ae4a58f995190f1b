//! Opens one session on one endpoint, and says in words what went wrong if it cannot.

use std::{error::Error as _, time::Duration};

use permitd_proto::v1::{self as wire, permit_service_client::PermitServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Endpoint, Uri},
};

use crate::{Error, credentials::Credentials};

/// Messages between the driver and the connection. One is being written, one is ready: what comes meanwhile is coalesced.
const OUTBOUND_MESSAGES: usize = 1;

/// Bytes of one answer. The server bounds its own.
const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A session that was welcomed.
#[derive(Debug)]
pub(crate) struct Session {
    /// First, so that a session that is dropped is reset before its other half is closed: broken, and not politely ended.
    pub(crate) inbound: Streaming<wire::SessionResponse>,
    pub(crate) outbound: mpsc::Sender<wire::SessionRequest>,
    /// The first message, which holds the welcome and perhaps more.
    pub(crate) first: wire::SessionResponse,
    pub(crate) resumed: bool,
}

/// Why there is no session (any more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// For people.
    pub(crate) text: String,
    /// Trying the same endpoint again will not help by itself.
    pub(crate) definitive: bool,
    /// The server asks to be left alone.
    pub(crate) elsewhere: bool,
}

pub(crate) async fn dial(
    endpoint: Endpoint,
    credentials: Credentials,
    hello: wire::Hello,
    patience: Duration,
) -> Result<Session, Problem> {
    let opened = timeout(patience, open(&endpoint, &credentials, hello)).await;
    let opened =
        opened.unwrap_or_else(|_| Err(Problem::passing(format!("does not answer within {patience:?}"))));
    opened.map_err(|problem| problem.at(endpoint.uri()))
}

async fn open(
    endpoint: &Endpoint,
    credentials: &Credentials,
    hello: wire::Hello,
) -> Result<Session, Problem> {
    let unusable = |error: Error| Problem::definitive(format!("can't be connected to: {error}"));
    let channel = credentials
        .secure(endpoint.clone())
        .map_err(unusable)?
        .connect()
        .await
        .map_err(|error| Problem::passing(format!("cannot be reached ({})", innermost(&error))))?;
    let mut client = PermitServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let (outbound, messages) = mpsc::channel(OUTBOUND_MESSAGES);
    let opening = wire::SessionRequest { hello: Some(hello), ..wire::SessionRequest::default() };
    outbound.try_send(opening).expect("a new channel has room for one");
    let mut request = Request::new(ReceiverStream::new(messages));
    credentials.sign(request.metadata_mut()).map_err(unusable)?;
    let mut inbound = match client.session(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Err(refused(endpoint.uri(), &status).await),
    };
    let first = inbound.message().await.map_err(|status| Problem::of(&status))?;
    let Some(first) = first else { return Err(Problem::passing("ended the session at once".to_owned())) };
    let Some(welcome) = &first.welcome else {
        return Err(Problem::definitive(
            "answered without a Welcome: not permitd, or not this version".to_owned(),
        ));
    };
    let resumed = welcome.resumed;
    Ok(Session { outbound, inbound, first, resumed })
}

impl Problem {
    fn passing(text: String) -> Self {
        Self { text, definitive: false, elsewhere: false }
    }

    fn definitive(text: String) -> Self {
        Self { text, definitive: true, elsewhere: false }
    }

    /// The stream ended without a status of its own.
    pub(crate) fn ended() -> Self {
        Self::passing("ended the session".to_owned())
    }

    /// Whose problem it is.
    pub(crate) fn at(self, endpoint: &Uri) -> Self {
        Self { text: format!("{endpoint} {}", self.text), ..self }
    }

    /// Reads how a session ended that was let in. A token that expired since may have been renewed.
    pub(crate) fn midway(status: &Status) -> Self {
        let problem = Self::of(status);
        Self { definitive: problem.definitive && status.code() != Code::Unauthenticated, ..problem }
    }

    /// Reads how a stream ended.
    pub(crate) fn of(status: &Status) -> Self {
        let message = status.message();
        match status.code() {
            Code::Unavailable => {
                Self { elsewhere: true, ..Self::passing(format!("is unavailable ({})", innermost(status))) }
            }
            Code::Unimplemented => Self::definitive(
                "speaks gRPC but has no permit service: it is not a permitd server".to_owned(),
            ),
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::definitive(format!("does not let this client in: {message}"))
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                Self::definitive(format!("refused the session: {message}"))
            }
            code => Self::passing(format!("broke the session ({code:?}: {})", innermost(status))),
        }
    }
}

/// Why a connection opened, but no session. Most of what is not permitd breaks it off, as a server that is killed does; it takes
/// another look to tell them apart.
async fn refused(endpoint: &Uri, status: &Status) -> Problem {
    let problem = Problem::of(status);
    if status.source().is_some() && speaks_in_text(endpoint).await {
        return Problem::definitive(
            "does not speak HTTP/2, so it is not a permitd server; check the port".to_owned(),
        );
    }
    problem
}

/// Whether the peer answers an HTTP/1 request with text, or greets with it. HTTP/2 speaks in frames, which begin with the high byte of a
/// length: a zero.
async fn speaks_in_text(endpoint: &Uri) -> bool {
    let Some(host) = endpoint.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let look = async {
        let mut socket = TcpStream::connect((host, endpoint.port_u16().unwrap_or(80))).await?;
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        socket.read_u8().await
    };
    look.await.is_ok_and(|first| first.is_ascii_graphic())
}

/// The last cause says most: "Connection refused", not "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
