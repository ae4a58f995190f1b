//! `permitd explain`

use std::process::ExitCode;

use clap::Args;
use permitd_proto::v1::{self, Topic};
use permitd_server::config::BudgetName;
use serde_json::{Value, json};

use crate::{
    budgets::state_json,
    failure::Failure,
    format::{moment, on_terminal, print, span},
    limits::budget,
    remote::{Remote, block_on},
};

const EXAMPLES: &str = "\
Examples:
  permitd explain anthropic/prod
  permitd explain anthropic/prod --json | jq -r '.findings[] | select(.topic == \"advice\") | .text'";

/// What each topic is called, in the order in which they are told.
const TOPICS: [(Topic, &str, &str); 5] = [
    (Topic::Held, "Now", "held"),
    (Topic::Waiting, "Waiting", "waiting"),
    (Topic::Refused, "Refused of late", "refused"),
    (Topic::Learned, "Learned", "learned"),
    (Topic::Advice, "What would help", "advice"),
];

/// Says in sentences what holds a budget back, who waits, what was refused, what was learned, and what would help.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Explain {
    /// PROVIDER/KEY, or PROVIDER alone for its key `default`.
    #[arg(value_parser = budget)]
    budget: BudgetName,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Explain {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut admin = self.remote.admin().await?;
            let (provider, key) = (self.budget.provider().to_owned(), self.budget.key().to_owned());
            let answer = admin.explain_budget(v1::ExplainBudgetRequest { provider, key }).await;
            let explained = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
            print(if self.remote.json {
                as_json(&explained).to_string()
            } else {
                as_text(&explained, on_terminal())
            })?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The findings under a heading for each topic.
fn as_text(explained: &v1::ExplainBudgetResponse, terminal: bool) -> String {
    let mut paragraphs = Vec::new();
    for (topic, heading, _) in TOPICS {
        let findings = explained.findings.iter().filter(|finding| finding.topic() == topic);
        let lines: Vec<String> = findings.map(sentence).collect();
        if !lines.is_empty() {
            let heading = if terminal { format!("\x1b[1m{heading}\x1b[0m") } else { heading.to_owned() };
            paragraphs.push(format!("{heading}\n{}", lines.join("\n")));
        }
    }
    paragraphs.join("\n\n")
}

fn sentence(finding: &v1::Finding) -> String {
    match finding.command.as_str() {
        "" => format!("  {}", finding.text),
        command => format!("  {}\n    try: {command}", finding.text),
    }
}

fn as_json(explained: &v1::ExplainBudgetResponse) -> Value {
    let topic = |of: Topic| TOPICS.iter().find(|(topic, ..)| *topic == of).map(|(.., name)| *name);
    let findings = explained.findings.iter().map(|finding| {
        json!({
            "topic": topic(finding.topic()),
            "limit": finding.limit,
            "text": finding.text,
            "command": finding.command,
        })
    });
    let lines = explained.lines.iter().map(|line| {
        let first = line.first.clone().unwrap_or_default();
        json!({
            "tenant": line.tenant,
            "priority": line.priority().as_str_name().trim_start_matches("PRIORITY_").to_lowercase(),
            "model": line.model,
            "waiting": line.waiting,
            "oldest_seconds": line.oldest.as_ref().map(|oldest| span(oldest).as_secs_f64()),
            "position": first.position,
            "estimated_wait_seconds": first.estimated_wait.as_ref().map(|wait| span(wait).as_secs_f64()),
            "held_by": first.held_by,
            "limit": first.limit,
        })
    });
    let refusals = explained.refusals.iter().map(|refusal| {
        json!({
            "tenant": refusal.tenant,
            "reason": refusal.reason,
            "limit": refusal.limit,
            "message": refusal.message,
            "times": refusal.times,
            "first_at": refusal.first_at.as_ref().map(moment),
            "last_at": refusal.last_at.as_ref().map(moment),
        })
    });
    let answers = explained.answers.iter().map(|answer| {
        json!({
            "outcome": answer.outcome().as_str_name().trim_start_matches("OUTCOME_").to_lowercase(),
            "model": answer.model,
            "retry_after_seconds": answer.retry_after.as_ref().map(|wait| span(wait).as_secs_f64()),
            "froze": answer.froze,
            "frozen_until": answer.frozen_until.as_ref().map(moment),
            "times": answer.times,
            "first_at": answer.first_at.as_ref().map(moment),
            "last_at": answer.last_at.as_ref().map(moment),
        })
    });
    json!({
        "state": explained.state.as_ref().map(state_json),
        "findings": findings.collect::<Vec<_>>(),
        "lines": lines.collect::<Vec<_>>(),
        "others_waiting": explained.others_waiting,
        "refusals": refusals.collect::<Vec<_>>(),
        "answers": answers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(topic: Topic, text: &str, command: &str) -> v1::Finding {
        let (text, command) = (text.to_owned(), command.to_owned());
        v1::Finding { topic: topic.into(), limit: "requests/1m".to_owned(), text, command }
    }

    /// Goal: sentences stand under their topics in a fixed order, with what to do about them.
    #[test]
    fn findings_stand_by_topic() {
        let explained = v1::ExplainBudgetResponse {
            findings: vec![
                finding(Topic::Advice, "Raise it.", ""),
                finding(Topic::Held, "It is paused.", "permitd budgets resume p/k"),
                finding(Topic::Held, "It is short.", ""),
            ],
            ..v1::ExplainBudgetResponse::default()
        };
        let text = "Now\n  It is paused.\n    try: permitd budgets resume p/k\n  It is short.\n\nWhat would help\n  Raise it.";
        assert_eq!(as_text(&explained, false), text);
        assert_eq!(as_json(&explained)["findings"][0]["topic"], "advice");
    }
}
