//! `permitd budgets list` and `get`

use clap::Args;
use permitd_proto::v1;
use permitd_server::{config::BudgetName, shown::state_json};

use super::show::{at_length, table};
use crate::{
    failure::Failure,
    format::{print, print_json},
    limits::budget,
    pools,
    remote::Remote,
};

const LIST_EXAMPLES: &str = "\
Examples:
  permitd budgets list
  permitd budgets list 'anthropic/*'
  permitd budgets list --json | jq -r 'select(.waiting > 0) | .budget'

FREE is what could be granted now, OF the amount per window, with what there is of it at once where that is another; where feedback has lowered it, the \
declared amount stands in parentheses behind it. JSON has one budget a line.";

/// Lists budgets with their limits.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct List {
    /// A glob over PROVIDER/KEY.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl List {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let mut states = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListBudgetsRequest { page_size: 0, page_token, filter: self.filter.clone() };
            let answer = admin
                .list_budgets(request)
                .await
                .map_err(|status| self.remote.failure(&status))?
                .into_inner();
            if self.remote.json {
                print_json(answer.states.iter().map(state_json))?;
            } else {
                states.extend(answer.states);
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if self.remote.json {
            return Ok(());
        }
        if states.is_empty() {
            let none = if self.filter.is_empty() { "no budgets yet" } else { "no budget matches" };
            eprintln!("{none}; create one with `permitd budgets set PROVIDER/KEY --limit requests=60/1m`");
            return Ok(());
        }
        print(table(&states))
    }
}

/// Shows one budget, with its tenants.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  permitd budgets get anthropic/prod\n  permitd budgets get anthropic/prod --json | jq -r .etag"
)]
pub(super) struct Get {
    /// PROVIDER/KEY, or PROVIDER alone for its key `default`.
    #[arg(value_parser = budget)]
    budget: BudgetName,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Get {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = (self.budget.provider().to_owned(), self.budget.key().to_owned());
        let answer = admin.get_budget(v1::GetBudgetRequest { provider, key }).await;
        if answer.as_ref().is_err_and(pools::is_pool) {
            return pools::show(&self.remote, &self.budget).await;
        }
        let state =
            answer.map_err(|status| self.remote.failure(&status))?.into_inner().state.unwrap_or_default();
        print(if self.remote.json { state_json(&state).to_string() } else { at_length(&state) })
    }
}
