//! What the limits of a budget in shadow mode would have done, and would do now.

use std::time::Duration;

use permitd_budget::{Line, ShadowSnapshot};
use permitd_proto::v1::Topic;

use super::{Facts, Finding};
use crate::words::{about, counted, grouped, listed};

/// Lines that have a sentence of their own.
const LINES_TOLD: usize = 5;

pub(super) fn findings(facts: &Facts<'_>, would: &ShadowSnapshot) -> Vec<Finding> {
    let lines = facts.standing.shadow.iter().flat_map(|standing| &standing.lines);
    let mut findings = vec![whole(facts, would)];
    findings.extend(lines.take(LINES_TOLD).map(line));
    findings
}

fn whole(facts: &Facts<'_>, would: &ShadowSnapshot) -> Finding {
    let since = about(facts.now.since(would.since));
    let granted = counted(would.granted_total, "permit", "permits");
    let waits = match would.waited_total {
        0 => "all at once".to_owned(),
        waited => {
            let sum: u64 =
                would.waits.iter().map(|waits| waits.sum_nanos).fold(0, u64::saturating_add) / waited;
            let (mean, longest) = (about(Duration::from_nanos(sum)), about(would.longest_wait));
            format!("{} of them after a wait, of {mean} on average and {longest} at most", grouped(waited))
        }
    };
    let refused: Vec<String> =
        would.refused.iter().map(|(reason, times)| format!("{} {reason}", grouped(*times))).collect();
    let refused = match would.refused_total {
        0 => "refused nobody".to_owned(),
        times => format!("refused {} ({})", counted(times, "request", "requests"), listed(&refused)),
    };
    let text = format!(
        "Shadow mode: everybody is granted at once. Its limits would have granted {granted} in the last {since}, {waits}, and \
         {refused}; {} would wait now.",
        grouped(would.waiting)
    );
    Finding::new(Topic::Held, text).with(format!("permitd budgets get {}", facts.name))
}

fn line(line: &Line) -> Finding {
    let requests = counted(line.waiting.into(), "request", "requests");
    let oldest = about(line.oldest);
    let held_by = match &line.first.limit {
        Some(limit) => format!(", held by {limit}"),
        None => String::new(),
    };
    let text = format!("{}: {requests} would wait, the first for {oldest} by now{held_by}.", line.tenant);
    let finding = Finding::new(Topic::Waiting, text);
    match &line.first.limit {
        Some(limit) => finding.about(limit),
        None => finding,
    }
}
