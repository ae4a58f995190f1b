//! Amounts per unit: an estimate when asking, the actual use when reporting.

use std::collections::BTreeMap;

use permitd_proto::v1 as wire;

/// Amounts per unit. Every unit is optional: absent means "unknown" in an estimate and "as charged" in a report.
///
/// ```
/// use permitd_client::Usage;
///
/// let estimate = Usage::new().input_tokens(900).max_output_tokens(400);
/// let points = Usage::new().other("points", 5);
/// # assert_eq!(points.others["points"], 5);
/// # assert_eq!(estimate.input_tokens, Some(900));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Calls; absent means 1.
    pub requests: Option<u64>,
    /// Input and output together; but alone in an estimate it is the input, and what comes out is learned and charged on top.
    pub tokens: Option<u64>,
    /// What goes into the model.
    pub input_tokens: Option<u64>,
    /// What comes out of the model.
    pub output_tokens: Option<u64>,
    /// A bound on the output, for estimates only.
    pub max_output_tokens: Option<u64>,
    /// For reports: the part of the input that the provider read from its cache.
    pub cached_input_tokens: Option<u64>,
    /// Further units by name, for example `points` or `usd_micros`.
    pub others: BTreeMap<String, u64>,
}

impl Usage {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many calls.
    #[must_use]
    pub fn requests(mut self, amount: u64) -> Self {
        self.requests = Some(amount);
        self
    }

    /// So many tokens, input and output together; but alone in an estimate it is the input, and what comes out is learned and
    /// charged on top.
    #[must_use]
    pub fn tokens(mut self, amount: u64) -> Self {
        self.tokens = Some(amount);
        self
    }

    /// So many tokens into the model.
    #[must_use]
    pub fn input_tokens(mut self, amount: u64) -> Self {
        self.input_tokens = Some(amount);
        self
    }

    /// So many tokens out of the model.
    #[must_use]
    pub fn output_tokens(mut self, amount: u64) -> Self {
        self.output_tokens = Some(amount);
        self
    }

    /// At most so many tokens out of the model; for estimates.
    #[must_use]
    pub fn max_output_tokens(mut self, amount: u64) -> Self {
        self.max_output_tokens = Some(amount);
        self
    }

    /// So many of the input tokens came from the provider's cache; for reports.
    #[must_use]
    pub fn cached_input_tokens(mut self, amount: u64) -> Self {
        self.cached_input_tokens = Some(amount);
        self
    }

    /// So much of any further unit.
    #[must_use]
    pub fn other(mut self, unit: impl Into<String>, amount: u64) -> Self {
        self.others.insert(unit.into(), amount);
        self
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn into_wire(self) -> wire::Usage {
        wire::Usage {
            requests: self.requests,
            tokens: self.tokens,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            max_output_tokens: self.max_output_tokens,
            cached_input_tokens: self.cached_input_tokens,
            other: self.others,
        }
    }

    pub(crate) fn from_wire(usage: wire::Usage) -> Self {
        Self {
            requests: usage.requests,
            tokens: usage.tokens,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            max_output_tokens: usage.max_output_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            others: usage.other,
        }
    }

    /// As estimated.
    pub(crate) fn asked_for(ask: &wire::AcquireRequest) -> Self {
        match &ask.estimate {
            Some(estimate) => Self::from_wire(estimate.clone()),
            None => Self { tokens: (ask.tokens > 0).then_some(ask.tokens), ..Self::default() },
        }
    }

    pub(crate) fn from_amounts(amounts: &permitd_budget::Amounts) -> Self {
        let others = amounts.other.as_deref().unwrap_or_default();
        Self {
            requests: Some(amounts.requests),
            tokens: Some(amounts.tokens),
            input_tokens: Some(amounts.input_tokens),
            output_tokens: Some(amounts.output_tokens),
            others: others.iter().map(|(unit, amount)| (unit.to_string(), *amount)).collect(),
            ..Self::default()
        }
    }
}

/// The heart's form of the wire's usage, for the local share.
pub(crate) fn heart_usage(usage: &wire::Usage) -> permitd_budget::Usage {
    permitd_budget::Usage {
        requests: usage.requests,
        tokens: usage.tokens,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        max_output_tokens: usage.max_output_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        other: usage.other.iter().map(|(unit, amount)| (unit.as_str().into(), *amount)).collect(),
    }
}
