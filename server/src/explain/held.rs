//! What holds a budget back now: a halt of the whole, freezes, limits that are short; or nothing.

use std::collections::BTreeMap;

use permitd_budget::{Halt, LimitSnapshot};
use permitd_proto::v1::Topic;

use super::{Facts, Finding, Held};
use crate::words::{about, counted, grouped};

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.standing.halts.iter().map(|halt| halted(facts, *halt)).collect();
    let held = facts.held_by_limit();
    let limits = facts.snapshot.limits.iter();
    findings.extend(limits.filter_map(|limit| frozen(facts, limit, &held)));
    let mut short: Vec<_> = held.into_iter().filter(|(name, _)| !facts.is_frozen(name)).collect();
    short.sort_by_key(|(name, held)| (std::cmp::Reverse(held.requests), *name));
    findings.extend(short.into_iter().map(|(name, held)| self::short(facts, name, held)));
    if findings.is_empty() {
        findings.push(Finding::new(Topic::Held, nothing(facts)));
    }
    findings
}

pub(super) fn halted(facts: &Facts<'_>, halt: Halt) -> Finding {
    let resume = || format!("permitd budgets resume {}", facts.name);
    let say = |text: String| Finding::new(Topic::Held, text);
    match halt {
        Halt::Paused => say("An administrator paused it: nothing is granted until it is resumed.".to_owned()).with(resume()),
        Halt::Exhausted(Some(until)) => {
            let wait = about(until.since(facts.now));
            say(format!("The provider says that its quota is used up for another {wait}: everybody is refused."))
                .with(resume())
        }
        Halt::Exhausted(None) => {
            say("The provider says that its quota is used up, and no reset is known: everybody is refused until it is topped \
                 up and the budget resumed."
                .to_owned())
            .with(resume())
        }
        Halt::Frozen(until) => {
            let wait = about(until.since(facts.now));
            say(format!("The provider is overloaded: nothing is granted for another {wait}, then one call goes first."))
        }
        Halt::Store => say("All that was written down as set aside is granted: the next write of the store has to come first.".to_owned()),
    }
}

/// A limit that is frozen by itself: a freeze of the whole has been told.
pub(super) fn frozen(
    facts: &Facts<'_>,
    limit: &LimitSnapshot,
    held: &BTreeMap<&str, Held>,
) -> Option<Finding> {
    let whole = facts.standing.halts.iter().any(|halt| matches!(halt, Halt::Frozen(_)));
    let until = limit.frozen_until.filter(|_| !whole)?;
    let name = limit.configured.to_string();
    let wait = about(until.since(facts.now));
    let held = held.get(name.as_str()).map(|held| counted(held.requests, "request waits", "requests wait"));
    let held = held.map_or(String::new(), |waiting| format!("; {waiting} for it"));
    let text = format!("{name} is frozen for another {wait}, since the provider refused calls{held}.");
    Some(Finding::new(Topic::Held, text).about(name))
}

fn short(facts: &Facts<'_>, name: &str, held: Held) -> Finding {
    let requests = counted(held.requests, "request", "requests");
    let left = match facts.limit(name) {
        Some(limit) if limit.configured.per.is_none() => {
            let slots = grouped(limit.effective_amount);
            let expiry = facts.standing.next_expiry.map(|expiry| about(expiry.since(facts.now)));
            let expiry = expiry.map(|wait| format!("; the first unreported one ends by itself in {wait}"));
            format!(": all {slots} are in flight{}", expiry.unwrap_or_default())
        }
        Some(limit) if limit.level < 0 => {
            let (debt, amount) = (grouped(-i128::from(limit.level)), grouped(limit.effective_amount));
            format!(": calls used {debt} more than was there, of {amount}")
        }
        Some(limit) => format!(": {} of {} are free", grouped(limit.level), grouped(limit.effective_amount)),
        None => String::new(),
    };
    let soon =
        held.first_in.map_or(String::new(), |wait| format!("; the first can go in about {}", about(wait)));
    Finding::new(Topic::Held, format!("{name} holds back {requests}{left}{soon}.")).about(name)
}

fn nothing(facts: &Facts<'_>) -> String {
    match facts.snapshot.waiting {
        0 => "Nothing holds it back: whoever asks and fits is granted at once.".to_owned(),
        waiting => {
            let requests = counted(waiting.into(), "request waits", "requests wait");
            format!("{requests} for their turn: no limit by itself is short.")
        }
    }
}
