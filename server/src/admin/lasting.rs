//! What was acknowledged lasts: a change is answered once it is written down, and not if it may be lost.

use super::Admin;
use crate::status::Fault;

/// What was so before a change was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    losses: u64,
}

impl Admin {
    /// Refuses a change while nothing can be written down, as it would not outlast the process, or while budgets are given up, as it might
    /// go with them.
    pub(super) fn can_last(&self) -> Result<Begun, Fault> {
        let is_failing = self.registry.keeper().is_some_and(|keeper| keeper.is_failing());
        let losses = self.registry.losses().count().filter(|_| !is_failing);
        losses.map(|losses| Begun { losses }).ok_or_else(|| Fault::store_unavailable("nothing was changed"))
    }

    /// Waits until everything is written down that was changed since then.
    pub(super) async fn durable(&self, begun: Begun) -> Result<(), Fault> {
        let Some(keeper) = self.registry.keeper() else { return Ok(()) };
        keeper.flush().await.map_err(|error| {
            tracing::error!(%error, "a change by an administrator is in force, but not written down yet");
            Fault::store_unavailable("the change is in force, but would not outlast the server")
        })?;
        if self.registry.losses().count() == Some(begun.losses) {
            return Ok(());
        }
        // What was given up meanwhile is left out of what is written, and nothing fails.
        tracing::error!(
            "a change by an administrator may be lost: the server gave budgets up before it was written down"
        );
        let problem =
            "its budgets were given up before the change was written down, so see whether it stands";
        Err(Fault::store_unavailable(problem))
    }
}
