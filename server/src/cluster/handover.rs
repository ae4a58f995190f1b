//! Budgets that this server gives up in good order: each is written down to the unit first, with its permits, and whoever waits is passed on
//! to the next owner.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use futures_util::stream::{self, StreamExt as _};
use tonic::Code;

use super::{
    Cluster, PATIENCE,
    etcd::{WITHIN_TXN_MAX, delete, made_at, messages::TxnRequest, within_txn},
};
use crate::{
    cell::Cell,
    config::BudgetName,
    status::{DRAINING_HINT, Fault},
};

/// Budgets given to others between two looks, so that what moves is a small part of what goes on.
const MOVES_MAX: usize = 4;
/// Transactions under way at once, each with budgets that are handed over.
const TOGETHER_MAX: usize = 2;
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
                self.hand_over(&[budget]).await;
            }
        }
    }

    /// Gives up what somebody moved to another server.
    pub(super) async fn give_what_was_moved(&self) {
        let due: Vec<BudgetName> = self.directory.read().moved_from(&self.name).cloned().collect();
        for due in due.chunks(WITHIN_TXN_MAX) {
            self.hand_over(due).await;
        }
    }

    /// Gives budgets up: to the unit, with their permits. Nothing happens to those that are not this server's, or on their way already.
    async fn hand_over(&self, budgets: &[BudgetName]) {
        let claim = |budget: &BudgetName| Some((budget.clone(), self.owned.revision(budget)?));
        let mut claims: Vec<(BudgetName, i64)> = budgets.iter().filter_map(claim).collect();
        {
            let mut on_their_way = self.on_their_way.lock();
            claims.retain(|(budget, _)| on_their_way.insert(budget.clone()));
        }
        let (mut given_up, mut cells) = (Vec::with_capacity(claims.len()), Vec::new());
        for (budget, revision) in &claims {
            // Whoever unseats it, and nobody else, releases the claim: what is left has to be written down before.
            if let Some(cell) = self.registry.unseat(budget, true) {
                given_up.push((budget.clone(), *revision));
                cells.extend(cell);
            }
        }
        if !given_up.is_empty() {
            self.write_down(&cells).await;
        }
        self.release(&given_up).await;
        let mut on_their_way = self.on_their_way.lock();
        for (budget, _) in &claims {
            on_their_way.remove(budget);
        }
    }

    /// Writes down to the unit what was given up; of names without a budget, that it was deleted.
    async fn write_down(&self, cells: &[Arc<Cell>]) {
        let Some(keeper) = self.registry.keeper() else { return };
        let mut is_written = false;
        for _ in 0..SAVES_MAX {
            is_written = keeper.flush().await.is_ok();
            if is_written {
                break;
            }
        }
        let _giving_up = (!is_written).then(|| self.registry.losses().begin());
        cells.iter().for_each(|cell| cell.leave(false));
    }

    /// Ends claims, so that other servers can have the budgets: so many as fit into a transaction.
    pub(super) async fn release(&self, claims: &[(BudgetName, i64)]) {
        if claims.is_empty() {
            return;
        }
        let end = |(budget, revision): &(BudgetName, i64)| {
            let owner = self.keys.owner(budget);
            within_txn(TxnRequest {
                compare: vec![made_at(owner.clone(), *revision)],
                success: vec![delete(owner)],
                failure: Vec::new(),
            })
        };
        let success = claims.iter().map(end).collect();
        // If that fails the claims stand, and are strays.
        if let Err(status) = self.etcd.txn(TxnRequest { success, ..TxnRequest::default() }).await {
            let (first, more) = (&claims[0].0, claims.len() - 1);
            tracing::warn!(budget = %first, more, error = status.message(), "can't be handed over");
            return;
        }
        self.owned.released(claims.iter().map(|(budget, _)| budget));
        let mut directory = self.directory.write();
        for (budget, _) in claims {
            directory.owner_left(budget, &self.name);
        }
        drop(directory);
        self.tell_change();
    }

    /// Gives everything up, since this server is about to go, and takes nothing any more.
    pub(crate) async fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.give_all().await;
    }

    /// Gives everything up, and takes nothing until that is undone.
    ///
    /// # Errors
    /// `SERVER_DRAINED` if others began to drain at the same time, so that nobody would take anything; `NOT_MOVED` if they could not be
    /// told. It goes on taking budgets then, those too that it gave up meanwhile.
    pub(super) async fn drain(&self, undo: bool) -> Result<(), Fault> {
        self.is_drained.store(!undo, Ordering::Relaxed);
        if !undo && let Err(fault) = self.is_one_who_can_go().await {
            self.is_drained.store(false, Ordering::Relaxed);
            self.give_all().await;
            return Err(fault);
        }
        self.give_all().await;
        // There may be something to claim now.
        self.tell_change();
        Ok(())
    }

    /// Tells the others that this server takes no budgets any more, and looks who still does: once it has heard of itself, it has heard of
    /// everybody who said the same before, so of several that say it at once, one stays.
    async fn is_one_who_can_go(&self) -> Result<(), Fault> {
        let end = Instant::now() + PATIENCE;
        let is_told = || self.directory.read().member(&self.name).is_some_and(|row| row.leaving);
        let standing = *self.standing.lock();
        if let Some(standing) = standing {
            let _ = self.tell_of_itself(&standing).await;
        }
        while !is_told() {
            if Instant::now() > end {
                let message = "the others could not be told, so this server goes on taking budgets";
                return Err(Fault::new(Code::Unavailable, "NOT_MOVED", message).after(DRAINING_HINT));
            }
            self.change().await;
        }
        self.check_others_take()
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
        // Some after the others, so that none is without an owner for longer than its own way takes.
        let seats: Vec<BudgetName> = self.registry.seats().into_iter().collect();
        stream::iter(seats.chunks(WITHIN_TXN_MAX))
            .for_each_concurrent(TOGETHER_MAX, |budgets| self.hand_over(budgets))
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
