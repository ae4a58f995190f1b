//! What the provider counted: the figures that experiments are judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    account::{Dimension, Limited},
    buckets::{Nanos, units},
    config::{Limits, Rate},
};

/// Counts of one key or one client since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls that arrived.
    pub requests: u64,
    /// Calls that passed all limits. Each of them succeeds unless its caller goes away.
    pub admitted: u64,
    /// Calls that were answered in full.
    pub ok: u64,
    /// Calls refused with 429.
    pub limited: u64,
    /// The same by the limit that refused.
    pub limited_by: ByDimension,
    /// Calls refused because the provider has no capacity.
    pub overloaded: u64,
    /// Calls that are wrong in themselves.
    pub invalid: u64,
    /// Tokens that went in, of admitted calls.
    pub input_tokens: u64,
    /// Tokens that came out, of calls that ended.
    pub output_tokens: u64,
    /// Tokens charged when calls started, as OpenAI's shape counts them.
    pub tokens: u64,
    /// Nanoseconds that admitted calls kept the limit busy that each of them needs longest: service in the sense of fair
    /// queueing. Output counts when the call ends.
    pub service_ns: u64,
}

/// An amount for every dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByDimension {
    /// Calls.
    pub requests: u64,
    /// Tokens going in.
    pub input_tokens: u64,
    /// Tokens coming out.
    pub output_tokens: u64,
    /// Tokens as OpenAI counts them.
    pub tokens: u64,
    /// Calls at the same time.
    pub concurrency: u64,
}

/// Everything that the provider counted since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds since the last reset.
    pub elapsed_ns: u64,
    /// What one key's limits provided in that time: their integral, without what was in the buckets at the reset. 0 where a
    /// dimension had no limit.
    pub possible: ByDimension,
    /// By key.
    pub keys: BTreeMap<String, Counters>,
    /// By the name in `x-sim-client`; without one, a call counts for the client named by its key.
    pub clients: BTreeMap<String, Counters>,
}

impl Counters {
    pub(crate) fn count_limited(&mut self, limited: &Limited) {
        self.limited += 1;
        let by = &mut self.limited_by;
        *match limited.dimension {
            Dimension::Requests => &mut by.requests,
            Dimension::InputTokens => &mut by.input_tokens,
            Dimension::OutputTokens => &mut by.output_tokens,
            Dimension::Tokens => &mut by.tokens,
            Dimension::Concurrency => &mut by.concurrency,
        } += 1;
    }
}

/// The integral of the limits over time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Possible {
    since: Nanos,
    at: Nanos,
    requests: i128,
    input_tokens: i128,
    output_tokens: i128,
    tokens: i128,
}

impl Possible {
    pub(crate) fn starting(now: Nanos) -> Self {
        Self { since: now, at: now, ..Self::default() }
    }

    /// Adds what `limits` provided since the last call; call it before they change.
    pub(crate) fn advance(&mut self, now: Nanos, limits: &Limits) {
        let now = now.max(self.at);
        let provided = |rate: Option<Rate>| rate.map_or(0, |rate| rate.provided(self.at, now));
        self.requests += provided(limits.requests);
        self.input_tokens += provided(limits.input_tokens);
        self.output_tokens += provided(limits.output_tokens);
        self.tokens += provided(limits.tokens);
        self.at = now;
    }

    pub(crate) fn elapsed(&self) -> Nanos {
        self.at - self.since
    }

    pub(crate) fn amounts(&self) -> ByDimension {
        ByDimension {
            requests: units(self.requests),
            input_tokens: units(self.input_tokens),
            output_tokens: units(self.output_tokens),
            tokens: units(self.tokens),
            concurrency: 0,
        }
    }
}
