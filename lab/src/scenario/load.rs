//! Reading a scenario's file, and the one place that says which files make sense.

use std::{
    fs,
    path::{Path, PathBuf},
};

use permitd_budget::{BudgetSpec, CheckedSpec};
use permitd_server::config::parse_limit;
use serde::Deserialize;

use super::{
    expect::Expectation,
    file::{Manner, Network, Pool, Scenario, Span, WaitTold, Work},
};
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
        within("network.first_ms", self.first_ms, 0.0, 60_000.0)?;
        within("network.sigma", self.sigma, 0.0, 3.0)
    }
}

impl Manner {
    fn check(&self) -> Result<(), Wrong> {
        within("provider.headers_times", self.headers_times, 0.001, 1_000.0)?;
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
