//! Pools in the file: a name that stands for several budgets, with whom to ask first.

use std::collections::{BTreeMap, BTreeSet};

use config::{Value, ValueKind};

use super::{
    BudgetName, Config,
    read::{Notes, Table, number, text},
};

/// Pools of one server.
const POOLS_MAX: usize = 1_000;
/// Members of one pool: whoever waits does so at each of them.
const MEMBERS_MAX: usize = 16;
/// Why a server of a cluster has none.
pub(crate) const NOT_IN_A_CLUSTER: &str = "a cluster's budgets may be at several servers, and a request can't wait at several; declare \
                                           pools at a server by itself, or leave out [cluster]";
/// The highest `prefer` and `weight`.
const RANK_MAX: u32 = 1_000;

/// Several budgets under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// 1 to 16, each once, in the order of the file.
    pub members: Vec<MemberSpec>,
}

/// A budget of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    /// One that is declared, or whose provider has defaults.
    pub budget: BudgetName,
    /// Members with a lower number are asked first. 1 to 1,000; 1 by default.
    pub prefer: u32,
    /// Its part of the permits among members with the same `prefer` that can grant at once. 1 to 1,000; 1 by default.
    pub weight: u32,
}

/// Where a pool stands in the file: its name may be written in more ways than one.
#[derive(Debug)]
pub(super) struct Place {
    path: String,
    /// Of the members that could be read.
    members: Vec<String>,
    /// Members, those included that could not.
    written: usize,
}

/// `[pools."provider/key"]`; where each stands goes to `places`.
pub(super) fn read_pools(
    table: Table<'_>,
    places: &mut BTreeMap<BudgetName, Place>,
) -> BTreeMap<BudgetName, PoolSpec> {
    let notes = table.notes();
    let mut pools = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let mut table = Table::of(path.clone(), value, notes);
        let items = table.items("members", "[\"anthropic/a\", \"anthropic/b\"]");
        let written = items.len();
        let members = items.into_iter();
        let members =
            members.filter_map(|(path, item)| Some((path.clone(), read_member(path, item, notes)?)));
        let (paths, members) = members.unzip();
        table.finish();
        match name.parse::<BudgetName>() {
            Ok(name) => {
                if pools.insert(name.clone(), PoolSpec { members }).is_some() {
                    notes.problem(path.clone(), None, format!("the same pool is declared twice: {name}"));
                }
                places.insert(name, Place { path, members: paths, written });
            }
            Err(error) => notes.problem(path, None, format!("{error}; a pool is called \"provider/key\"")),
        }
    }
    pools
}

/// Text, or a table: `{ budget = "anthropic/b", prefer = 2, weight = 3 }`.
fn read_member(path: String, item: Value, notes: &Notes) -> Option<MemberSpec> {
    let name = |value: &Value| text(value)?.parse::<BudgetName>().map_err(|error| error.to_string());
    if let ValueKind::String(_) = item.kind {
        let budget = name(&item).map_err(|error| notes.problem(path, None, error)).ok()?;
        return Some(MemberSpec { budget, prefer: 1, weight: 1 });
    }
    let mut table = Table::of(path, item, notes);
    let budget = table.need("budget", name);
    let prefer = table.read("prefer", rank).unwrap_or(1);
    let weight = table.read("weight", rank).unwrap_or(1);
    table.finish();
    Some(MemberSpec { budget: budget?, prefer, weight })
}

fn rank(value: &Value) -> Result<u32, String> {
    let number = number(value)?;
    let rank = u32::try_from(number).ok().filter(|rank| (1..=RANK_MAX).contains(rank));
    rank.ok_or_else(|| format!("{number} is outside 1 to {RANK_MAX}"))
}

/// What a pool may not be, beside the rest of the configuration.
pub(super) fn check_pools(config: &Config, places: &BTreeMap<BudgetName, Place>, notes: &Notes) {
    if config.pools.len() > POOLS_MAX {
        let message = format!("{} pools; at most {POOLS_MAX}", config.pools.len());
        notes.problem("pools".to_owned(), None, message);
    }
    if config.cluster.is_some() && !config.pools.is_empty() {
        notes.problem("pools".to_owned(), None, NOT_IN_A_CLUSTER.to_owned());
    }
    for (name, pool) in &config.pools {
        let Place { path, members, written } = &places[name];
        if config.budgets.contains_key(name) {
            notes.problem(
                path.clone(),
                None,
                format!("{name} is a budget, too; give the pool a name of its own"),
            );
        }
        if !(1..=MEMBERS_MAX).contains(written) {
            let message = format!("{written} members; 1 to {MEMBERS_MAX}");
            notes.problem(format!("{path}.members"), None, message);
            continue;
        }
        let mut seen = BTreeSet::new();
        for (place, MemberSpec { budget, .. }) in members.iter().zip(&pool.members) {
            let is_declared =
                config.budgets.contains_key(budget) || config.providers.contains_key(budget.provider());
            let message = if config.pools.contains_key(budget) {
                format!("{budget} is a pool, and a pool has budgets only; name its members here")
            } else if !seen.insert(budget) {
                format!("{budget} is a member already; give it a weight instead")
            } else if !is_declared {
                format!(
                    "nobody declares the budget {budget}; put it under [budgets], or its provider under [providers]"
                )
            } else {
                continue;
            };
            notes.problem(place.clone(), None, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: &str = "[budgets.\"p/a\"]\n[budgets.\"p/b\"]\n[providers.q]\n";

    fn read(pools: &str) -> Result<Config, crate::config::ConfigError> {
        Config::read(&format!("{BUDGETS}{pools}"), "permitd.toml", [])
    }

    /// Goal: members are names or tables, in the order of the file, and the pool is printed as it is read.
    #[test]
    fn reads_members() {
        let config = read(
            "[pools.\"p/any\"]\nmembers = [\"p/b\", { budget = \"q/new\", prefer = 2, weight = 3 }, \"p/a\"]\n",
        );
        let config = config.expect("right");
        let pool = &config.pools[&"p/any".parse().expect("a name")];
        let members: Vec<_> = pool
            .members
            .iter()
            .map(|member| (member.budget.to_string(), member.prefer, member.weight))
            .collect();
        let expected = [("p/b", 1, 1), ("q/new", 2, 3), ("p/a", 1, 1)];
        assert_eq!(members, expected.map(|(name, prefer, weight)| (name.to_owned(), prefer, weight)));
        assert_eq!(Config::read(&config.to_string(), "printed", []).expect("printed is right"), config);
    }

    /// Goal: what makes no sense is refused where it stands, with a word on what would.
    #[test]
    fn refuses_what_makes_no_sense() {
        let with = |members: &str| format!("[pools.\"p/any\"]\nmembers = [{members}]\n");
        let many: Vec<_> = (0..17).map(|at| format!("\"q/{at}\"")).collect();
        for (text, path, hint) in [
            (with(""), "pools.\"p/any\".members", "0 members; 1 to 16"),
            (with(&many.join(",")), "pools.\"p/any\".members", "17 members"),
            (with("\"p/c\""), "pools.\"p/any\".members[0]", "nobody declares the budget p/c"),
            (with("\"p/a\", \"p/a\""), "pools.\"p/any\".members[1]", "a member already"),
            (with("\"p/any\""), "pools.\"p/any\".members[0]", "is a pool"),
            (with("\"/a\""), "pools.\"p/any\".members[0]", "provider"),
            (with("7"), "pools.\"p/any\".members[0]", "a number where a table belongs"),
            (with("{ prefer = 1 }"), "pools.\"p/any\".members[0]", "budget is missing"),
            (with("{ budget = \"p/a\", weight = 0 }"), "pools.\"p/any\".members[0].weight", "1 to 1000"),
            (with("{ budget = \"p/a\", wieght = 2 }"), "pools.\"p/any\".members[0].wieght", "weight?"),
            ("[pools.\"p/a\"]\nmembers = [\"p/b\"]\n".to_owned(), "pools.\"p/a\"", "is a budget, too"),
            // Each by the name under which it stands there, and in its own place.
            (
                "[pools.p]\nmembers = [\"p/c\"]\n".to_owned(),
                "pools.p.members[0]",
                "nobody declares the budget p/c",
            ),
            (with("7, \"p/c\""), "pools.\"p/any\".members[1]", "nobody declares the budget p/c"),
            (
                format!("{}[cluster]\netcd = \"etcd://127.0.0.1:2379\"\n", with("\"p/a\"")),
                "pools",
                "a cluster's budgets may be at several servers",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            let found = error.problems.iter().find(|problem| problem.path == path);
            let found = found.unwrap_or_else(|| panic!("{text}: nothing at {path} in {error}"));
            assert!(found.message.contains(hint), "{found}");
            assert!(found.place.starts_with("permitd.toml:"), "{found}");
            assert!(!error.to_string().contains("members: 0") || text == with(""), "{error}");
        }
    }
}
