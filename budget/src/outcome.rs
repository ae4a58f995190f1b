//! How a call went, and what the budget makes of it.

use std::time::Duration;

use crate::{
    observed::{Observed, Tripped},
    usage::Usage,
};

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Credit or spend cap used up.
    QuotaExhausted,
    /// This request can never succeed.
    TooLarge,
    /// Sent, and failed for another reason.
    Failed {
        /// Whether trying again may help: true for 5xx and timeouts, false for 4xx.
        retryable: bool,
    },
    /// Never sent: everything goes back.
    Cancelled,
}

impl Outcome {
    /// What each is called, by [`Outcome::index`].
    pub const NAMES: [&'static str; 9] = [
        "success",
        "rate_limited",
        "concurrency_limited",
        "overloaded",
        "acceleration_limited",
        "quota_exhausted",
        "too_large",
        "failed",
        "cancelled",
    ];

    /// Its place in [`Outcome::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Outcome::Success => 0,
            Outcome::RateLimited => 1,
            Outcome::ConcurrencyLimited => 2,
            Outcome::Overloaded => 3,
            Outcome::AccelerationLimited => 4,
            Outcome::QuotaExhausted => 5,
            Outcome::TooLarge => 6,
            Outcome::Failed { .. } => 7,
            Outcome::Cancelled => 8,
        }
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Whether the provider turned the call away for how much there was, and not for what it was.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        match self {
            Outcome::RateLimited
            | Outcome::ConcurrencyLimited
            | Outcome::Overloaded
            | Outcome::AccelerationLimited
            | Outcome::QuotaExhausted => true,
            Outcome::Success | Outcome::TooLarge | Outcome::Failed { .. } | Outcome::Cancelled => false,
        }
    }

    /// Whether the same call may succeed later, so that it is worth acquiring again for.
    #[must_use]
    pub const fn is_worth_retrying(self) -> bool {
        match self {
            Outcome::RateLimited
            | Outcome::ConcurrencyLimited
            | Outcome::Overloaded
            | Outcome::AccelerationLimited
            | Outcome::Failed { retryable: true } => true,
            Outcome::Success
            | Outcome::QuotaExhausted
            | Outcome::TooLarge
            | Outcome::Failed { retryable: false }
            | Outcome::Cancelled => false,
        }
    }
}

/// What the caller says about one permit.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the call went.
    pub outcome: Outcome,
    /// What was used; absent units mean as charged.
    pub actual: Usage,
    /// The wait that the provider asked for.
    pub retry_after: Option<Duration>,
    /// The dimensions that a refusal is about; empty means unknown.
    pub tripped: Vec<Tripped>,
    /// What the response tells of the provider's limits, at most [`OBSERVED_MAX`](crate::OBSERVED_MAX) of them.
    pub observed: Vec<Observed>,
    /// How long the call took.
    pub latency: Option<Duration>,
}

impl Report {
    /// `outcome` with everything as charged.
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            actual: Usage::unknown(),
            retry_after: None,
            tripped: Vec::new(),
            observed: Vec::new(),
            latency: None,
        }
    }
}

/// The answer to a [`Report`]. A repeat is answered as the first was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// As the first report said.
    pub outcome: Outcome,
    /// Whether the permit was settled by this report or by the one that this repeats. False for a permit that expired or that
    /// nobody knows.
    pub settled: bool,
    /// Whether the call is worth acquiring again for.
    pub retry: bool,
    /// When that could be granted at the earliest, for information: acquiring again already waits.
    pub retry_after: Option<Duration>,
}
