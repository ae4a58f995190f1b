//! Why a pool passes a member over: what keeps it from granting whoever comes now, whether somebody waits for it or not.

use permitd_budget::LimitSnapshot;
use permitd_proto::v1::Topic;

use super::{Facts, Finding, held};
use crate::words::{counted, grouped, listed};

/// Pools that are named; the others are counted.
const POOLS_TOLD: usize = 5;

/// Which pools it is a member of, and whether they pass it over; nothing where there are none.
pub(super) fn finding(facts: &Facts<'_>) -> Option<Finding> {
    let (told, others) = facts.pools.split_at(facts.pools.len().min(POOLS_TOLD));
    let mut names: Vec<String> = told.iter().map(ToString::to_string).collect();
    let others = others.len() as u64;
    names.extend((others > 0).then(|| counted(others, "other", "others")));
    let of = |pools: &str, pass: &str| {
        let over =
            if passed_over(facts).is_empty() { String::new() } else { format!(", which {pass} it over now") };
        Finding::new(Topic::Held, format!("It is a member of the {pools} {}{over}.", listed(&names)))
    };
    match facts.pools {
        [] => None,
        [pool] => Some(of("pool", "passes").with(format!("permitd pools get {pool}"))),
        _ => Some(of("pools", "pass").with(format!("permitd pools list {}", facts.name))),
    }
}

/// In sentences; none if it can grant.
pub(crate) fn passed_over(facts: &Facts<'_>) -> Vec<String> {
    if facts.snapshot.shadow.is_some() {
        return Vec::new();
    }
    let lines = facts.held_by_limit();
    let halts = facts.standing.halts.iter().map(|halt| held::halted(facts, *halt).text);
    let limits = facts.snapshot.limits.iter();
    let frozen = limits.clone().filter_map(|limit| held::frozen(facts, limit, &lines)).map(|held| held.text);
    halts.chain(frozen).chain(limits.filter_map(used_up)).collect()
}

fn used_up(limit: &LimitSnapshot) -> Option<String> {
    let name = &limit.configured;
    let amount = grouped(limit.effective_amount);
    match (limit.level, limit.configured.per) {
        (1.., _) => None,
        (_, None) => Some(format!("All {amount} of {name} are in flight.")),
        (0, Some(_)) => Some(format!("Nothing of the {amount} of {name} is left now.")),
        (..0, Some(_)) => {
            let debt = grouped(-i128::from(limit.level));
            Some(format!("Calls used {debt} more than the {amount} of {name}, which come back first."))
        }
    }
}
