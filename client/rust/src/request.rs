//! What is asked for: plain data, checked when it is sent.

use std::time::Duration;

use permitd_proto::v1 as wire;
use tokio::time::Instant;

use crate::{Error, Usage, convert};

/// Permits that one request may ask for.
pub const COUNT_MAX: u32 = 10_000;

/// Bytes in a name.
const NAME_BYTES_MAX: usize = 256;

/// Further units in one estimate.
const OTHER_UNITS_MAX: usize = 16;

/// Classes share a budget by weight, 16 : 4 : 1, so that none starves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody is looking at a screen.
    Interactive,
    /// The default.
    #[default]
    Standard,
    /// Whenever there is room.
    Batch,
}

/// Asks for permits of one budget. [`Client::acquire`](crate::Client::acquire) takes the same settings one by one; a `Request` is
/// for those who keep or pass one on, and for [`Client::call`](crate::Client::call).
///
/// ```
/// use std::time::Duration;
/// use permitd_client::{Priority, Request};
///
/// let request = Request::new("anthropic/prod")
///     .model("claude-sonnet-4-5")
///     .tokens(1_200)
///     .priority(Priority::Batch)
///     .max_wait(Duration::from_secs(30));
/// # let _ = request;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    provider: String,
    key: String,
    model: String,
    tenant: String,
    tokens: Option<u64>,
    estimate: Option<Usage>,
    priority: Priority,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    traceparent: String,
}

impl Request {
    /// One permit of the budget `provider/key`. Without a slash, the key is `default`.
    #[must_use]
    pub fn new(budget: impl AsRef<str>) -> Self {
        let budget = budget.as_ref();
        let (provider, key) = budget.split_once('/').unwrap_or((budget, ""));
        Self {
            provider: provider.to_owned(),
            key: key.to_owned(),
            model: String::new(),
            tenant: String::new(),
            tokens: None,
            estimate: None,
            priority: Priority::default(),
            max_wait: None,
            deadline: None,
            traceparent: String::new(),
        }
    }

    /// The model to be called; limits may differ by model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Who shares the budget. Without one, the client's tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The W3C trace context of whoever asks, as the header `traceparent` has it: where the server sends traces, the acquire is a span
    /// below it. What makes no sense is ignored.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// How many tokens go in: short for [`estimate`](Self::estimate). What comes out is learned from reports and charged on top;
    /// bound it with [`Usage::max_output_tokens`].
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// What the call is expected to use. An output that is left open is learned from what this tenant and model used before.
    #[must_use]
    pub fn estimate(mut self, estimate: Usage) -> Self {
        self.estimate = Some(estimate);
        self
    }

    /// The class.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How long to wait in the queue at most; zero means now or not at all. Without one, the budget's default.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// The moment at which the caller gives up, kept by this client whatever the server does. The server is told, so that it
    /// refuses at once what cannot be in time. With [`Client::call`](crate::Client::call) it covers the calls and retries too.
    #[must_use]
    pub fn deadline(mut self, deadline: std::time::Instant) -> Self {
        self.deadline = Some(deadline.into());
        self
    }

    /// [`deadline`](Self::deadline), from now.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        // A span past what the clock can hold is no deadline.
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// The provider: what stands before the slash.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The key: what stands after the slash; empty means `default`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where nothing is said of what is used, this is.
    #[cfg(feature = "reqwest")]
    pub(crate) fn or_estimate(mut self, estimate: Option<Usage>) -> Self {
        if self.tokens.is_none() {
            self.estimate = self.estimate.or(estimate);
        }
        self
    }

    /// Where no model is named, this one is.
    #[cfg(feature = "reqwest")]
    pub(crate) fn or_model(mut self, model: String) -> Self {
        if self.model.is_empty() {
            self.model = model;
        }
        self
    }

    /// Parses into what is sent, but for the request id and the wait.
    pub(crate) fn into_wire(self, count: u32) -> Result<wire::AcquireRequest, Error> {
        if self.provider.is_empty() {
            return Err(Error::invalid(
                "provider",
                "is empty; name the budget as PROVIDER/KEY, for example anthropic/prod",
            ));
        }
        let names = [
            ("provider", &self.provider),
            ("key", &self.key),
            ("model", &self.model),
            ("tenant", &self.tenant),
        ];
        for (field, name) in names {
            if name.len() > NAME_BYTES_MAX {
                let problem = format!("{} bytes; a name has at most {NAME_BYTES_MAX}", name.len());
                return Err(Error::invalid(field, problem));
            }
        }
        if count == 0 || count > COUNT_MAX {
            return Err(Error::invalid("count", format!("{count} is outside 1 to {COUNT_MAX}")));
        }
        if let Some(estimate) = &self.estimate
            && (estimate.others.len() > OTHER_UNITS_MAX
                || estimate.others.keys().any(|unit| unit.len() > NAME_BYTES_MAX || unit.is_empty()))
        {
            let problem =
                format!("at most {OTHER_UNITS_MAX} further units with names of 1 to {NAME_BYTES_MAX} bytes");
            return Err(Error::invalid("estimate.other", problem));
        }
        Ok(wire::AcquireRequest {
            provider: self.provider,
            key: self.key,
            tokens: self.tokens.unwrap_or(0),
            estimate: self.estimate.map(Usage::into_wire),
            model: self.model,
            tenant: self.tenant,
            priority: match self.priority {
                Priority::Interactive => wire::Priority::Interactive,
                Priority::Standard => wire::Priority::Standard,
                Priority::Batch => wire::Priority::Batch,
            } as i32,
            max_wait: None,
            count,
            request_id: 0,
            traceparent: self.traceparent,
        })
    }

    /// How long the request may wait from `now`: the shorter of `max_wait` and what the deadline leaves.
    pub(crate) fn wait_from(&self, now: Instant) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        match (self.max_wait, left) {
            (Some(max_wait), Some(left)) => Some(max_wait.min(left)),
            (one, other) => one.or(other),
        }
    }
}

impl From<&str> for Request {
    fn from(budget: &str) -> Self {
        Self::new(budget)
    }
}

impl From<String> for Request {
    fn from(budget: String) -> Self {
        Self::new(budget)
    }
}

/// How long `ask`, asked at `asked_at` with `wait`, may still wait at `now`; in the wire's form.
pub(crate) fn wait_left(
    wait: Option<Duration>,
    asked_at: Instant,
    now: Instant,
) -> Option<prost_types::Duration> {
    wait.map(|wait| convert::wire_duration(wait.saturating_sub(now.saturating_duration_since(asked_at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad input is refused before it is sent, with the field named.
    #[test]
    fn bad_input_names_the_field() {
        let long = "x".repeat(257);
        let field = |request: Request, count| request.into_wire(count).expect_err("bad input").to_string();
        assert!(field(Request::new(""), 1).starts_with("provider: is empty"));
        assert!(field(Request::new("/prod"), 1).starts_with("provider: is empty"));
        assert!(field(Request::new(format!("a/{long}")), 1).starts_with("key: 257 bytes"));
        assert!(field(Request::new("a").model(&long), 1).starts_with("model: "));
        assert!(field(Request::new("a").tenant(&long), 1).starts_with("tenant: "));
        assert!(field(Request::new("a"), COUNT_MAX + 1).starts_with("count: 10001"));
        assert!(
            field(Request::new("a").estimate(Usage::new().other("", 1)), 1).starts_with("estimate.other: ")
        );
    }

    #[test]
    fn the_budget_splits_at_the_first_slash() {
        let request = Request::new("github/team/a");
        assert_eq!((request.provider(), request.key()), ("github", "team/a"));
        assert_eq!(Request::new("github").key(), "");
    }

    /// The server is told the shorter of the two bounds.
    #[test]
    fn the_shorter_of_wait_and_deadline_counts() {
        let now = Instant::now();
        let mut request = Request::new("a").max_wait(Duration::from_secs(9));
        request.deadline = Some(now + Duration::from_secs(4));
        assert_eq!(request.wait_from(now), Some(Duration::from_secs(4)));
        assert_eq!(request.wait_from(now + Duration::from_secs(9)), Some(Duration::ZERO));
        request.deadline = None;
        assert_eq!(request.wait_from(now), Some(Duration::from_secs(9)));
    }
}
