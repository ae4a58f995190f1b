//! `permitd explain`

use std::process::ExitCode;

use clap::Args;
use permitd_proto::v1;
use permitd_server::{
    config::BudgetName,
    shown::{TOPICS, explained_json},
};

use crate::{
    failure::Failure,
    format::{on_terminal, print},
    limits::budget,
    pools,
    remote::{Remote, block_on},
};

const EXAMPLES: &str = "\
Examples:
  permitd explain anthropic/prod
  permitd explain anthropic/prod --json | jq -r '.findings[] | select(.topic == \"advice\") | .text'";

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
            if answer.as_ref().is_err_and(pools::is_pool) {
                pools::show(&self.remote, &self.budget).await?;
                return Ok(ExitCode::SUCCESS);
            }
            let explained = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
            print(if self.remote.json {
                explained_json(&explained).to_string()
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

#[cfg(test)]
mod tests {
    use permitd_proto::v1::Topic;

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
        assert_eq!(explained_json(&explained)["findings"][0]["topic"], "advice");
    }
}
