//! What permitd knows of a provider, as data: how it counts, how it tells of its limits, how it refuses. A profile is one TOML
//! file; those of known providers are part of the binary, and a user's own replace or extend them by name.
//!
//! Reading a response by these rules is `reading`'s part; counting by them is the heart's.

mod builtin;
mod file;
mod fill;
mod profiles;
mod rules;
#[cfg(test)]
mod tests;
mod when;
mod windows;

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{CountingSpec, Glob, LimitSpec};

pub use profiles::{GENERIC, Profiles};
pub(crate) use rules::{BodyLimitRule, Class, DimensionRule, Field, HeaderRule, RefusalRule, Reset};
pub(crate) use when::{Pointer, Response};
pub(crate) use windows::WindowRule;

/// What permitd knows of one provider. Of each list, the first entry that matches counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The provider's name, as budgets spell it.
    pub name: String,
    /// The provider in one line, for people.
    pub about: String,
    /// How long a permit lives where nobody said.
    pub permit_ttl: Option<Duration>,
    /// Limits that hold for every key of the provider, unless the budget declares its own on the same unit and window.
    pub limits: Vec<LimitSpec>,
    /// How tokens are counted.
    pub counting: Vec<CountingSpec>,
    /// Limits to start from, by the provider's name for them.
    pub tiers: BTreeMap<String, Tier>,
    pub(crate) units: Vec<String>,
    pub(crate) windows: Vec<WindowRule>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) each_model: bool,
    pub(crate) headers: Vec<HeaderRule>,
    pub(crate) bodies: Vec<BodyLimitRule>,
    pub(crate) refusals: Vec<RefusalRule>,
    pub(crate) dimensions: Vec<DimensionRule>,
    pub(crate) wait_after: Vec<String>,
    text: String,
}

/// Limits that an account of some standing has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// What it is, for people.
    pub about: String,
    /// Its limits.
    pub limits: Vec<LimitSpec>,
}

/// Models that share their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pattern: String,
    glob: Glob,
}

impl Profile {
    /// The file as it was written, without what it extends.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The models, as a glob, that share what the provider says of one of them; empty means all.
    #[must_use]
    pub fn sharing<'a>(&'a self, model: &'a str) -> &'a str {
        match self.pools.iter().find(|pool| pool.glob.matches(model)) {
            Some(pool) => &pool.pattern,
            None if self.each_model => model,
            None => "",
        }
    }

    /// The first window rule for a unit and window.
    pub(crate) fn window(&self, unit: &str, per: Option<Duration>) -> Option<&WindowRule> {
        self.windows.iter().find(|rule| rule.unit == unit && (per.is_none() || rule.per == per))
    }
}

impl Pool {
    fn new(pattern: String) -> Self {
        Self { glob: Glob::new(&pattern), pattern }
    }
}
