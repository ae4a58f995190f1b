//! How a call went, and what the server makes of it.

use std::{collections::BTreeMap, time::Duration};

use permitd_proto::v1 as wire;

use crate::{Usage, convert};

/// Bytes of an error body that are sent on; the rest is cut off.
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// Headers that one report carries; the rest is left out.
const HEADERS_MAX: usize = 64;

/// Bytes in one header's value; longer ones are left out.
const HEADER_BYTES_MAX: usize = 1024;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It worked.
    Success,
    /// Refused for a rate of requests or tokens.
    RateLimited,
    /// Refused for too many calls at once.
    ConcurrencyLimited,
    /// The provider has no capacity for anybody.
    Overloaded,
    /// Refused for growing too steeply.
    AccelerationLimited,
    /// Credit or spend cap used up: no call succeeds before a reset.
    QuotaExhausted,
    /// This request can never succeed under the provider's limits.
    TooLarge,
    /// Sent, and failed for another reason.
    Failed,
    /// Never sent: everything goes back to the budget.
    Cancelled,
}

/// Says how the call of one permit went.
///
/// ```
/// use permitd_client::Report;
///
/// // Say it outright,
/// let report = Report::success().input_tokens(812).output_tokens(96);
/// // or pass on what the provider said; the server reads it by the provider's profile.
/// let report = Report::status(429).header("retry-after", "7").body("{\"error\":{}}");
/// # let _ = report;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    outcome: Option<Outcome>,
    retry_after: Option<Duration>,
    actual: Usage,
    http_status: u32,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    latency: Option<Duration>,
}

impl Report {
    /// It went like this.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::default() }
    }

    /// It worked.
    #[must_use]
    pub fn success() -> Self {
        Self::new(Outcome::Success)
    }

    /// It was sent, and failed for a reason that has nothing to do with limits.
    #[must_use]
    pub fn failed() -> Self {
        Self::new(Outcome::Failed)
    }

    /// The provider refused it for a rate of requests or tokens.
    #[must_use]
    pub fn rate_limited() -> Self {
        Self::new(Outcome::RateLimited)
    }

    /// It was never sent: everything goes back to the budget.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Outcome::Cancelled)
    }

    /// The provider answered with this HTTP status; the server decides what it means. Add [`header`](Self::header)s and the
    /// [`body`](Self::body) of an error.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { http_status: status.into(), ..Self::default() }
    }

    /// Status and headers of a response.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn response<B>(response: &http::Response<B>) -> Self {
        let mut report = Self::status(response.status().as_u16());
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                report = report.header(name.as_str(), value);
            }
        }
        report
    }

    /// A response header. Only those that can say something about limits are kept: never a cookie or a credential.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if says_something_of_limits(&name)
            && value.len() <= HEADER_BYTES_MAX
            && self.headers.len() < HEADERS_MAX
        {
            self.headers.insert(name, value.to_owned());
        }
        self
    }

    /// The body of an error, or its beginning; at most [`BODY_BYTES_MAX`] are sent.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        self.body = body[..body.len().min(BODY_BYTES_MAX)].to_vec();
        self
    }

    /// The wait that the provider asked for; wins over headers and body.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What was used; absent units stay as charged.
    #[must_use]
    pub fn actual(mut self, actual: Usage) -> Self {
        self.actual = actual;
        self
    }

    /// So many tokens were used, input and output together.
    #[must_use]
    pub fn tokens(mut self, amount: u64) -> Self {
        self.actual.tokens = Some(amount);
        self
    }

    /// So many tokens went into the model.
    #[must_use]
    pub fn input_tokens(mut self, amount: u64) -> Self {
        self.actual.input_tokens = Some(amount);
        self
    }

    /// So many tokens came out of the model.
    #[must_use]
    pub fn output_tokens(mut self, amount: u64) -> Self {
        self.actual.output_tokens = Some(amount);
        self
    }

    /// How long the call took. Filled in by [`Client::call`](crate::Client::call) and the tower layer.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// Whether the outcome is said outright, and which.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(crate) fn latency_if_unknown(mut self, latency: Duration) -> Self {
        self.latency.get_or_insert(latency);
        self
    }

    /// Whether it says nothing but "it worked", or leaves the outcome to a status below 400.
    pub(crate) fn is_good(&self) -> bool {
        match self.outcome {
            Some(outcome) => outcome == Outcome::Success,
            None => self.http_status < 400,
        }
    }

    pub(crate) fn to_wire(&self, permit_id: String) -> wire::ReportRequest {
        wire::ReportRequest {
            permit_id,
            outcome: self.outcome.map_or(wire::Outcome::Unspecified, Outcome::to_wire) as i32,
            retry_after: self.retry_after.map(convert::wire_duration),
            actual: (!self.actual.is_empty()).then(|| self.actual.clone().into_wire()),
            http_status: self.http_status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            latency: self.latency.map(convert::wire_duration),
        }
    }

    /// For the local share, which has no profile: what is not said outright is read from the status alone.
    pub(crate) fn into_heart(self) -> permitd_budget::Report {
        use permitd_budget::Outcome as Heart;
        let outcome = match self.outcome {
            Some(Outcome::Success) => Heart::Success,
            Some(Outcome::RateLimited) => Heart::RateLimited,
            Some(Outcome::ConcurrencyLimited) => Heart::ConcurrencyLimited,
            Some(Outcome::Overloaded) => Heart::Overloaded,
            Some(Outcome::AccelerationLimited) => Heart::AccelerationLimited,
            Some(Outcome::QuotaExhausted) => Heart::QuotaExhausted,
            Some(Outcome::TooLarge) => Heart::TooLarge,
            Some(Outcome::Failed) => failed(self.http_status),
            Some(Outcome::Cancelled) => Heart::Cancelled,
            None => match self.http_status {
                0..400 => Heart::Success,
                429 => Heart::RateLimited,
                503 | 529 => Heart::Overloaded,
                413 => Heart::TooLarge,
                status => failed(status),
            },
        };
        let actual = crate::usage::heart_usage(&self.actual.into_wire());
        permitd_budget::Report {
            actual,
            retry_after: self.retry_after,
            ..permitd_budget::Report::new(outcome)
        }
    }
}

impl Outcome {
    fn to_wire(self) -> wire::Outcome {
        match self {
            Outcome::Success => wire::Outcome::Success,
            Outcome::RateLimited => wire::Outcome::RateLimited,
            Outcome::ConcurrencyLimited => wire::Outcome::ConcurrencyLimited,
            Outcome::Overloaded => wire::Outcome::Overloaded,
            Outcome::AccelerationLimited => wire::Outcome::AccelerationLimited,
            Outcome::QuotaExhausted => wire::Outcome::QuotaExhausted,
            Outcome::TooLarge => wire::Outcome::TooLarge,
            Outcome::Failed => wire::Outcome::Failed,
            Outcome::Cancelled => wire::Outcome::Cancelled,
        }
    }

    /// An outcome that a newer server invented counts as a failure.
    fn from_wire(outcome: wire::Outcome) -> Self {
        match outcome {
            wire::Outcome::Success => Outcome::Success,
            wire::Outcome::RateLimited => Outcome::RateLimited,
            wire::Outcome::ConcurrencyLimited => Outcome::ConcurrencyLimited,
            wire::Outcome::Overloaded => Outcome::Overloaded,
            wire::Outcome::AccelerationLimited => Outcome::AccelerationLimited,
            wire::Outcome::QuotaExhausted => Outcome::QuotaExhausted,
            wire::Outcome::TooLarge => Outcome::TooLarge,
            wire::Outcome::Failed | wire::Outcome::Unspecified => Outcome::Failed,
            wire::Outcome::Cancelled => Outcome::Cancelled,
        }
    }

    fn from_heart(outcome: permitd_budget::Outcome) -> Self {
        use permitd_budget::Outcome as Heart;
        match outcome {
            Heart::Success => Outcome::Success,
            Heart::RateLimited => Outcome::RateLimited,
            Heart::ConcurrencyLimited => Outcome::ConcurrencyLimited,
            Heart::Overloaded => Outcome::Overloaded,
            Heart::AccelerationLimited => Outcome::AccelerationLimited,
            Heart::QuotaExhausted => Outcome::QuotaExhausted,
            Heart::TooLarge => Outcome::TooLarge,
            Heart::Failed { .. } => Outcome::Failed,
            Heart::Cancelled => Outcome::Cancelled,
        }
    }
}

/// The answer to a [`Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// How the call went, as classified.
    pub outcome: Outcome,
    /// Whether this report settled the permit. False where it had expired, or was given without a server
    /// ([`OutagePolicy::FailOpen`](crate::OutagePolicy::FailOpen)).
    pub settled: bool,
    /// Whether the call is worth acquiring again for.
    pub retry: bool,
    /// For information: acquiring again already waits in the queue.
    pub retry_after: Option<Duration>,
}

impl Advice {
    /// No server knows of the permit: nothing is settled and nothing advised.
    pub(crate) fn unsettled(report: &Report) -> Self {
        let outcome =
            report.outcome.unwrap_or(if report.is_good() { Outcome::Success } else { Outcome::Failed });
        Self { outcome, settled: false, retry: false, retry_after: None }
    }

    pub(crate) fn from_wire(answer: &wire::ReportResponse) -> Self {
        Self {
            outcome: Outcome::from_wire(answer.outcome()),
            settled: answer.settled,
            retry: answer.retry,
            retry_after: answer.retry_after.map(convert::duration),
        }
    }

    pub(crate) fn from_heart(reported: permitd_budget::Reported) -> Self {
        Self {
            outcome: Outcome::from_heart(reported.outcome),
            settled: reported.settled,
            retry: reported.retry,
            retry_after: reported.retry_after,
        }
    }
}

/// A failure as the server reads it: every 4xx would fail again, but for a timeout; without a status it was a timeout or a
/// connection that broke.
fn failed(status: u32) -> permitd_budget::Outcome {
    permitd_budget::Outcome::Failed { retryable: status == 408 || !(400..=499).contains(&status) }
}

/// Profiles on the server decide which headers count; this only keeps out what no profile could want.
fn says_something_of_limits(name: &str) -> bool {
    const PARTS: [&str; 8] =
        ["limit", "retry", "quota", "remaining", "reset", "throttl", "x-amzn-errortype", "x-should-retry"];
    name == "date" || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes to the server holds no secret, and is bounded.
    #[test]
    fn headers_and_bodies_are_bounded_and_hold_no_secret() {
        let report = Report::status(429)
            .header("Retry-After", "7")
            .header("anthropic-ratelimit-tokens-remaining", "0")
            .header("RateLimit", "\"burst\";r=50;t=30")
            .header("Set-Cookie", "secret")
            .header("Authorization", "secret")
            .header("x-ratelimit-long", &"x".repeat(HEADER_BYTES_MAX + 1))
            .body(vec![b'x'; BODY_BYTES_MAX + 1])
            .to_wire("p".to_owned());
        let names: Vec<_> = report.headers.keys().map(String::as_str).collect();
        assert_eq!(names, ["anthropic-ratelimit-tokens-remaining", "ratelimit", "retry-after"]);
        assert_eq!(report.body.len(), BODY_BYTES_MAX);
        assert_eq!(report.outcome(), wire::Outcome::Unspecified);
    }

    /// Without a server a failure is worth another try where it is with one.
    #[test]
    fn failures_are_worth_a_try_as_on_the_server() {
        for (status, retryable) in [(0, true), (400, false), (404, false), (408, true), (500, true)] {
            let failed = permitd_budget::Outcome::Failed { retryable };
            let told = Report { outcome: Some(Outcome::Failed), ..Report::status(status) };
            assert_eq!(told.into_heart().outcome, failed, "{status}");
            if status != 0 {
                assert_eq!(Report::status(status).into_heart().outcome, failed, "{status}");
            }
        }
    }

    #[test]
    fn a_bare_success_sends_nothing_it_need_not() {
        let report = Report::success().to_wire("p".to_owned());
        let bare = wire::ReportRequest {
            permit_id: "p".to_owned(),
            outcome: wire::Outcome::Success as i32,
            ..wire::ReportRequest::default()
        };
        assert_eq!(report, bare);
    }
}
