//! Who waits, and for what.

use permitd_budget::Line;
use permitd_proto::v1::Topic;

use super::{Facts, Finding};
use crate::{
    config::priority_name,
    words::{about, counted},
};

/// Lines that have a sentence of their own; the others are added up.
const LINES_TOLD: usize = 5;

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let lines = &facts.standing.lines;
    let mut findings: Vec<Finding> = lines.iter().take(LINES_TOLD).map(line).collect();
    let told: u32 = lines.iter().take(LINES_TOLD).map(|line| line.waiting).sum();
    let others = facts.snapshot.waiting.saturating_sub(told);
    if others > 0 {
        let text = format!("{} in shorter lines.", counted(others.into(), "more waits", "more wait"));
        findings.push(Finding::new(Topic::Waiting, text));
    }
    findings
}

fn line(line: &Line) -> Finding {
    let Line { tenant, priority, model, waiting, oldest, first } = line;
    let requests = counted(u64::from(*waiting), "request waits", "requests wait");
    let class = priority_name(*priority);
    let model = if model.is_empty() { String::new() } else { format!(" for {model}") };
    let since = about(*oldest);
    let first_is = if *waiting == 1 { "it has waited" } else { "the first has waited" };
    let behind = match first.position {
        0 => String::new(),
        ahead => format!(", {} before it", counted(u64::from(ahead), "is", "are")),
    };
    let held_by = match (first.held_by.as_str(), &first.limit) {
        ("" | "frozen" | "paused" | "store", Some(limit)) => {
            format!(", held by {limit}{}", halted(&first.held_by))
        }
        ("", None) => String::new(),
        (held_by, _) => format!(", held by {held_by}"),
    };
    let text = format!("{tenant}: {requests} ({class}{model}); {first_is} {since}{behind}{held_by}.");
    let finding = Finding::new(Topic::Waiting, text);
    match &first.limit {
        Some(limit) => finding.about(limit),
        None => finding,
    }
}

fn halted(held_by: &str) -> String {
    if held_by.is_empty() { String::new() } else { format!(" ({held_by})") }
}
