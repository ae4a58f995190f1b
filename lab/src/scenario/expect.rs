//! What a scenario promises: a figure, the range that it has to lie in, and why that range.

use std::{fmt, time::Duration};

use permitd_server::config::DurationText;
use serde::Deserialize;

use super::file::Span;
use crate::provider::{account::Dimension, buckets::Nanos};

/// One promise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Which figure.
    pub what: What,
    /// Whose.
    #[serde(default)]
    pub clients: Clients,
    /// Of which dimension: what is counted as work, or whose limit is looked at.
    #[serde(default = "requests")]
    pub of: Dimension,
    /// Only limits for models that begin so.
    #[serde(default)]
    pub models: String,
    /// Only this tenant's calls.
    pub tenant: Option<String>,
    /// Counted from then on; for adaptation and recovery the moment of the change.
    #[serde(default)]
    pub from: Span,
    /// Counted until then; `None` means the scenario's end.
    pub until: Option<Span>,
    /// The least that is right.
    pub at_least: Option<f64>,
    /// The most that is right.
    pub at_most: Option<f64>,
    /// Why this range.
    pub because: String,
}

fn requests() -> Dimension {
    Dimension::Requests
}

/// A figure that a run gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Work let through, as a part of what the true limits allowed.
    Share,
    /// Work let through, as a multiple of what one worker got done who makes one call after the other.
    Speedup,
    /// 429s.
    Refusals,
    /// 429s per call let through.
    RefusalsPerSuccess,
    /// How often the effective limit was lowered.
    Decreases,
    /// Seconds from the first refusal after a change until the effective limit is at most 10 % above the true one; 0 if nobody was
    /// refused.
    AdaptationSeconds,
    /// Seconds from a change until the effective limit is at least 95 % of the true one.
    RecoverySeconds,
    /// Responses that the provider gave after a change and that were heard of before the effective limit was the true one.
    RecoveryResponses,
    /// The effective limit's highest less its lowest, as a part of the true one.
    Oscillation,
    /// The time-average of the effective limit, as a part of the true one.
    Effective,
    /// Time that calls take at the provider, as a multiple of what it works on them: what waits inside makes it more than one.
    Slowdown,
    /// The longest that a call waited for leave to go, all its attempts together, in seconds; whoever still waits at the end counts.
    WaitSecondsMax,
    /// The same, of which 99 of 100 calls waited less.
    WaitSecondsP99,
}

/// Who makes the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// Each call asks a budget first, and reports to it.
    #[default]
    Managed,
    /// Each call goes at once, and again after a refusal: after the wait told, or else after a backoff of its own.
    Naive,
    /// As naive, but one worker alone.
    Sequential,
    /// Each call waits at the provider's own door and goes through as soon as the true limits let it: what was possible.
    Oracle,
}

impl Expectation {
    /// When counting ends.
    #[must_use]
    pub fn until(&self, lasts: Nanos) -> Nanos {
        self.until.map_or(lasts, |until| until.0)
    }

    /// Whether `found` lies in the range.
    #[must_use]
    pub fn holds(&self, found: f64) -> bool {
        self.at_least.is_none_or(|least| found >= least) && self.at_most.is_none_or(|most| found <= most)
    }

    pub(super) fn check(&self, lasts: Nanos) -> Result<(), String> {
        if self.at_least.is_none() && self.at_most.is_none() {
            return Err("neither at_least nor at_most: it can't fail".to_owned());
        }
        let until = self.until(lasts);
        if self.from.0 >= until || until > lasts {
            return Err("from, until: not a stretch of the scenario".to_owned());
        }
        Ok(())
    }
}

/// The dimension as a budget's unit.
#[must_use]
pub(super) fn unit(of: Dimension) -> &'static str {
    use permitd_budget::{IN_FLIGHT, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOKENS};
    match of {
        Dimension::Requests => REQUESTS,
        Dimension::InputTokens => INPUT_TOKENS,
        Dimension::OutputTokens => OUTPUT_TOKENS,
        Dimension::Tokens => TOKENS,
        Dimension::Concurrency => IN_FLIGHT,
    }
}

impl Expectation {
    /// The range as people write it.
    #[must_use]
    pub fn range(&self) -> String {
        let round = super::verdict::round;
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) if least.to_bits() == most.to_bits() => round(least),
            (Some(least), Some(most)) => format!("{} to {}", round(least), round(most)),
            (Some(least), None) => format!(">= {}", round(least)),
            (None, Some(most)) => format!("<= {}", round(most)),
            (None, None) => "any".to_owned(),
        }
    }
}

/// The figure, of what, whose, and when: `share of requests, 1m to the end`.
impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = match self.what {
            What::Share => "share of the possible",
            What::Speedup => "times one worker alone",
            What::Refusals => "429s",
            What::RefusalsPerSuccess => "429s per success",
            What::Decreases => "decreases",
            What::AdaptationSeconds => "seconds to adapt",
            What::RecoverySeconds => "seconds to recover",
            What::RecoveryResponses => "responses to recover",
            What::Oscillation => "oscillation",
            What::Effective => "effective limit, of the true one",
            What::Slowdown => "times the time that the work takes",
            What::WaitSecondsMax => "longest wait, seconds",
            What::WaitSecondsP99 => "99th percentile of waits, seconds",
        }
        .to_owned();
        if self.of != Dimension::Requests {
            text += &format!(" ({})", unit(self.of));
        }
        match self.clients {
            Clients::Managed => {}
            Clients::Naive => text += ", naive",
            Clients::Sequential => text += ", sequential",
            Clients::Oracle => text += ", oracle",
        }
        for name in self.tenant.iter().chain((!self.models.is_empty()).then_some(&self.models)) {
            text += &format!(", {name}");
        }
        if self.from.0 > 0 || self.until.is_some() {
            text += &format!(", {}", span(self.from.0));
            text += &self.until.map_or_else(|| " on".to_owned(), |until| format!(" to {}", span(until.0)));
        }
        f.pad(&text)
    }
}

fn span(nanos: Nanos) -> String {
    DurationText(Duration::from_nanos(nanos)).to_string()
}
