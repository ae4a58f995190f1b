//! How a budget is taken: it begins with everything counted as granted that its last owner may have granted.
//!
//! Many are taken at a time. One transaction claims those of them that nobody has, and reads what is written down of them: a budget
//! that was handed over is owned again as soon as its new owner has asked etcd once.

use std::time::Duration;

use permitd_budget::{Resumed, Time};
use tonic::Status;

use super::{
    Cluster,
    directory::Seen,
    etcd::{
        made_at,
        messages::{Done, KeyValue, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse},
        put, read, read_first, within_txn,
    },
    lease::Standing,
};
use crate::{
    clock::Pulse,
    config::BudgetName,
    store::{
        self, Kept,
        etcd::{Hold, Loaded},
    },
};

/// How far apart clocks of two machines may be where one has never seen the other's.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(1);
/// Pages of permits that are read along with a claim. Whoever has more is read by itself.
const PAGES_MAX: i64 = 2;

/// A claim that stands.
struct Claim {
    budget: BudgetName,
    /// Whether a request asked for it.
    asked: bool,
    hold: Hold,
    /// An earlier claim of this server's, under which a write may still be on its way.
    is_doubted: bool,
    /// What was written down when it was claimed, if all of that was read along.
    loaded: Option<Loaded>,
}

impl Cluster {
    /// Becomes the owner of those of these budgets that have none: so many as fit into a transaction.
    pub(super) async fn claim(&self, due: &[(BudgetName, bool)]) {
        let standing = *self.standing.lock();
        let Some(standing) = standing.filter(|_| !self.takes_none()) else { return };
        let due: Vec<_> = due.iter().filter(|(budget, _)| !self.registry.is_seated(budget)).collect();
        let Some((first, _)) = due.first() else { return };
        // Some of these may have to be made.
        if let Err(status) = self.need_ids().await {
            tracing::warn!(error = status.message(), "can't get ids for new budgets");
        }
        // What was to be written of them under an earlier claim is written or dropped by then, so that it never is under this one.
        let written = async {
            if let Some(keeper) = self.registry.keeper() {
                let _ = keeper.flush().await;
            }
        };
        let (claims, ()) = tokio::join!(self.claims(&standing, &due), written);
        let claims = match claims {
            Ok(claims) => claims,
            Err(status) => {
                let more = due.len() - 1;
                tracing::warn!(budget = %first, more, error = status.message(), "could not be claimed yet");
                return;
            }
        };
        if claims.is_empty() {
            return;
        }
        let mut kept = Vec::with_capacity(claims.len());
        for mut claim in claims {
            match self.kept(&mut claim).await {
                Ok((loaded, rows)) => kept.push((claim, loaded, rows)),
                Err(status) => {
                    let Claim { budget, .. } = claim;
                    tracing::warn!(%budget, error = status.message(), "could not be claimed yet");
                }
            }
        }
        let unwanted = self.seat(&standing, kept);
        self.tell_change();
        // It has begun to give everything up meanwhile.
        self.release(&unwanted).await;
    }

    /// Claims what nobody has.
    async fn claims(&self, standing: &Standing, due: &[&(BudgetName, bool)]) -> Result<Vec<Claim>, Status> {
        let ids: Vec<Option<u32>> = {
            let directory = self.directory.read();
            due.iter().map(|(budget, _)| directory.budget(budget).map(|(id, _)| *id)).collect()
        };
        let claim = |((budget, _), id): (&&(BudgetName, bool), &Option<u32>)| {
            let owner = self.keys.owner(budget);
            let mut success = vec![put(owner.clone(), self.name.clone().into_bytes(), standing.lease)];
            success.extend(self.read_along(budget, *id));
            within_txn(TxnRequest {
                compare: vec![made_at(owner.clone(), 0)],
                success,
                failure: vec![read(owner)],
            })
        };
        let request = TxnRequest {
            compare: vec![made_at(self.keys.member(&self.name), standing.member_revision)],
            success: due.iter().zip(&ids).map(claim).collect(),
            failure: Vec::new(),
        };
        let TxnResponse { header, responses, .. } = self.etcd.txn(request).await?;
        let now = header.map_or(0, |header| header.revision);
        let mut claims = Vec::new();
        for (((budget, asked), id), response) in due.iter().zip(ids).zip(responses) {
            let Some(Done::Txn(answer)) = response.done else { continue };
            let hold = |revision, written| {
                let (owner, lease) = (self.name.clone(), standing.lease);
                Hold { owner, lease, revision, written }
            };
            let (budget, asked) = (budget.clone(), *asked);
            if answer.succeeded {
                let loaded = read_whole(answer.responses, id);
                claims.push(Claim { budget, asked, hold: hold(now, now), is_doubted: false, loaded });
            } else if let Some(found) =
                ranges(answer.responses).find_map(|range| range.kvs.into_iter().next())
                && found.lease == standing.lease
            {
                let hold = hold(found.create_revision, found.mod_revision);
                claims.push(Claim { budget, asked, hold, is_doubted: true, loaded: None });
            }
        }
        Ok(claims)
    }

    /// Reads what is written down of a budget that probably has that id.
    fn read_along(&self, budget: &BudgetName, id: Option<u32>) -> Vec<RequestOp> {
        let Some(id) = id else { return Vec::new() };
        let (balance, permits) = (self.keys.balance(id), self.keys.permits(id));
        vec![read(self.keys.budget(budget)), read(balance), read_first(permits, PAGES_MAX)]
    }

    /// What is written down of what was claimed.
    async fn kept(&self, claim: &mut Claim) -> Result<(Loaded, Kept), Status> {
        let loaded = match claim.loaded.take() {
            Some(loaded) => loaded,
            None => self.load(&claim.budget).await?,
        };
        let kept = store::gather(|row| {
            loaded.rows.iter().try_for_each(|(table, key, value)| row(*table, key, value))
        });
        let kept = kept.map_err(|error| Status::data_loss(format!("{}: {error}", claim.budget)))?;
        Ok((loaded, kept))
    }

    /// Begins with what was claimed. What is claimed and not wanted any more.
    fn seat(&self, standing: &Standing, claims: Vec<(Claim, Loaded, Kept)>) -> Vec<(BudgetName, i64)> {
        let mut unwanted = Vec::new();
        // Under the lock: a lease that was lost meanwhile has taken the claims with it; and whoever gives everything up has either
        // said so before, or finds what is seated here.
        let now = self.standing.lock();
        if now.is_none_or(|now| now.lease != standing.lease) {
            return unwanted;
        }
        for (Claim { budget, asked, hold, is_doubted, .. }, loaded, kept) in claims {
            if self.registry.is_seated(&budget) {
                continue;
            }
            if self.takes_none() {
                unwanted.push((budget, hold.revision));
                continue;
            }
            let (back, revision) = (self.resumed(&loaded), hold.revision);
            self.owned.claimed(budget.clone(), hold, is_doubted, &loaded.rows);
            // Before it can be given up again.
            self.directory.write().owner_is(budget.clone(), self.name.clone());
            if let Err(error) = self.registry.seat(&budget, kept, &back, asked) {
                tracing::error!(%budget, %error, "can't be owned here");
                if !self.registry.is_seated(&budget) {
                    self.owned.released([&budget]);
                    self.directory.write().owner_left(&budget, &self.name);
                    unwanted.push((budget, revision));
                }
            }
        }
        unwanted
    }

    /// What is written down of a budget.
    async fn load(&self, budget: &BudgetName) -> Result<Loaded, Status> {
        let damaged = || Status::data_loss(format!("what etcd has of {budget} makes no sense"));
        let mut loaded = Loaded::default();
        let Some(KeyValue { value, .. }) = self.etcd.get(&self.keys.budget(budget)).await? else {
            return Ok(loaded);
        };
        let id = loaded.declared(&value).ok_or_else(damaged)?;
        if let Some(balance) = self.etcd.get(&self.keys.balance(id)).await? {
            loaded.balance(id, &balance.value).ok_or_else(damaged)?;
        }
        for page in self.etcd.range(&self.keys.permits(id)).await?.0 {
            loaded.page(id, &page.value).ok_or_else(damaged)?;
        }
        Ok(loaded)
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
}

fn ranges(responses: Vec<ResponseOp>) -> impl Iterator<Item = RangeResponse> {
    responses.into_iter().filter_map(|response| match response.done {
        Some(Done::Range(range)) => Some(range),
        _ => None,
    })
}

/// What [`Cluster::read_along`] has read; `None` if that is not all, or of another budget.
fn read_whole(responses: Vec<ResponseOp>, id: Option<u32>) -> Option<Loaded> {
    let mut ranges = ranges(responses);
    let (budget, balance, permits) = (ranges.next()?, ranges.next()?, ranges.next()?);
    let mut loaded = Loaded::default();
    let read = loaded.declared(&budget.kvs.first()?.value)?;
    if Some(read) != id || permits.more {
        return None;
    }
    if let Some(balance) = balance.kvs.first() {
        loaded.balance(read, &balance.value)?;
    }
    for page in &permits.kvs {
        loaded.page(read, &page.value)?;
    }
    Some(loaded)
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
