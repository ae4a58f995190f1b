//! Messages in short form. Budgets are of provider `p` unless a test says otherwise.

use std::time::Duration;

use permitd_proto::v1::{
    AcquireRequest, Budget, Hello, Limit, Outcome, ReportRequest, SessionRequest, Usage,
};

/// Nothing refills within a test that a test would notice.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A twenty-fourth of it.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// A span of time for the wire.
///
/// # Panics
/// If it is longer than the wire holds.
#[must_use]
pub fn span(span: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration::try_from(span).expect("a span that the wire holds"))
}

/// So much of a unit per window, in a bucket.
#[must_use]
pub fn rate(unit: &str, amount: u64, per: Duration) -> Limit {
    Limit { unit: unit.to_owned(), amount, per: span(per), ..Limit::default() }
}

/// So many permits at once.
#[must_use]
pub fn in_flight(amount: u64) -> Limit {
    Limit { unit: "in_flight".to_owned(), amount, ..Limit::default() }
}

/// The budget `p/KEY`.
#[must_use]
pub fn budget(key: &str, limits: Vec<Limit>) -> Budget {
    Budget { provider: "p".to_owned(), key: key.to_owned(), limits, ..Budget::default() }
}

/// Asks the budget `p/KEY` for one permit.
#[must_use]
pub fn ask(key: &str) -> AcquireRequest {
    AcquireRequest { provider: "p".to_owned(), key: key.to_owned(), ..AcquireRequest::default() }
}

/// Asks the budget `p/KEY` for one permit with so many tokens.
#[must_use]
pub fn tokens(key: &str, tokens: u64) -> AcquireRequest {
    AcquireRequest { tokens, ..ask(key) }
}

/// Asks the budget `p/KEY` for one permit with that estimate.
#[must_use]
pub fn estimate(key: &str, estimate: Usage) -> AcquireRequest {
    AcquireRequest { estimate: Some(estimate), ..ask(key) }
}

/// Says how the call of a permit went.
#[must_use]
pub fn report(permit_id: &str, outcome: Outcome) -> ReportRequest {
    ReportRequest { permit_id: permit_id.to_owned(), outcome: outcome.into(), ..ReportRequest::default() }
}

/// Says that it went well.
#[must_use]
pub fn success(permit_id: &str) -> ReportRequest {
    report(permit_id, Outcome::Success)
}

/// A Hello that asks for progress.
#[must_use]
pub fn hello(session_id: &str) -> Hello {
    Hello {
        session_id: session_id.to_owned(),
        client: "permitd-tests".to_owned(),
        progress: true,
        ..Hello::default()
    }
}

/// A session message with nothing but acquires.
#[must_use]
pub fn acquires(acquire: Vec<AcquireRequest>) -> SessionRequest {
    SessionRequest { acquire, ..SessionRequest::default() }
}
