//! `permitd budgets changes`

use clap::Args;
use permitd_proto::v1;
use permitd_server::{
    config::BudgetName,
    shown::{budget_of, change_json, changed},
};

use crate::{
    failure::Failure,
    format::{moment, print, print_json},
    limits::budget,
    remote::Remote,
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd budgets changes
  permitd budgets changes anthropic/prod --last 5
  permitd budgets changes --json | jq 'select(.what == \"delete\")'";

/// Shows who changed what, newest first. Deleted budgets are remembered too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Changes {
    /// Of this budget only.
    #[arg(value_parser = budget)]
    budget: Option<BudgetName>,
    /// How many changes to show.
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Changes {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let changes = self.fetch().await?;
        if self.remote.json {
            return print_json(changes.iter().map(change_json));
        }
        if changes.is_empty() {
            eprintln!("no changes yet");
            return Ok(());
        }
        let columns = ["AT", "WHO", "WHAT", "BUDGET", "CHANGE", "REASON"];
        let mut table = Table::new(&columns.map(|column| (column, Align::Left)));
        for change in &changes {
            let at = change.at.as_ref().map(moment).unwrap_or_default();
            let cells =
                [change.who.clone(), change.what.clone(), budget_of(change), changed(change).join(" ")];
            table.row([at].into_iter().chain(cells).chain([change.reason.clone()]));
        }
        print(table.render())
    }

    async fn fetch(&self) -> Result<Vec<v1::Change>, Failure> {
        let mut admin = self.remote.admin().await?;
        let of = |part: fn(&BudgetName) -> &str| self.budget.as_ref().map(|budget| part(budget).to_owned());
        let (provider, key) =
            (of(BudgetName::provider).unwrap_or_default(), of(BudgetName::key).unwrap_or_default());
        let mut changes = Vec::new();
        let mut page_token = String::new();
        while changes.len() < self.last {
            let left = u32::try_from(self.last - changes.len()).unwrap_or(u32::MAX).min(1_000);
            let (provider, key) = (provider.clone(), key.clone());
            let request = v1::ListChangesRequest { provider, key, page_size: left, page_token };
            let answer = admin
                .list_changes(request)
                .await
                .map_err(|status| self.remote.failure(&status))?
                .into_inner();
            changes.extend(answer.changes);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(changes)
    }
}
