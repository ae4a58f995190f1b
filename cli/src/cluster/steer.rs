//! `permitd cluster move` and `drain`

use clap::Args;
use permitd_proto::v1;
use permitd_server::config::BudgetName;
use serde_json::json;

use crate::{failure::Failure, format::print, limits::budget, remote::Remote};

/// Gives a budget to a server, with what is left of it and whoever waits. It stays there while that server takes budgets; when the server
/// is gone another one takes over, and gives it back later.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  permitd cluster move anthropic/prod 10.0.0.2:7110\n  permitd cluster move anthropic/prod --anywhere"
)]
pub(super) struct Move {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    /// The server, by its name in `permitd cluster status`.
    #[arg(value_name = "SERVER", required_unless_present = "anywhere")]
    to: Option<String>,
    /// Let the cluster place it again.
    #[arg(long, conflicts_with = "to")]
    anywhere: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Move {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let request = v1::MoveBudgetRequest {
            provider: self.budget.provider().to_owned(),
            key: self.budget.key().to_owned(),
            server: self.to.unwrap_or_default(),
        };
        let answer = self.remote.cluster().await?.move_budget(request).await;
        let owner = answer.map_err(|status| self.remote.failure(&status))?.into_inner().owner;
        if self.remote.json {
            return print(json!({ "budget": self.budget.to_string(), "owner": owner }).to_string());
        }
        let budget = &self.budget;
        print(match owner.as_str() {
            "" => format!("{budget} has no owner at this moment"),
            owner if self.anywhere => format!("{budget} may move by itself again; it is at {owner}"),
            owner => format!("{budget} is at {owner}, and stays there"),
        })
    }
}

/// Has a server give all its budgets to the others, and take none from then on. It still answers callers, by passing their requests on.
/// That ends when it is undone, and when the server starts again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  permitd cluster drain 10.0.0.2:7110\n  permitd cluster drain 10.0.0.2:7110 --undo"
)]
pub(super) struct Drain {
    /// The server, by its name in `permitd cluster status`.
    #[arg(value_name = "SERVER")]
    name: String,
    /// Let it take budgets again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Drain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let request = v1::DrainServerRequest { server: self.name.clone(), undo: self.undo };
        let answer = self.remote.cluster().await?.drain_server(request).await;
        answer.map_err(|status| self.remote.failure(&status))?;
        if self.remote.json {
            return print(json!({ "server": self.name, "drained": !self.undo }).to_string());
        }
        let name = self.name;
        print(match self.undo {
            true => format!("{name} takes budgets again"),
            false => format!("{name} has no budgets, and takes none"),
        })
    }
}
