//! Why a budget does what it does, in sentences: what holds it back, who waits, what was refused, what was learned, and what would
//! help most. Pure: facts in, findings out; whoever shows them adds nothing of its own.

mod advice;
mod held;
mod learned;
mod passed;
mod refused;
mod shadow;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeMap;

use permitd_budget::{LimitSnapshot, Snapshot, Standing, Time};
use permitd_proto::v1;

pub(crate) use self::passed::{PASSED_OVER, passed_over, passed_over_for};
use crate::{config::BudgetName, wire::encode};

/// Everything that is known of a budget at one instant.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) name: &'a BudgetName,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) standing: &'a Standing,
    /// Pools that it is a member of.
    pub(crate) pools: &'a [BudgetName],
    pub(crate) now: Time,
}

/// One sentence about a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    topic: v1::Topic,
    /// The limit that it is about.
    limit: Option<String>,
    text: String,
    /// What does something about it.
    command: Option<String>,
}

impl Finding {
    fn new(topic: v1::Topic, text: impl Into<String>) -> Self {
        Self { topic, limit: None, text: text.into(), command: None }
    }

    fn about(self, limit: impl Into<String>) -> Self {
        Self { limit: Some(limit.into()), ..self }
    }

    fn with(self, command: String) -> Self {
        Self { command: Some(command), ..self }
    }

    fn into_wire(self) -> v1::Finding {
        v1::Finding {
            topic: self.topic.into(),
            limit: self.limit.unwrap_or_default(),
            text: self.text,
            command: self.command.unwrap_or_default(),
        }
    }
}

/// All that there is to say, by topic.
pub(crate) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = match &facts.snapshot.shadow {
        // What holds it back holds nobody.
        Some(would) => shadow::findings(facts, would),
        None => held::findings(facts),
    };
    findings.extend(passed::finding(facts));
    findings.extend(waiting::findings(facts));
    findings.extend(refused::findings(facts));
    findings.extend(learned::findings(facts));
    findings.extend(advice::findings(facts));
    findings
}

/// The same on the wire, with the facts.
pub(crate) fn write(facts: &Facts<'_>, state: v1::BudgetState) -> v1::ExplainBudgetResponse {
    let Standing { lines, others_waiting, refusals, answers, .. } = facts.standing;
    v1::ExplainBudgetResponse {
        state: Some(state),
        findings: findings(facts).into_iter().map(Finding::into_wire).collect(),
        lines: lines.iter().map(encode::waiting_line).collect(),
        others_waiting: *others_waiting,
        refusals: refusals.iter().map(encode::past_refusal).collect(),
        answers: answers.iter().map(encode::past_answer).collect(),
        ..v1::ExplainBudgetResponse::default()
    }
}

impl Facts<'_> {
    /// Requests in the lines that are known, by the limit that holds their first.
    fn held_by_limit(&self) -> BTreeMap<&str, Held> {
        let mut held: BTreeMap<&str, Held> = BTreeMap::new();
        for line in &self.standing.lines {
            let Some(limit) = line.first.limit.as_deref() else { continue };
            let entry = held.entry(limit).or_default();
            entry.requests += u64::from(line.waiting);
            entry.lines += 1;
            entry.first_in = match (entry.first_in, line.first.estimated_wait) {
                (Some(known), Some(other)) => Some(known.min(other)),
                (known, other) => known.or(other),
            };
        }
        held
    }

    /// Whether the limit of that name grants nothing because of a refusal.
    fn is_frozen(&self, name: &str) -> bool {
        self.limit(name).is_some_and(|limit| limit.frozen_until.is_some())
    }

    /// The limit of that name.
    fn limit(&self, name: &str) -> Option<&LimitSnapshot> {
        self.snapshot.limits.iter().find(|limit| limit.configured.to_string() == name)
    }
}

/// What a limit holds back.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    requests: u64,
    lines: u64,
    /// When the first may go, if that is known.
    first_in: Option<std::time::Duration>,
}
