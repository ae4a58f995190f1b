//! Why a pool passes a member over: what keeps it from granting whoever comes now, whether somebody waits for it or not.

use permitd_budget::{Halt, LimitSnapshot, Snapshot};
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
    let lines = facts.held_by_limit();
    let whys = whys(facts.snapshot, &facts.standing.halts);
    let told = whys.filter_map(|why| match why {
        Why::Halted(halt) => Some(held::halted(facts, halt).text),
        Why::Frozen(limit) => held::frozen(facts, limit, &lines).map(|held| held.text),
        Why::UsedUp(limit) => used_up(limit),
    });
    told.collect()
}

/// In words, for machines; none if it can grant. Of [`PASSED_OVER`].
pub(crate) fn passed_over_for(snapshot: &Snapshot, halts: &[Halt]) -> Vec<&'static str> {
    let mut words: Vec<_> = whys(snapshot, halts).map(Why::word).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// All words for why a member is passed over. One that is gone has no snapshot that could tell.
pub(crate) const PASSED_OVER: [&str; 6] = ["exhausted", "frozen", "gone", "limit", "paused", "store"];

/// What keeps a member from granting.
#[derive(Clone, Copy, Debug)]
enum Why<'a> {
    Halted(Halt),
    Frozen(&'a LimitSnapshot),
    UsedUp(&'a LimitSnapshot),
}

impl Why<'_> {
    fn word(self) -> &'static str {
        match self {
            Self::Halted(Halt::Paused) => "paused",
            Self::Halted(Halt::Exhausted(_)) => "exhausted",
            Self::Halted(Halt::Frozen(_)) | Self::Frozen(_) => "frozen",
            Self::Halted(Halt::Store) => "store",
            Self::UsedUp(_) => "limit",
        }
    }
}

/// What holds one in shadow mode back holds nobody.
fn whys<'a>(snapshot: &'a Snapshot, halts: &'a [Halt]) -> impl Iterator<Item = Why<'a>> {
    let limits = snapshot.limits.iter();
    let frozen = limits.clone().filter(|limit| limit.frozen_until.is_some()).map(Why::Frozen);
    let used_up = limits.filter(|limit| limit.level <= 0).map(Why::UsedUp);
    let all = halts.iter().copied().map(Why::Halted).chain(frozen).chain(used_up);
    all.filter(|_| snapshot.shadow.is_none())
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
