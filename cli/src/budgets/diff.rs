//! `permitd budgets diff`

use clap::Args;
use permitd_proto::v1;
use permitd_server::shown::{budget_json, difference};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    format::{print, print_json},
    remote::Remote,
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd budgets diff
  permitd budgets diff 'anthropic/*' --json
  permitd budgets reset anthropic/prod      go back to the configuration

What was set or deleted live stays in force over restarts, whatever the configuration says: - is what the \
configuration declares, + what is in force instead.";

/// Shows where budgets are not as the server's configuration declares them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Diff {
    /// Only these: a glob over PROVIDER/KEY.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Diff {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let differences = self.fetch().await?;
        if self.remote.json {
            return print_json(differences.iter().map(difference_json));
        }
        if differences.is_empty() {
            eprintln!("everything is as the configuration declares it");
            return Ok(());
        }
        let mut table = Table::new(&["BUDGET", "LIVE", "DIFFERENCE"].map(|column| (column, Align::Left)));
        for found in &differences {
            let (configured, in_force) = (found.configured.as_ref(), found.in_force.as_ref());
            table.row([name(found), live(found).to_owned(), difference(configured, in_force).join(" ")]);
        }
        print(table.render())
    }

    async fn fetch(&self) -> Result<Vec<v1::BudgetDifference>, Failure> {
        let mut admin = self.remote.admin().await?;
        let mut differences = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                v1::DiffBudgetsRequest { page_size: 1_000, page_token, filter: self.filter.clone() };
            let answer = admin.diff_budgets(request).await;
            let answer = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
            differences.extend(answer.differences);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(differences);
            }
        }
    }
}

fn name(found: &v1::BudgetDifference) -> String {
    format!("{}/{}", found.provider, found.key)
}

/// What was done to it live.
fn live(found: &v1::BudgetDifference) -> &'static str {
    match (&found.configured, &found.in_force) {
        (Some(_), Some(_)) => "changed",
        (None, _) => "added",
        (Some(_), None) => "deleted",
    }
}

fn difference_json(found: &v1::BudgetDifference) -> Value {
    json!({
        "budget": name(found),
        "live": live(found),
        "configured": found.configured.as_ref().map(budget_json),
        "in_force": found.in_force.as_ref().map(budget_json),
    })
}
