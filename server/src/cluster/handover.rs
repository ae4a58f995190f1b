//! Budgets that this server gives up in good order: each is written down to the unit first, with its permits, and whoever waits is passed on
//! to the next owner.

use std::sync::{Arc, atomic::Ordering};

use futures_util::stream::{self, StreamExt as _};

use super::{
    Cluster,
    claims::CLAIMS_MAX,
    etcd::{delete, made_at, messages::TxnRequest},
};
use crate::{cell::Cell, config::BudgetName};

/// Budgets given to others between two looks, so that what moves is a small part of what goes on.
const MOVES_MAX: usize = 4;
/// Tries to write a budget down before it is given up as after a crash.
const SAVES_MAX: usize = 3;

impl Cluster {
    /// Gives some of its budgets to servers that have fewer; all of them, where it takes none.
    pub(super) async fn give_to_others(&self) {
        if self.takes_none() {
            return self.give_all().await;
        }
        let due: Vec<BudgetName> = {
            let directory = self.directory.read();
            let seats = self.registry.seats().into_iter();
            seats.filter(|budget| directory.better(budget, &self.name).is_some()).take(MOVES_MAX).collect()
        };
        for budget in due {
            // It may look otherwise by now.
            if self.directory.read().better(&budget, &self.name).is_some() {
                self.hand_over(&budget).await;
            }
        }
    }

    /// Gives up what somebody moved to another server.
    pub(super) async fn give_what_was_moved(&self) {
        let due: Vec<BudgetName> = self.directory.read().moved_from(&self.name).cloned().collect();
        for budget in due {
            self.hand_over(&budget).await;
        }
    }

    /// Gives a budget up: to the unit, with its permits. Nothing happens if it is not this server's, or on its way already.
    async fn hand_over(&self, budget: &BudgetName) {
        let Some(revision) = self.owned.revision(budget) else { return };
        self.on_their_way.lock().insert(budget.clone());
        // Whoever unseats it, and nobody else, releases the claim: what is left has to be written down before.
        if let Some(cell) = self.registry.unseat(budget, true) {
            self.write_down(cell).await;
            self.release(budget, revision).await;
        }
        self.on_their_way.lock().remove(budget);
    }

    /// Writes down to the unit what was given up.
    async fn write_down(&self, cell: Option<Arc<Cell>>) {
        if let (Some(keeper), Some(cell)) = (self.registry.keeper(), cell) {
            for _ in 0..SAVES_MAX {
                if keeper.flush().await.is_ok() {
                    break;
                }
            }
            cell.leave(false);
        }
    }

    /// Ends a claim, so that another server can have the budget.
    pub(super) async fn release(&self, budget: &BudgetName, revision: i64) {
        let owner = self.keys.owner(budget);
        let request = TxnRequest {
            compare: vec![made_at(owner.clone(), revision)],
            success: vec![delete(owner)],
            failure: Vec::new(),
        };
        // If that fails the claim stands, and is a stray.
        if let Err(status) = self.etcd.txn(request).await {
            tracing::warn!(%budget, error = status.message(), "can't be handed over");
            return;
        }
        self.owned.released(budget);
        self.directory.write().owner_left(budget, &self.name);
        self.tell_change();
    }

    /// Gives everything up, since this server is about to go, and takes nothing any more.
    pub(crate) async fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.give_all().await;
    }

    /// Gives everything up, and takes nothing until that is undone.
    pub(super) async fn drain(&self, undo: bool) {
        self.is_drained.store(!undo, Ordering::Relaxed);
        self.give_all().await;
        // There may be something to claim now.
        self.tell_change();
    }

    /// Tells the others whether this server takes budgets, and gives all up if it does not.
    async fn give_all(&self) {
        let standing = *self.standing.lock();
        let Some(standing) = standing else { return };
        if let Err(status) = self.tell_of_itself(&standing).await {
            tracing::warn!(
                error = status.message(),
                "the others could not be told whether this server takes budgets"
            );
        }
        if !self.takes_none() {
            return;
        }
        stream::iter(self.registry.seats())
            .for_each_concurrent(CLAIMS_MAX, |budget| async move { self.hand_over(&budget).await })
            .await;
    }

    /// Ends the lease, so that nobody has to wait for its end.
    pub(crate) async fn end(&self) {
        let standing = self.standing.lock().take();
        if let Some(standing) = standing {
            // It ends by itself.
            let _ = self.etcd.revoke_lease(standing.lease).await;
        }
    }
}
