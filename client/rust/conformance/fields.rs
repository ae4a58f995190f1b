//! What a command says, read into this client's own words.

use std::{collections::BTreeMap, time::Duration};

use permitd_client::{
    Client, ClientBuilder, OutagePolicy, Outcome, Priority, Report, Request, Tls, Token, Usage,
};
use serde::Deserialize;

/// A setting of the client.
#[derive(Debug, Deserialize)]
pub(crate) struct Connect {
    endpoints: Vec<String>,
    ca: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
    #[serde(default)]
    tenant: String,
    outage: Option<String>,
    outage_after_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    keepalive_ms: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ask {
    provider: String,
    key: String,
    model: String,
    tenant: String,
    priority: Option<String>,
    tokens: Option<String>,
    usage: Option<Amounts>,
    max_wait_ms: Option<u64>,
    deadline_ms: Option<u64>,
}

/// How a call went.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) raises: bool,
    outcome: Option<String>,
    tokens: Option<String>,
    usage: Option<Amounts>,
    pub(crate) status: Option<u16>,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    retry_after_ms: Option<u64>,
}

/// Amounts as text, by the wire's names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Amounts {
    requests: Option<String>,
    tokens: Option<String>,
    input_tokens: Option<String>,
    output_tokens: Option<String>,
    max_output_tokens: Option<String>,
    cached_input_tokens: Option<String>,
    other: BTreeMap<String, String>,
}

impl Connect {
    pub(crate) fn builder(self) -> ClientBuilder {
        let mut builder = Client::builder().endpoints(self.endpoints).tenant(self.tenant);
        builder = builder.outage_policy(match self.outage.as_deref() {
            Some("fail_open") => OutagePolicy::FailOpen,
            Some("local_share") => OutagePolicy::LocalShare,
            _ => OutagePolicy::FailClosed,
        });
        if let Some(ca) = self.ca {
            builder = builder.tls(Tls::new().ca_file(ca));
        }
        if let Some(token) = self.token {
            builder = builder.token(token);
        }
        if let Some(file) = self.token_file {
            builder = builder.token(Token::file(file));
        }
        if let Some(span) = self.outage_after_ms {
            builder = builder.outage_after(Duration::from_millis(span));
        }
        if let Some(span) = self.connect_timeout_ms {
            builder = builder.connect_timeout(Duration::from_millis(span));
        }
        if let Some(span) = self.keepalive_ms {
            builder = builder.keepalive(Duration::from_millis(span));
        }
        builder
    }
}

impl Ask {
    pub(crate) fn request(&self) -> Request {
        let budget = if self.key.is_empty() {
            self.provider.clone()
        } else {
            format!("{}/{}", self.provider, self.key)
        };
        let mut request = Request::new(budget).model(&self.model).tenant(&self.tenant);
        request = request.priority(match self.priority.as_deref() {
            Some("interactive") => Priority::Interactive,
            Some("batch") => Priority::Batch,
            _ => Priority::Standard,
        });
        if let Some(tokens) = amount(self.tokens.as_ref()) {
            request = request.tokens(tokens);
        }
        if let Some(amounts) = &self.usage {
            request = request.estimate(amounts.usage());
        }
        if let Some(span) = self.max_wait_ms {
            request = request.max_wait(Duration::from_millis(span));
        }
        if let Some(span) = self.deadline_ms {
            request = request.timeout(Duration::from_millis(span));
        }
        request
    }
}

impl Told {
    pub(crate) fn report(&self) -> Report {
        let mut report = match self.outcome.as_deref().and_then(outcome) {
            Some(outcome) => Report::new(outcome),
            None => Report::status(self.status.unwrap_or(0)),
        };
        for (name, value) in &self.headers {
            report = report.header(name, value);
        }
        if let Some(body) = &self.body {
            report = report.body(body);
        }
        if let Some(amounts) = &self.usage {
            report = report.actual(amounts.usage());
        }
        if let Some(tokens) = amount(self.tokens.as_ref()) {
            report = report.tokens(tokens);
        }
        if let Some(wait) = self.retry_after_ms {
            report = report.retry_after(Duration::from_millis(wait));
        }
        report
    }
}

impl Amounts {
    fn usage(&self) -> Usage {
        let mut usage = Usage::new();
        usage.requests = amount(self.requests.as_ref());
        usage.tokens = amount(self.tokens.as_ref());
        usage.input_tokens = amount(self.input_tokens.as_ref());
        usage.output_tokens = amount(self.output_tokens.as_ref());
        usage.max_output_tokens = amount(self.max_output_tokens.as_ref());
        usage.cached_input_tokens = amount(self.cached_input_tokens.as_ref());
        for (unit, text) in &self.other {
            usage = usage.other(unit, amount(Some(text)).expect("just given"));
        }
        usage
    }
}

fn amount(text: Option<&String>) -> Option<u64> {
    text.map(|text| text.parse().expect("an amount in decimal digits"))
}

const OUTCOMES: [(&str, Outcome); 9] = [
    ("success", Outcome::Success),
    ("rate_limited", Outcome::RateLimited),
    ("concurrency_limited", Outcome::ConcurrencyLimited),
    ("overloaded", Outcome::Overloaded),
    ("acceleration_limited", Outcome::AccelerationLimited),
    ("quota_exhausted", Outcome::QuotaExhausted),
    ("too_large", Outcome::TooLarge),
    ("failed", Outcome::Failed),
    ("cancelled", Outcome::Cancelled),
];

fn outcome(name: &str) -> Option<Outcome> {
    OUTCOMES.iter().find(|(known, _)| *known == name).map(|(_, outcome)| *outcome)
}

/// The wire's name, in lower case and without its prefix.
pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    OUTCOMES.iter().find(|(_, known)| *known == outcome).map_or("unknown", |(name, _)| name)
}
