//! `permitd budgets delete`, `pause`, `resume` and `reset`

use clap::Args;
use permitd_proto::v1;
use permitd_server::config::BudgetName;
use serde_json::json;

use crate::{failure::Failure, format::print, limits::budget, remote::Remote};

/// Deletes a budget. Whoever waits for it is refused; permits in flight can still be reported.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  permitd budgets delete anthropic/old")]
pub(super) struct Delete {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    /// Delete the budget only if this is still its etag, as of `permitd budgets get`.
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Delete {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = names(&self.budget);
        let answer = admin.delete_budget(v1::DeleteBudgetRequest { provider, key, etag: self.etag }).await;
        answer.map_err(|status| self.remote.failure(&status))?;
        say(&self.remote, &self.budget, "deleted")
    }
}

/// Grants nothing until resumed. Whoever waits goes on waiting, and their deadlines run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  permitd budgets pause anthropic/prod --reason 'key is being rotated'")]
pub(super) struct Pause {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    /// Why, for the audit trail.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Pause {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = names(&self.budget);
        let answer = admin.pause_budget(v1::PauseBudgetRequest { provider, key, reason: self.reason }).await;
        answer.map_err(|status| self.remote.failure(&status))?;
        say(&self.remote, &self.budget, "paused")
    }
}

/// Ends a pause, or an exhausted quota.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  permitd budgets resume anthropic/prod")]
pub(super) struct Resume {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Resume {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = names(&self.budget);
        let answer = admin.resume_budget(v1::ResumeBudgetRequest { provider, key }).await;
        answer.map_err(|status| self.remote.failure(&status))?;
        say(&self.remote, &self.budget, "resumed")
    }
}

/// Goes back to what the server's configuration declares, by name or as the provider's default, and follows it from then on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  permitd budgets diff\n  permitd budgets reset anthropic/prod --reason 'the file is right again'"
)]
pub(super) struct Reset {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    /// Reset the budget only if this is still its etag, as of `permitd budgets get`.
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    /// Why, for the audit trail.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Reset {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = names(&self.budget);
        let request = v1::ResetBudgetRequest { provider, key, etag: self.etag, reason: self.reason };
        let answer = admin.reset_budget(request).await;
        answer.map_err(|status| self.remote.failure(&status))?;
        say(&self.remote, &self.budget, "reset")
    }
}

fn names(budget: &BudgetName) -> (String, String) {
    (budget.provider().to_owned(), budget.key().to_owned())
}

fn say(remote: &Remote, budget: &BudgetName, done: &str) -> Result<(), Failure> {
    if remote.json {
        return print(json!({ "budget": budget.to_string(), "done": done }).to_string());
    }
    print(format!("{budget} is {done}"))
}
