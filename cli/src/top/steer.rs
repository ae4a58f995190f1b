//! What can be done about a budget, and what came of it.

use permitd_proto::v1;
use tokio::sync::mpsc;

use super::board::{Name, parts};
use crate::{failure::Failure, remote::Remote};

/// Recorded with every change.
const REASON: &str = "permitd top";

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Errand {
    Pause(Name),
    Resume(Name),
    /// Says whether a declaration could be put in force; changes nothing.
    Preview(Box<v1::Budget>),
    Declare(Box<v1::Budget>),
}

/// An errand that has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) errand: Errand,
    pub(super) outcome: Result<(), Failure>,
}

impl Errand {
    /// Runs it aside; `done` gets what came of it.
    pub(super) fn start(self, remote: Remote, done: mpsc::Sender<Done>) {
        tokio::spawn(async move {
            let outcome = self.run(&remote).await;
            // Nobody wants to know any more when the process is about to end.
            let _ = done.send(Done { errand: self, outcome }).await;
        });
    }

    async fn run(&self, remote: &Remote) -> Result<(), Failure> {
        // A connection of its own: it works while the watch is being made anew, and shows the token that counts now.
        let mut admin = remote.admin().await?;
        let done = match self {
            Self::Pause(name) => {
                let (provider, key) = parts(name);
                let request = v1::PauseBudgetRequest { provider, key, reason: REASON.to_owned() };
                admin.pause_budget(request).await.map(drop)
            }
            Self::Resume(name) => {
                let (provider, key) = parts(name);
                admin.resume_budget(v1::ResumeBudgetRequest { provider, key }).await.map(drop)
            }
            Self::Preview(budget) => admin.set_budget(declaration(budget, true)).await.map(drop),
            Self::Declare(budget) => admin.set_budget(declaration(budget, false)).await.map(drop),
        };
        done.map_err(|status| remote.failure(&status))
    }
}

fn declaration(budget: &v1::Budget, validate_only: bool) -> v1::SetBudgetRequest {
    v1::SetBudgetRequest { budget: Some(budget.clone()), validate_only, reason: REASON.to_owned() }
}
