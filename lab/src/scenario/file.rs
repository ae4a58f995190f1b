//! What a scenario's file says, as data that makes sense once it is loaded.

use permitd_budget::{CheckedSpec, Priority};
use permitd_server::config::parse_duration;
use serde::{Deserialize, Deserializer, de};

use super::expect::Expectation;
use crate::provider::{Behaviour, Limits, buckets::Nanos};

/// A scenario that makes sense.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What it is about, for people.
    pub why: String,
    /// How long it lasts, in nanoseconds.
    pub lasts: Nanos,
    /// What an administrator declared.
    pub declared: CheckedSpec,
    /// How the provider answers.
    pub provider: Manner,
    /// Behaviours in the order of their times, the first at zero.
    pub behaviours: Vec<(Nanos, Behaviour)>,
    /// The provider's true limits.
    pub pools: Vec<Pool>,
    /// How long calls and answers are on their way.
    pub network: Network,
    /// Who calls.
    pub work: Vec<Work>,
    /// What has to come out.
    pub expect: Vec<Expectation>,
}

/// True limits that some models share.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What the names of its models begin with; empty means all models.
    pub models: String,
    /// Limits in the order of their times, the first at zero.
    pub truth: Vec<(Nanos, Limits)>,
}

/// How the provider answers, beside its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manner {
    /// Latency, output and refusals.
    pub behaviour: Behaviour,
    /// Changes of the behaviour, merged into what stood before.
    pub change: Vec<BehaviourChange>,
    /// Whether every response tells limits and what is left of them.
    pub headers: bool,
    /// Limits in headers are so many times the true ones.
    pub headers_times: f64,
    /// What is left is told as a multiple of this.
    pub rounded_to: u64,
    /// Whether a refusal says what it is about: the limit, calls at the same time, a ramp. Else it is a bare 429.
    pub names_the_limit: bool,
    /// How the wait that is told relates to the one that is needed.
    pub wait_told: WaitTold,
    /// Refuses what grows too steeply.
    pub ramp: Option<Ramp>,
}

/// A change of the provider's behaviour.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourChange {
    /// When.
    pub at: Span,
    /// What changes.
    pub behaviour: toml::Table,
}

/// How the wait that a refusal tells relates to the one that is needed. Told in whole seconds, rounded up, as most providers do.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitTold {
    /// What is needed.
    #[default]
    Honest,
    /// So many times what is needed; not rounded.
    Times(f64),
    /// Always this.
    Always(Span),
}

/// Refuses growth: in every window at most so many times the calls of the one before it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The window.
    pub window: Span,
    /// How many times the calls of the window before.
    pub growth: f64,
    /// So many calls in a window are never too steep.
    pub free: u64,
}

/// How long calls and answers are on their way, in milliseconds; lognormal.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// From the grant to the provider, median.
    pub there_ms: f64,
    /// From the provider to the report, median.
    pub back_ms: f64,
    /// How much longer the first call of each worker is on its way, which opens a connection; median.
    pub first_ms: f64,
    /// The spread of all: the standard deviation of the logarithm. 0 to 3.
    pub sigma: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { there_ms: 20.0, back_ms: 20.0, first_ms: 0.0, sigma: 0.2 }
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            behaviour: Behaviour::default(),
            change: Vec::new(),
            headers: false,
            headers_times: 1.0,
            rounded_to: 1,
            names_the_limit: true,
            wait_told: WaitTold::Honest,
            ramp: None,
        }
    }
}

/// Somebody who calls. Exactly one of `workers`, `per_minute` and `calls` says how much.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Who shares the budget.
    pub tenant: String,
    /// What is called; empty is a model like any other.
    #[serde(default)]
    pub model: String,
    /// The class.
    #[serde(default, deserialize_with = "priority")]
    pub priority: Priority,
    /// Whether it goes past the budget, as somebody does who uses the same key and was forgotten.
    #[serde(default)]
    pub stranger: bool,
    /// So many make one call after the other: a backlog that never ends.
    pub workers: Option<u32>,
    /// Calls come by chance, so many a minute.
    pub per_minute: Option<f64>,
    /// So many calls at once, and no more.
    pub calls: Option<u32>,
    /// When it begins.
    #[serde(default)]
    pub from: Span,
    /// When nothing new comes any more; `None` means at the scenario's end.
    pub until: Option<Span>,
    /// Tokens that go into a call, the mean.
    #[serde(default = "default_input")]
    pub input_mean: u64,
    /// Their spread: the standard deviation of the logarithm. 0 to 3.
    #[serde(default)]
    pub input_sigma: f64,
    /// The estimate of the input is so many times the truth.
    #[serde(default = "one")]
    pub estimate_times: f64,
    /// The spread of the estimate: the standard deviation of the logarithm. 0 to 3.
    #[serde(default)]
    pub estimate_sigma: f64,
    /// The bound that the caller gives for the output, which stays open.
    pub max_output_tokens: Option<u64>,
}

fn default_input() -> u64 {
    500
}

fn one() -> f64 {
    1.0
}

/// A stretch of time, or a moment as the time since the start, written like `90s` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Nanos);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = parse_duration(&text).map_err(de::Error::custom)?;
        Ok(Self(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "interactive" => Ok(Priority::Interactive),
        "standard" => Ok(Priority::Standard),
        "batch" => Ok(Priority::Batch),
        other => Err(de::Error::unknown_variant(other, &["interactive", "standard", "batch"])),
    }
}
