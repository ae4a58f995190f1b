//! Which budgets this server claims and which it gives up, as servers come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{self, StreamExt as _};
use tonic::Status;

use super::{
    Cluster,
    etcd::{WITHIN_TXN_MAX, messages::TxnRequest, put, written_at},
};
use crate::config::BudgetName;

/// Transactions under way at once, each with as many claims as it takes.
const TOGETHER_MAX: usize = 4;
/// Between two looks at what nobody owns, and at what others should own.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Ids that are taken from all servers' at a time, and how few may be left before.
const IDS: u32 = 1_024;
const IDS_LOW: u32 = 256;

impl Cluster {
    /// Claims what is asked for here and what nobody owns, and gives up what others should own, for good.
    pub(super) async fn claim_what_is_due(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut changed = self.changed.subscribe();
        let mut strays = BTreeSet::new();
        loop {
            tokio::select! {
                () = self.wants.notified() => {}
                // It lives as long as this.
                _ = changed.changed() => {}
                () = self.owned.deposed.notified() => self.give_up_lost(),
                _ = look.tick() => {
                    strays = self.see_to_strays(&strays).await;
                    self.give_to_others().await;
                    if let Err(status) = self.need_ids().await {
                        tracing::warn!(error = status.message(), "can't get ids for new budgets");
                    }
                }
            }
            self.give_what_was_moved().await;
            // Each once: two claims of this server's would both hold.
            let mut due: BTreeMap<BudgetName, bool> = self.orphans().into_iter().collect();
            due.append(&mut self.wanted.lock());
            let due: Vec<(BudgetName, bool)> = due.into_iter().collect();
            stream::iter(due.chunks(WITHIN_TXN_MAX))
                .for_each_concurrent(TOGETHER_MAX, |due| self.claim(due))
                .await;
        }
    }

    /// Budgets that nobody owns and that should be this server's.
    fn orphans(&self) -> Vec<(BudgetName, bool)> {
        let configured = self.registry.configured();
        let directory = self.directory.read();
        let new = configured
            .iter()
            .filter(|name| directory.owner(name).is_none() && directory.budget(name).is_none());
        let ours = directory.orphans().chain(new).filter(|name| directory.place(name) == Some(&*self.name));
        ours.map(|name| (name.clone(), false)).collect()
    }

    /// Sees to budgets that etcd has as this server's though it does not have them: claims and releases of which it never heard what
    /// became. Nobody else could have them while this server's lease lasts. `before`: those of the last look, since what was done
    /// just now may not be known here yet; those of this one are returned.
    async fn see_to_strays(&self, before: &BTreeSet<BudgetName>) -> BTreeSet<BudgetName> {
        let strays = self.strays();
        let due: Vec<&BudgetName> = strays.intersection(before).collect();
        if let Some((first, more)) = due.split_first() {
            let more = more.len();
            tracing::warn!(budget = %first, more, "is claimed by this server, which does not have it; sees to it");
        }
        for budget in due {
            if !self.takes_none() {
                self.want(budget);
            } else if let Err(status) = self.release_stray(budget).await {
                tracing::warn!(%budget, error = status.message(), "can't be released yet");
            }
        }
        strays
    }

    fn strays(&self) -> BTreeSet<BudgetName> {
        let seats = self.registry.seats();
        let (on_their_way, directory) = (self.on_their_way.lock(), self.directory.read());
        // Whatever has a seat is known as this server's: as a rule there is nothing to look for.
        if directory.owned(&self.name) <= seats.len() {
            return BTreeSet::new();
        }
        let strays = directory.owned_by(&self.name).filter(|name| !seats.contains(*name));
        strays.filter(|name| !on_their_way.contains(*name)).cloned().collect()
    }

    async fn release_stray(&self, budget: &BudgetName) -> Result<(), Status> {
        let standing = *self.standing.lock();
        let found = self.etcd.get(&self.keys.owner(budget)).await?;
        if let (Some(standing), Some(found)) = (standing, found)
            && found.lease == standing.lease
        {
            self.release(&[(budget.clone(), found.create_revision)]).await;
        }
        Ok(())
    }

    /// Another server has claimed what this one believed to own: nothing of it is granted here any more.
    fn give_up_lost(&self) {
        for budget in self.owned.take_lost() {
            tracing::error!(%budget, "was another server's; gives it up");
            let _standing = self.standing.lock();
            let _giving_up = self.registry.losses().begin();
            // In this order: between the two nothing of it is taken for written.
            self.registry.unseat(&budget, false);
            self.owned.released([&budget]);
        }
        self.tell_change();
    }

    /// Sees to it that there are ids for budgets to come. They are never used twice, by any server.
    pub(super) async fn need_ids(&self) -> Result<(), Status> {
        if self.registry.ids_left() >= IDS_LOW {
            return Ok(());
        }
        let key = self.keys.ids();
        loop {
            let found = self.etcd.get(&key).await?;
            let used = found
                .as_ref()
                .and_then(|found| std::str::from_utf8(&found.value).ok()?.parse().ok())
                .unwrap_or(0);
            let end = u32::checked_add(used, IDS);
            let end = end.ok_or_else(|| Status::resource_exhausted("four billion budgets have been made"))?;
            if used == 0 && found.is_some() {
                return Err(Status::data_loss("the key \"ids\" of the cluster is no number"));
            }
            let written = found.map_or(0, |found| found.mod_revision);
            let request = TxnRequest {
                compare: vec![written_at(key.clone(), written)],
                success: vec![put(key.clone(), end.to_string().into_bytes(), 0)],
                failure: Vec::new(),
            };
            if self.etcd.txn(request).await?.succeeded {
                self.registry.lend_ids(used + 1, end);
                return Ok(());
            }
        }
    }
}
