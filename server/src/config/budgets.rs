//! Budgets and providers' defaults in the file. Their form is read here; whether they make sense is for
//! [`BudgetSpec::check`] to say.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use permitd_budget::{BudgetSpec, CheckedSpec, LimitSpec, Overflow, QueueSpec, Scheduled, TenantSpec};

use super::{
    BudgetName,
    limit_text::{LimitFields, parse_limit, parse_time, unknown},
    read::{Notes, Table, duration, flag, number, text},
};
use crate::schedule::parse_scheduled;

const OVERFLOWS: [&str; 2] = ["wait", "reject"];

/// `[budgets."provider/key"]`
pub(super) fn read_budgets(table: Table<'_>) -> BTreeMap<BudgetName, CheckedSpec> {
    let notes = table.notes();
    let mut budgets = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let spec = read_budget(path.clone(), value, notes);
        match name.parse::<BudgetName>() {
            Ok(name) => {
                if let Some(twin) = budgets.insert(name.clone(), spec) {
                    drop(twin);
                    notes.problem(path, None, format!("the same budget is declared twice: {name}"));
                }
            }
            Err(error) => notes.problem(path, None, format!("{error}; a budget is called \"provider/key\"")),
        }
    }
    budgets
}

/// `[providers.NAME]`
pub(super) fn read_providers(table: Table<'_>) -> BTreeMap<String, CheckedSpec> {
    let notes = table.notes();
    let mut providers = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let spec = read_budget(path.clone(), value, notes);
        match BudgetName::new(&name, "") {
            Ok(_) => drop(providers.insert(name, spec)),
            Err(error) => notes.problem(path, None, format!("{error}; a single budget goes under [budgets]")),
        }
    }
    providers
}

fn read_budget(path: String, value: Value, notes: &Notes) -> CheckedSpec {
    let problems_before = notes.problems.borrow().len();
    let mut table = Table::of(path.clone(), value, notes);
    let spec = BudgetSpec {
        limits: read_limits(&mut table),
        queue: read_queue(table.table("queue")),
        tenants: read_tenants(table.table("tenants")),
        // 0 means the default, as on the wire.
        permit_ttl: table.read("permit_ttl", duration).filter(|ttl| !ttl.is_zero()),
        // The provider's profile says that.
        counting: Vec::new(),
        shadow: table.read("shadow", flag).unwrap_or_default(),
        schedule: read_schedule(&mut table),
    };
    table.finish();
    if notes.problems.borrow().len() > problems_before {
        return CheckedSpec::default();
    }
    match spec.check() {
        Ok(checked) => checked,
        Err(error) => {
            notes.problem(format!("{path}.{}", error.field), None, error.problem);
            CheckedSpec::default()
        }
    }
}

/// A list whose items are text or tables.
pub(crate) fn read_limits(table: &mut Table<'_>) -> Vec<LimitSpec> {
    let notes = table.notes();
    let items = table.items("limits", "[\"requests=60/1m\"]");
    let mut limits = Vec::with_capacity(items.len());
    for (path, item) in items {
        match item.kind {
            ValueKind::String(text) => match parse_limit(&text) {
                Ok(limit) => limits.push(limit),
                Err(error) => notes.problem(path, None, format!("{text:?}: {error}")),
            },
            _ => limits.extend(read_limit(Table::of(path, item, notes))),
        }
    }
    limits
}

/// The table form: `{ unit = "requests", amount = 60, per = "1m" }`.
fn read_limit(mut table: Table<'_>) -> Option<LimitSpec> {
    let window_path = table.path_of("window");
    let notes = table.notes();
    let fields = LimitFields {
        unit: table.read("unit", text).unwrap_or_default(),
        amount: table.read("amount", number).unwrap_or_default(),
        per: table.read("per", duration),
        burst: table.read("burst", number),
        models: table.read("models", text).unwrap_or_default(),
        tenants: table.read("tenants", text).unwrap_or_default(),
        window: table.read("window", text),
        quantum: table.read("quantum", duration),
        phase: table.read("phase", |value| parse_time(&text(value)?)),
        adapt: table.read("adapt", text),
    };
    table.finish();
    match fields.finish() {
        Ok(limit) => Some(limit),
        Err(error) => {
            let path = window_path.trim_end_matches("window").to_owned() + &error.part;
            notes.problem(path, None, error.problem);
            None
        }
    }
}

/// A list of lines: hours, and the limit at them.
fn read_schedule(table: &mut Table<'_>) -> Vec<Scheduled> {
    let notes = table.notes();
    let items = table.items("schedule", "[\"mon-fri 22:00-06:00 Europe/Berlin requests=2000/1m\"]");
    let entries = items.into_iter().filter_map(|(path, item)| {
        let entry = text(&item).and_then(|line| parse_scheduled(&line));
        entry.map_err(|problem| notes.problem(path, None, problem)).ok()
    });
    entries.collect()
}

fn read_queue(mut table: Table<'_>) -> QueueSpec {
    let queue = QueueSpec {
        max_waiting: table.read("max_waiting", count).unwrap_or_default(),
        max_wait: table.read("max_wait", duration),
        overflow: table.read("overflow", overflow).unwrap_or_default(),
    };
    table.finish();
    queue
}

fn read_tenants(table: Table<'_>) -> BTreeMap<String, TenantSpec> {
    let notes = table.notes();
    let mut tenants = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let mut table = Table::of(path, value, notes);
        let tenant = TenantSpec {
            weight: table.read("weight", count).unwrap_or_default(),
            max_waiting: table.read("max_waiting", count).unwrap_or_default(),
            max_percent: table.read("max_percent", count).unwrap_or_default(),
            min_percent: table.read("min_percent", count).unwrap_or_default(),
        };
        table.finish();
        tenants.insert(name, tenant);
    }
    tenants
}

fn overflow(value: &Value) -> Result<Overflow, String> {
    match &*text(value)? {
        "wait" => Ok(Overflow::Wait),
        "reject" => Ok(Overflow::Reject),
        other => Err(unknown("way to overflow", other, &OVERFLOWS)),
    }
}

fn count(value: &Value) -> Result<u32, String> {
    let number = number(value)?;
    u32::try_from(number).map_err(|_| format!("{number} is too large; at most {}", u32::MAX))
}
