//! What the parser of configurations says of itself when it is asked: which settings there are, what it takes for each, and what
//! holds where none is given. Paths are as it writes them; tables whose names people choose are called `NAME` here,
//! and a pool `POOL`, since no budget may have its name.

use std::collections::BTreeSet;

use permitd_budget::{BudgetSpec, TenantSpec};
use permitd_server::config::{
    AuthConfig, BudgetName, ClusterConfig, Config, IdentityConfig, MemberSpec, PoolSpec, Problem,
};
use toml::{Table, Value};

/// One of everything that people name, with what it can't be without.
const ONE_OF_EACH: &str = r#"
    [auth.identities.NAME]
    tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    roles = ["acquire"]
    [budgets.NAME]
    limits = [{ unit = "requests", amount = 1, per = "1m" }]
    [budgets.NAME.tenants.NAME]
    [pools.POOL]
    members = [{ budget = "NAME" }]
    [providers.NAME]
    limits = [{ unit = "requests", amount = 1, per = "1m" }]
    [providers.NAME.tenants.NAME]
"#;

/// Every path that the parser asks for.
pub(crate) fn settings() -> BTreeSet<String> {
    let (_, asked) = Config::read_noting(ONE_OF_EACH, "here", []).expect("one of each is right");
    asked.into_iter().collect()
}

/// What it has against a value; nothing, where the value is right.
pub(crate) fn against(path: &str, value: impl Into<Value>) -> Vec<String> {
    told(path, problems(&set(path, Some(value.into())), &[]))
}

/// Whether a file is wrong without the setting.
pub(crate) fn is_needed(path: &str) -> bool {
    let problems = problems(&set(path, None), &[]);
    // What a pool lacks is told of where the pool is, by its whole name.
    path.starts_with("pools.") && !problems.is_empty() || !told(path, problems).is_empty()
}

/// The environment's variable for a setting; or what the parser has against that name.
pub(crate) fn variable(path: &str) -> Result<String, String> {
    let variable = format!("PERMITD_{}", path.replace('.', "__").to_uppercase());
    let one_of_each: Table = ONE_OF_EACH.parse().expect("TOML");
    let problems = problems(&one_of_each, &[(variable.as_str(), "?")]);
    match problems.into_iter().find(|problem| problem.message.starts_with("unknown key")) {
        Some(problem) => Err(problem.to_string()),
        None => Ok(variable),
    }
}

/// What is in force where nobody says otherwise, as `permitd check` would print it.
pub(crate) fn default_of(path: &str) -> Option<Value> {
    let name = || "NAME".to_owned();
    let tenants = [(name(), TenantSpec::default())].into();
    let budget =
        BudgetSpec { tenants, ..BudgetSpec::default() }.check().expect("a budget may declare nothing");
    let budget_name = |name: &str| name.parse::<BudgetName>().expect("a name");
    // As it is read where nothing but its name is given.
    let (read, _) = Config::read_noting(ONE_OF_EACH, "here", []).expect("one of each is right");
    let member: MemberSpec = read.pools[&budget_name("POOL")].members[0].clone();
    let config = Config {
        auth: AuthConfig {
            identities: [(name(), IdentityConfig::default())].into(),
            ..AuthConfig::default()
        },
        budgets: [(budget_name("NAME"), budget)].into(),
        pools: [(budget_name("POOL"), PoolSpec { members: vec![member] })].into(),
        cluster: Some(ClusterConfig::on(Vec::new())),
        ..Config::default()
    };
    let printed: Table = config.to_string().parse().expect("TOML");
    let mut at = Value::Table(printed);
    for step in path.split('.') {
        // The name of a budget has the key's as well.
        let (name, is_item) = step.strip_suffix("[0]").map_or((step, false), |name| (name, true));
        at = at.get(name).or_else(|| at.get(format!("{name}/default")))?.clone();
        if is_item {
            at = at.get(0)?.clone();
        }
    }
    Some(at)
}

/// One of each, with another value in one place, or none there.
fn set(path: &str, value: Option<Value>) -> Table {
    let mut top: Table = ONE_OF_EACH.parse().expect("TOML");
    let mut at = &mut top;
    let mut steps: Vec<&str> = path.split('.').collect();
    let last = steps.pop().expect("a path has a name");
    for step in steps {
        let inner = at.entry(step.trim_end_matches("[0]")).or_insert_with(|| Table::new().into());
        at = match inner {
            Value::Array(items) => items[0].as_table_mut(),
            other => other.as_table_mut(),
        }
        .unwrap_or_else(|| panic!("{path}: {step} is no table"));
    }
    match value {
        Some(value) => at.insert(last.to_owned(), value),
        None => at.remove(last),
    };
    top
}

fn problems(file: &Table, environment: &[(&str, &str)]) -> Vec<Problem> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(&file.to_string(), "here", environment).err().map_or(Vec::new(), |error| error.problems)
}

/// What of it is about that setting, or an item of it.
fn told(path: &str, problems: Vec<Problem>) -> Vec<String> {
    let about = |problem: &Problem| {
        // A tenant's is between brackets where the heart names it.
        let at = problem.path.replace("[NAME]", ".NAME");
        at == path || at == format!("{path}[0]")
    };
    problems.into_iter().filter(about).map(|problem| problem.message).collect()
}
