//! Why a pool passes a member over: what keeps it from granting whoever comes now, whether somebody waits for it or not.

use permitd_budget::LimitSnapshot;

use super::{Facts, held};
use crate::words::grouped;

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
