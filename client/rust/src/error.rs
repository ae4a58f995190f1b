//! The one error of this crate: opaque, with questions to ask it and a message that says what to do.

use std::{fmt, time::Duration};

use permitd_proto::v1 as wire;

/// Why there is no permit, or no answer to a report.
///
/// ```
/// # fn handle(error: permitd_client::Error) {
/// if error.is_refused() {
///     // The server said no. `limit()` names which limit did, `retry_after()` when asking again may help.
///     eprintln!("{error} (limit {:?}, again in {:?})", error.limit(), error.retry_after());
/// } else if error.is_unavailable() {
///     // Nobody could be asked.
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Facts>);

#[derive(Clone, Debug)]
struct Facts {
    kind: Kind,
    reason: String,
    message: String,
    limit: Option<String>,
    retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Timeout,
    Unavailable,
    Invalid,
    Closed,
}

/// Reasons that this crate gives itself; all others come from the server.
pub(crate) mod reasons {
    pub(crate) const NOT_IN_TIME: &str = "NOT_IN_TIME";
    pub(crate) const LARGER_THAN_LIMIT: &str = "LARGER_THAN_LIMIT";
    pub(crate) const DRAINING: &str = "DRAINING";
    pub(crate) const PERMIT_UNKNOWN: &str = "PERMIT_UNKNOWN";
    pub(crate) const CLIENT_FULL: &str = "CLIENT_FULL";
    pub(crate) const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    pub(crate) const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    pub(crate) const NO_SERVER: &str = "NO_SERVER";
    pub(crate) const NO_LOCAL_SHARE: &str = "NO_LOCAL_SHARE";
    pub(crate) const CLIENT_CLOSED: &str = "CLIENT_CLOSED";
}

impl Error {
    /// Somebody who was asked said no: the server, or the local share in its place.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.kind == Kind::Refused
    }

    /// The time that the caller gave was not enough: its own deadline passed, or the server knows that a grant can't come within
    /// `max_wait` (then [`is_refused`](Self::is_refused) holds too).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.kind == Kind::Timeout || self.0.reason == reasons::NOT_IN_TIME
    }

    /// No server could be asked, and the outage policy does not stand in for it.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.0.kind == Kind::Unavailable
    }

    /// The request itself makes no sense; the message names the field. Asking again is of no use.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.0.kind == Kind::Invalid
    }

    /// The request asks for more than the limit ever holds. Asking again is of no use.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.0.reason == reasons::LARGER_THAN_LIMIT
    }

    /// The client was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.kind == Kind::Closed
    }

    /// The reason by its stable name in UPPER_SNAKE_CASE, for example `QUEUE_FULL` or `BUDGET_UNKNOWN`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// When asking again may help; `None` means never, or not known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The limit that refused, for example `tokens/1m`, if one did.
    #[must_use]
    pub fn limit(&self) -> Option<&str> {
        self.0.limit.as_deref()
    }

    fn new(kind: Kind, reason: &str, message: String) -> Self {
        Self(Box::new(Facts { kind, reason: reason.to_owned(), message, limit: None, retry_after: None }))
    }

    pub(crate) fn invalid(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, reasons::INVALID_ARGUMENT, format!("{field}: {problem}"))
    }

    pub(crate) fn deadline() -> Self {
        let message = "the deadline passed before the call was through; allow more time (deadline, max_wait)";
        Self::new(Kind::Timeout, reasons::DEADLINE_EXCEEDED, message.to_owned())
    }

    pub(crate) fn no_answer_in_time() -> Self {
        let message =
            "max_wait passed without an answer from the server; try again later or wait longer (max_wait)";
        Self::new(Kind::Timeout, reasons::NOT_IN_TIME, message.to_owned())
    }

    pub(crate) fn client_full(waiting_max: usize) -> Self {
        let message = format!(
            "{waiting_max} requests of this client wait already and none left in time; slow down, allow more time \
             (max_wait), or raise ClientBuilder::waiting_max"
        );
        Self::new(Kind::Refused, reasons::CLIENT_FULL, message)
    }

    /// `problem` is the last thing that went wrong while connecting.
    pub(crate) fn no_server(problem: &str) -> Self {
        let message = format!(
            "no permitd server can be reached: {problem}; check the endpoints and that `permitd serve` runs"
        );
        Self::new(Kind::Unavailable, reasons::NO_SERVER, message)
    }

    pub(crate) fn no_local_share(budget: &str, problem: &str) -> Self {
        let message = format!(
            "no permitd server can be reached ({problem}), and there is no valid local share of {budget}; \
             shares come with the use of a budget, for the time that the server says"
        );
        Self::new(Kind::Unavailable, reasons::NO_LOCAL_SHARE, message)
    }

    pub(crate) fn report_kept(problem: &str) -> Self {
        let message = format!(
            "the report has no answer yet: {problem}; it is kept and sent as soon as a server can be reached"
        );
        Self::new(Kind::Unavailable, reasons::NO_SERVER, message)
    }

    pub(crate) fn closed() -> Self {
        let message = "the client was closed; connect a new one".to_owned();
        Self::new(Kind::Closed, reasons::CLIENT_CLOSED, message)
    }

    /// The server's refusal of an acquire or a report.
    pub(crate) fn refused(refused: wire::Refused) -> Self {
        let kind = match tonic::Code::from(i32::try_from(refused.code).unwrap_or(i32::MAX)) {
            tonic::Code::InvalidArgument => Kind::Invalid,
            _ => Kind::Refused,
        };
        Self(Box::new(Facts {
            kind,
            reason: refused.reason,
            message: refused.message,
            limit: Some(refused.limit).filter(|limit| !limit.is_empty()),
            retry_after: refused.retry_after.map(crate::convert::duration),
        }))
    }

    /// The local share's refusal.
    pub(crate) fn refused_locally(refusal: permitd_budget::Refusal) -> Self {
        let message = format!("{refusal} (from this client's local share: no permitd server can be reached)");
        Self(Box::new(Facts {
            kind: Kind::Refused,
            reason: refusal.reason.name().to_owned(),
            message,
            limit: refusal.limit,
            retry_after: refusal.retry_after,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.message.is_empty(), &self.0.limit) {
            (true, Some(limit)) => write!(f, "refused by {limit}: {}", self.0.reason),
            (true, None) => write!(f, "refused: {}", self.0.reason),
            (false, _) => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal keeps everything the server said, and each question has its answer.
    #[test]
    fn a_refusal_keeps_what_the_server_said() {
        let error = Error::refused(wire::Refused {
            code: 8,
            reason: "NOT_IN_TIME".to_owned(),
            message: "not in time: tokens/1m is short".to_owned(),
            limit: "tokens/1m".to_owned(),
            retry_after: Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 }),
            ..wire::Refused::default()
        });
        assert!(error.is_refused() && error.is_timeout());
        assert!(
            !error.is_invalid() && !error.is_unavailable() && !error.is_closed() && !error.is_impossible()
        );
        assert_eq!(error.reason(), "NOT_IN_TIME");
        assert_eq!(error.limit(), Some("tokens/1m"));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(2_500)));
        assert_eq!(error.to_string(), "not in time: tokens/1m is short");
    }

    /// INVALID_ARGUMENT is the caller's fault, not a refusal.
    #[test]
    fn invalid_argument_is_invalid() {
        let error =
            Error::refused(wire::Refused { code: 3, reason: "X".to_owned(), ..wire::Refused::default() });
        assert!(error.is_invalid() && !error.is_refused());
        assert_eq!(error.to_string(), "refused: X");
        assert_eq!(error.retry_after(), None);
    }
}
