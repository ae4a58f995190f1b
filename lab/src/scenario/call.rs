//! A call of a scenario: everything about it is a function of the seed, the work that it belongs to, and its number there.

use permitd_budget::Usage;
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp, LogNormal};

use super::file::{Network, Work};
use crate::provider::{Behaviour, account::Cost, buckets::Nanos, draws};

/// A millisecond, in nanoseconds.
const MILLISECOND: f64 = 1e6;

/// What is sent, and what will come of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Tokens that go in.
    pub(super) input: u64,
    /// What the caller believes that it will be.
    pub(super) estimate: u64,
    /// The bound that the caller gives for the output.
    pub(super) output_max: Option<u64>,
    /// Tokens that will come out.
    pub(super) output: u64,
    /// How long the provider works on it.
    pub(super) latency: Nanos,
}

impl Call {
    pub(super) fn new(seed: u64, work: &Work, name: &str, number: u64, behaviour: &Behaviour) -> Self {
        let (latency, output) = draws::work(seed, name, number, behaviour);
        let mut random = draws::stream(seed, "tokens", name, number);
        let mut lognormal = |sigma: f64| {
            let normal = LogNormal::new(0.0, sigma).expect("a checked sigma is finite and not negative");
            normal.sample(&mut random)
        };
        // The mean of the logarithm is such that the mean is the one asked for.
        let spread = lognormal(work.input_sigma) * (-work.input_sigma * work.input_sigma / 2.0).exp();
        let input = (work.input_mean as f64 * spread).round().max(1.0);
        let estimate = input * work.estimate_times * lognormal(work.estimate_sigma);
        Self {
            input: input as u64,
            estimate: estimate.round() as u64,
            output_max: work.max_output_tokens,
            output: work.max_output_tokens.map_or(output, |most| output.min(most)),
            latency: u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// What the provider takes for it.
    pub(super) fn cost(&self) -> Cost {
        Cost { input_tokens: Some(self.input), tokens: Some(self.input + self.output), output_applies: true }
    }

    /// What its caller asks leave for.
    pub(super) fn estimate(&self) -> Usage {
        Usage { input_tokens: Some(self.estimate), max_output_tokens: self.output_max, ..Usage::default() }
    }

    /// What its response says that was used.
    pub(super) fn actual(&self) -> Usage {
        Usage { input_tokens: Some(self.input), output_tokens: Some(self.output), ..Usage::default() }
    }
}

/// How long the n-th message of a run is on its way to the provider, `first` on its connection or not, and how long the answer back.
pub(super) fn ways(seed: u64, network: &Network, number: u64, first: bool) -> (Nanos, Nanos) {
    let mut random = draws::stream(seed, "network", "ways", number);
    let normal = LogNormal::new(0.0, network.sigma).expect("a checked sigma is finite and not negative");
    let mut way = |median: f64| (median * MILLISECOND * normal.sample(&mut random)) as Nanos;
    let (there, back) = (way(network.there_ms), way(network.back_ms));
    (if first { there + way(network.first_ms) } else { there }, back)
}

/// How long after the n-th call of a work that comes by chance the next one comes.
pub(super) fn gap(seed: u64, name: &str, number: u64, per_minute: f64) -> Nanos {
    let exponential = Exp::new(per_minute / 60e9).expect("a checked rate is positive");
    exponential.sample(&mut draws::stream(seed, "arrivals", name, number)) as Nanos
}

/// A part of `most`, by chance.
pub(super) fn jitter(seed: u64, number: u64, most: Nanos) -> Nanos {
    draws::stream(seed, "backoff", "naive", number).random_range(0..=most)
}
