//! A scenario as its file tells it. [`Scenario::load`] is the one place that says which files make sense; what it returns does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use permitd_budget::{BudgetSpec, CheckedSpec, Priority};
use permitd_server::config::{parse_duration, parse_limit};
use serde::{Deserialize, Deserializer, de};

use super::expect::Expectation;
use crate::provider::{Behaviour, Changeable, Limits, buckets::Nanos};

/// The longest that a scenario lasts.
const LASTS_MAX: Nanos = 7 * 86_400 * 1_000_000_000;
/// The most calls that one work may have under way or bring at once.
const CALLS_MAX: u32 = 100_000;
/// The most calls a minute that one work may bring.
const PER_MINUTE_MAX: f64 = 10_000_000.0;

/// Why a scenario could not be read. Names the file, and the field where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or says something that scenarios do not know.
    #[error("{}: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What, and where in the file.
        source: toml::de::Error,
    },
    /// A field makes no sense.
    #[error("{}: {field}: {problem}", path.display())]
    Sense {
        /// The file.
        path: PathBuf,
        /// Which field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

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

/// The file, before anything is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    why: String,
    lasts: Span,
    #[serde(default)]
    declared: Vec<String>,
    #[serde(default)]
    provider: Manner,
    pool: Vec<RawPool>,
    #[serde(default)]
    network: Network,
    work: Vec<Work>,
    expect: Vec<Expectation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    #[serde(default)]
    models: String,
    limits: Limits,
    #[serde(default)]
    change: Vec<LimitsChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsChange {
    at: Span,
    /// Merged into the limits before it.
    limits: toml::Table,
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
    /// The spread of both: the standard deviation of the logarithm. 0 to 3.
    pub sigma: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { there_ms: 20.0, back_ms: 20.0, sigma: 0.2 }
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            behaviour: Behaviour::default(),
            change: Vec::new(),
            headers: false,
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

/// What is wrong: the field, and the problem.
type Wrong = (String, String);

impl Scenario {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// What can't be read or makes no sense, and where.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        let raw: Raw =
            toml::from_str(&text).map_err(|source| ScenarioError::Form { path: path.to_owned(), source })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        raw.check(name).map_err(|(field, problem)| ScenarioError::Sense {
            path: path.to_owned(),
            field,
            problem,
        })
    }

    /// Every scenario of a folder, by name.
    ///
    /// # Errors
    /// As [`Scenario::load`], or the folder's.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, ScenarioError> {
        let read = |source| ScenarioError::Read { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::load(path)).collect()
    }
}

impl Raw {
    fn check(self, name: String) -> Result<Scenario, Wrong> {
        if !(1..=LASTS_MAX).contains(&self.lasts.0) {
            return Err(("lasts".to_owned(), "outside 1 ns to 7 days".to_owned()));
        }
        let declared = declared(&self.declared)?;
        let behaviours = behaviours(&self.provider)?;
        let pools: Vec<Pool> =
            self.pool.into_iter().enumerate().map(|(at, pool)| pool.check(at)).collect::<Result<_, _>>()?;
        self.network.check()?;
        self.provider.check()?;
        for (at, work) in self.work.iter().enumerate() {
            work.check(&format!("work[{at}]"))?;
            if !pools.iter().any(|pool| work.model.starts_with(&pool.models)) {
                let problem = format!("no pool has limits for {:?}", work.model);
                return Err((format!("work[{at}].model"), problem));
            }
        }
        for (at, expectation) in self.expect.iter().enumerate() {
            expectation.check(self.lasts.0).map_err(|problem| (format!("expect[{at}]"), problem))?;
        }
        if self.work.is_empty() || self.expect.is_empty() {
            return Err(("work, expect".to_owned(), "a scenario needs at least one of each".to_owned()));
        }
        Ok(Scenario {
            name,
            why: self.why.trim().to_owned(),
            lasts: self.lasts.0,
            declared,
            provider: self.provider,
            behaviours,
            pools,
            network: self.network,
            work: self.work,
            expect: self.expect,
        })
    }
}

fn declared(texts: &[String]) -> Result<CheckedSpec, Wrong> {
    let mut limits = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        limits.push(parse_limit(text).map_err(|error| (format!("declared[{at}]"), error.to_string()))?);
    }
    let spec = BudgetSpec { limits, ..BudgetSpec::default() };
    spec.check().map_err(|error| (format!("declared: {}", error.field), error.problem))
}

fn behaviours(manner: &Manner) -> Result<Vec<(Nanos, Behaviour)>, Wrong> {
    let steps = manner.change.iter().map(|change| (change.at, &change.behaviour));
    steps_of("provider", manner.behaviour, steps)
}

impl RawPool {
    fn check(self, at: usize) -> Result<Pool, Wrong> {
        let steps = self.change.iter().map(|change| (change.at, &change.limits));
        let truth = steps_of(&format!("pool[{at}]"), self.limits, steps)?;
        Ok(Pool { models: self.models, truth })
    }
}

/// What stands first, and what every change makes of what stood before it.
fn steps_of<'a, T: Changeable + Copy>(
    field: &str,
    first: T,
    changes: impl Iterator<Item = (Span, &'a toml::Table)>,
) -> Result<Vec<(Nanos, T)>, Wrong> {
    first.check().map_err(|error| (field.to_owned(), error.to_string()))?;
    let mut steps = vec![(0, first)];
    for (at, (Span(time), patch)) in changes.enumerate() {
        let field = format!("{field}.change[{at}]");
        let (before, stands) = steps[steps.len() - 1];
        if time <= before {
            return Err((format!("{field}.at"), "changes stand in the order of their times".to_owned()));
        }
        let patch = serde_json::to_value(patch).map_err(|error| (field.clone(), error.to_string()))?;
        let changed = stands.patched(&patch).map_err(|error| (field, error.to_string()))?;
        steps.push((time, changed));
    }
    Ok(steps)
}

fn within(field: &str, value: f64, least: f64, most: f64) -> Result<(), Wrong> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err((field.to_owned(), format!("{value} is outside {least} to {most}")))
    }
}

impl Network {
    fn check(&self) -> Result<(), Wrong> {
        within("network.there_ms", self.there_ms, 0.0, 60_000.0)?;
        within("network.back_ms", self.back_ms, 0.0, 60_000.0)?;
        within("network.sigma", self.sigma, 0.0, 3.0)
    }
}

impl Manner {
    fn check(&self) -> Result<(), Wrong> {
        if let WaitTold::Times(times) = self.wait_told {
            within("provider.wait_told.times", times, 0.0, 1_000.0)?;
        }
        if let Some(ramp) = &self.ramp {
            within("provider.ramp.growth", ramp.growth, 1.0, 100.0)?;
            if ramp.free == 0 || ramp.window.0 == 0 {
                return Err(("provider.ramp".to_owned(), "free and window are at least 1".to_owned()));
            }
        }
        Ok(())
    }
}

impl Work {
    fn check(&self, field: &str) -> Result<(), Wrong> {
        let ways = usize::from(self.workers.is_some())
            + usize::from(self.per_minute.is_some())
            + usize::from(self.calls.is_some());
        if ways != 1 {
            return Err((field.to_owned(), "give exactly one of workers, per_minute and calls".to_owned()));
        }
        if self.workers.or(self.calls).is_some_and(|count| !(1..=CALLS_MAX).contains(&count)) {
            return Err((field.to_owned(), format!("workers and calls are 1 to {CALLS_MAX}")));
        }
        if let Some(rate) = self.per_minute {
            within(&format!("{field}.per_minute"), rate, 0.001, PER_MINUTE_MAX)?;
        }
        if self.tenant.is_empty() {
            return Err((format!("{field}.tenant"), "is empty".to_owned()));
        }
        if !(1..=100_000_000).contains(&self.input_mean) {
            return Err((format!("{field}.input_mean"), "outside 1 to 100000000".to_owned()));
        }
        within(&format!("{field}.input_sigma"), self.input_sigma, 0.0, 3.0)?;
        within(&format!("{field}.estimate_times"), self.estimate_times, 0.0, 1_000.0)?;
        within(&format!("{field}.estimate_sigma"), self.estimate_sigma, 0.0, 3.0)
    }
}
