//! Budgets that this server takes: each begins with everything counted as granted that its last owner may have granted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{self, StreamExt as _};
use permitd_budget::{Resumed, Time};
use tonic::Status;

use super::{
    Cluster,
    directory::Seen,
    etcd::{
        made_at,
        messages::{Done, KeyValue, TxnRequest},
        put, read, written_at,
    },
};
use crate::{
    clock::Pulse,
    config::BudgetName,
    store::{
        self,
        etcd::{Hold, Loaded},
    },
};

/// Claims under way at once.
pub(super) const CLAIMS_MAX: usize = 16;
/// Between two looks at what nobody owns, and at what others should own.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far apart clocks of two machines may be where one has never seen the other's.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(1);
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
            stream::iter(due)
                .for_each_concurrent(CLAIMS_MAX, |(budget, asked)| {
                    let cluster = &*self;
                    async move {
                        if let Err(status) = cluster.claim(&budget, asked).await {
                            tracing::warn!(%budget, error = status.message(), "could not be claimed yet");
                        }
                    }
                })
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

    /// Becomes the owner of a budget that has none. Nothing happens if it has one.
    async fn claim(&self, budget: &BudgetName, asked: bool) -> Result<(), Status> {
        let standing = *self.standing.lock();
        let Some(standing) = standing.filter(|_| !self.takes_none()) else {
            return Ok(());
        };
        if self.registry.is_seated(budget) {
            return Ok(());
        }
        let (owner, me) = (self.keys.owner(budget), self.keys.member(&self.name));
        let response = self
            .etcd
            .txn(TxnRequest {
                compare: vec![made_at(owner.clone(), 0), made_at(me, standing.member_revision)],
                success: vec![put(owner.clone(), self.name.clone().into_bytes(), standing.lease)],
                failure: vec![read(owner)],
            })
            .await?;
        let (revision, written, is_doubted) = if response.succeeded {
            let revision = response.header.map_or(0, |header| header.revision);
            (revision, revision, false)
        } else {
            let found = response.responses.into_iter().find_map(|response| match response.done {
                Some(Done::Range(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
            // An earlier claim of this server's, under which a write may still be on its way.
            let Some(found) = found.filter(|found| found.lease == standing.lease) else { return Ok(()) };
            (found.create_revision, found.mod_revision, true)
        };
        // What was to be written of it under an earlier claim is written or dropped by now, so that it never is under this one.
        if let Some(keeper) = self.registry.keeper() {
            let _ = keeper.flush().await;
        }
        let (loaded, declared_at) = self.load(budget).await?;
        let back = self.resumed(&loaded);
        let kept = store::gather(|row| {
            loaded.rows.iter().try_for_each(|(table, key, value)| row(*table, key, value))
        });
        let kept = kept.map_err(|error| Status::data_loss(format!("{budget} at {declared_at}: {error}")))?;
        // Under the lock: a lease that was lost meanwhile has taken the claim with it.
        let now = self.standing.lock();
        if now.is_none_or(|now| now.lease != standing.lease) || self.registry.is_seated(budget) {
            return Ok(());
        }
        let hold = Hold { owner: self.name.clone(), lease: standing.lease, revision, written };
        self.owned.claimed(budget.clone(), hold, is_doubted, &loaded.rows);
        // Before it can be given up again.
        self.directory.write().owner_is(budget.clone(), self.name.clone());
        let seated = self.registry.seat(budget, kept, &back, asked);
        drop(now);
        if let Err(error) = seated {
            tracing::error!(%budget, %error, "can't be owned here");
        }
        self.tell_change();
        Ok(())
    }

    /// Sees to budgets that etcd has as this server's though it does not have them: claims and releases of which it never heard what
    /// became. Nobody else could have them while this server's lease lasts. `before`: those of the last look, since what was done
    /// just now may not be known here yet; those of this one are returned.
    async fn see_to_strays(&self, before: &BTreeSet<BudgetName>) -> BTreeSet<BudgetName> {
        let strays = self.strays();
        for budget in strays.intersection(before) {
            tracing::warn!(%budget, "is claimed by this server, which does not have it; sees to it");
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
            self.release(budget, found.create_revision).await;
        }
        Ok(())
    }

    /// What is written down of a budget, and at which revision it was declared.
    async fn load(&self, budget: &BudgetName) -> Result<(Loaded, i64), Status> {
        let damaged = || Status::data_loss(format!("what etcd has of {budget} makes no sense"));
        let mut loaded = Loaded::default();
        let Some(KeyValue { value, create_revision, .. }) = self.etcd.get(&self.keys.budget(budget)).await?
        else {
            return Ok((loaded, 0));
        };
        let id = loaded.declared(&value).ok_or_else(damaged)?;
        if let Some(balance) = self.etcd.get(&self.keys.balance(id)).await? {
            loaded.balance(id, &balance.value).ok_or_else(damaged)?;
        }
        for page in self.etcd.range(&self.keys.permits(id)).await?.0 {
            loaded.page(id, &page.value).ok_or_else(damaged)?;
        }
        Ok((loaded, create_revision))
    }

    /// This moment on the clock that a budget was written down by, and on this server's.
    fn resumed(&self, loaded: &Loaded) -> Resumed {
        let here = self.clock.pulse();
        let Some((writer, pulse)) = &loaded.written_by else { return Resumed::at(here.at) };
        let seen = self.directory.read().clock_of(writer);
        let by_old_clock = match *writer == self.instance {
            true => here.at,
            false => by_old_clock(pulse, seen, &here),
        };
        Resumed { by_old_clock, now: here.at }
    }

    /// Another server has claimed what this one believed to own: nothing of it is granted here any more.
    fn give_up_lost(&self) {
        for budget in self.owned.take_lost() {
            tracing::error!(%budget, "was another server's; gives it up");
            let _standing = self.standing.lock();
            self.owned.released(&budget);
            self.registry.unseat(&budget, false);
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

/// This moment by the clock of a process that last wrote at `pulse`: never later than it really is there, so that nothing refills by
/// mistake.
fn by_old_clock(pulse: &Pulse, seen: Option<Seen>, here: &Pulse) -> Time {
    match (pulse.boot, here.boot, seen) {
        // The same machine: its uptime says it.
        (Some(then), Some(now), _) if then.id == now.id => pulse.at + now.up.saturating_sub(then.up),
        // What its clock showed when it was seen last, and what has passed here since.
        (_, _, Some(seen)) => pulse.at.max(seen.pulse.at + seen.at.elapsed()),
        (_, _, None) => {
            let least = Time::from_nanos(here.at.as_nanos().saturating_sub(SKEW_MAX.as_nanos() as u64));
            pulse.at.max(least)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::clock::Boot;

    /// Goal: time by another's clock goes on by what is known of it, and never further than it can have.
    #[test]
    fn time_by_anothers_clock() {
        let at = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        let boot = |id: u8, seconds| Some(Boot { id: [id; 16], up: Duration::from_secs(seconds) });
        let last = Pulse { at: at(1_000), boot: boot(1, 50) };
        let here = |id, seconds| Pulse { at: at(seconds), boot: boot(id, 60) };
        // The same machine, whatever its date says now.
        assert_eq!(by_old_clock(&last, None, &here(1, 9_000)), at(1_010));
        // Another one that has seen it: its own date does not count.
        let seen = Seen { pulse: Pulse { at: at(1_005), boot: boot(1, 55) }, at: Instant::now() };
        let by_old = by_old_clock(&last, Some(seen), &here(2, 9_000));
        assert!(by_old >= at(1_005) && by_old < at(1_065), "{by_old}");
        // One that has never seen it: dates may be a second apart, and time does not go back.
        assert_eq!(by_old_clock(&last, None, &here(2, 2_000)), at(1_999));
        assert_eq!(by_old_clock(&last, None, &here(2, 500)), at(1_000));
    }
}
