//! One profile's file, read strictly: what is unknown, what contradicts itself and what can never match is an error with its line.

use std::collections::BTreeMap;

use permitd_budget::{BudgetSpec, LimitSpec, check_name};

use super::{
    BodyLimitRule, DimensionRule, HeaderRule, Pool, Profile, RefusalRule, Tier, WindowRule,
    rules::{Units, read_counting},
};
use crate::config::{
    ConfigError,
    read::{Table, duration, flag, text, texts},
    read_limits, read_strictly,
};

/// A profile as its file has it, before what it extends is put under it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) profile: Profile,
    pub(super) extends: Option<String>,
    /// Whether models outside of the pools have limits of their own, if the file says so.
    pub(super) each_model: Option<bool>,
    /// The file.
    pub(super) place: String,
    /// The file and the line of `extends`.
    pub(super) extends_place: String,
}

/// Reads a profile's text, which stands in the file called `place`.
pub(super) fn read(source: &str, place: &str) -> Result<Draft, ConfigError> {
    let mut draft = read_strictly(source, place, read_draft)?;
    source.clone_into(&mut draft.profile.text);
    let line = source.lines().position(|line| line.trim_start().starts_with("extends"));
    draft.extends_place = line.map_or(place.to_owned(), |line| format!("{place}:{}", line + 1));
    place.clone_into(&mut draft.place);
    Ok(draft)
}

fn read_draft(top: &mut Table<'_>) -> Draft {
    let name = top.need("name", |value| {
        let name = text(value)?;
        check_name("name", &name, false).map_err(|error| error.problem)?;
        if name.contains('/') { Err("a provider's name has no slash".to_owned()) } else { Ok(name) }
    });
    let further = top.read("units", texts).unwrap_or_default();
    let units = Units { further: &further };
    let mut models = top.table("models");
    let pools = models.read("pools", texts).unwrap_or_default();
    let each_model = models.read("each", flag);
    models.finish();
    let profile = Profile {
        name: name.unwrap_or_default(),
        about: top.need("about", text).unwrap_or_default(),
        permit_ttl: top.read("permit_ttl", duration),
        limits: read_known_limits(top, &units),
        counting: read_rules(top, "counting", read_counting),
        tiers: read_tiers(top.table("tiers"), &units),
        windows: read_rules(top, "windows", |table| WindowRule::read(table, &units)),
        pools: pools.into_iter().map(Pool::new).collect(),
        each_model: false,
        headers: read_headers(top, &units),
        bodies: read_rules(top, "bodies", |table| BodyLimitRule::read(table, &units)),
        refusals: read_refusals(top),
        dimensions: read_rules(top, "dimensions", |table| DimensionRule::read(table, &units)),
        wait_after: top.read("wait_after", texts).unwrap_or_default(),
        units: further.clone(),
        text: String::new(),
    };
    check_as_budget(top, &profile);
    let extends = top.read("extends", text);
    Draft { profile, extends, each_model, place: String::new(), extends_place: String::new() }
}

fn read_rules<T>(top: &mut Table<'_>, name: &str, read: impl Fn(Table<'_>) -> Option<T>) -> Vec<T> {
    top.tables(name).into_iter().filter_map(read).collect()
}

/// Header rules; a second one for the same headers under the same condition would never be asked.
fn read_headers(top: &mut Table<'_>, units: &Units<'_>) -> Vec<HeaderRule> {
    let mut rules: Vec<HeaderRule> = Vec::new();
    for table in top.tables("headers") {
        let (path, notes) = (table.path_of("names"), table.notes());
        let Some(rule) = HeaderRule::read(table, units) else { continue };
        let covers = |earlier: &HeaderRule| {
            earlier.names == rule.names && (earlier.when.is_none() || earlier.when == rule.when)
        };
        if rules.iter().any(covers) {
            notes.problem(path, None, "can never match: a rule above reads these headers".to_owned());
        }
        rules.push(rule);
    }
    rules
}

/// Refusals in order; one behind a rule that takes all of its statuses would never be asked.
fn read_refusals(top: &mut Table<'_>) -> Vec<RefusalRule> {
    let mut rules: Vec<RefusalRule> = Vec::new();
    for table in top.tables("refusals") {
        let (path, notes) = (table.path_of("class"), table.notes());
        let Some(rule) = RefusalRule::read(table) else { continue };
        let covers = |earlier: &RefusalRule| {
            let all = earlier.when.status.is_empty() && rule.when.status.iter().all(|status| *status >= 400);
            let these = !rule.when.status.is_empty()
                && rule.when.status.iter().all(|status| earlier.when.status.contains(status));
            earlier.when.is_bare() && (all || these)
        };
        if rules.iter().any(covers) {
            notes.problem(path, None, "can never match: a rule above takes all of these statuses".to_owned());
        }
        rules.push(rule);
    }
    rules
}

fn read_tiers(table: Table<'_>, units: &Units<'_>) -> BTreeMap<String, Tier> {
    let notes = table.notes();
    let mut tiers = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let mut table = Table::of(path, value, notes);
        let about = table.need("about", text).unwrap_or_default();
        let limits = read_known_limits(&mut table, units);
        if limits.is_empty() {
            table.problem("limits are missing: a tier without any is none".to_owned());
        }
        if let Err(error) = (BudgetSpec { limits: limits.clone(), ..BudgetSpec::default() }).check() {
            table.problem(error.to_string());
        }
        table.finish();
        tiers.insert(name, Tier { about, limits });
    }
    tiers
}

/// Limits on units that the profile knows.
fn read_known_limits(table: &mut Table<'_>, units: &Units<'_>) -> Vec<LimitSpec> {
    let (path, notes) = (table.path_of("limits"), table.notes());
    let limits = read_limits(table);
    for (at, limit) in limits.iter().enumerate() {
        if let Err(problem) = units.check(&limit.unit) {
            notes.problem(format!("{path}[{at}]"), None, problem);
        }
    }
    limits
}

/// What goes into budgets has to make sense there.
fn check_as_budget(top: &Table<'_>, profile: &Profile) {
    let spec = BudgetSpec {
        limits: profile.limits.clone(),
        counting: profile.counting.clone(),
        permit_ttl: profile.permit_ttl,
        ..BudgetSpec::default()
    };
    if let Err(error) = spec.check() {
        top.notes().problem(error.field, None, error.problem);
    }
}
