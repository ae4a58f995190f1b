//! This server's lease: as long as etcd has it, what the server claimed is its own. The server stops granting when the lease could have
//! lapsed by its own clock, without asking anybody; from then on it owns nothing, whatever etcd would say.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use permitd_budget::Time;
use prost::Message as _;
use tonic::Status;

use super::{
    Cluster,
    directory::MemberRow,
    etcd::{made_at, messages::TxnRequest, put},
};

/// Of a lease, how much of its end is not used: clocks of two machines run apart by far less in that time.
const MARGIN_PART: u32 = 20;
/// How often a lease is renewed within its time.
const RENEWALS: u32 = 5;
/// Between two tries to come back.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// What claims stand on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The lease.
    pub(crate) lease: i64,
    /// When it was granted.
    since: Time,
    /// At which this server's own key was made: it is there for as long as the lease.
    pub(crate) member_revision: i64,
    /// When the lease may have lapsed.
    ends: Instant,
}

impl Cluster {
    /// Gets a lease, and tells the others that this server is there. `None`: another server has its name.
    pub(super) async fn enter(&self) -> Result<Option<()>, Status> {
        let asked = Instant::now();
        let since = self.clock.now();
        let (lease, ttl) = self.etcd.grant_lease(self.lease).await?;
        let key = self.keys.member(&self.name);
        let response = self
            .etcd
            .txn(TxnRequest {
                compare: vec![made_at(key.clone(), 0)],
                success: vec![put(key, self.row(since), lease)],
                failure: Vec::new(),
            })
            .await?;
        if !response.succeeded {
            self.etcd.revoke_lease(lease).await?;
            return Ok(None);
        }
        let member_revision = response.header.map_or(0, |header| header.revision);
        let ends = usable(asked, ttl);
        *self.standing.lock() = Some(Standing { lease, since, member_revision, ends });
        self.registry.grant_until(self.time_of(ends));
        Ok(Some(()))
    }

    /// Keeps the lease, and comes back with a new one if it was lost.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.lease / RENEWALS).await;
            let Some(standing) = *self.standing.lock() else {
                self.come_back().await;
                continue;
            };
            let asked = Instant::now();
            match self.etcd.keep_alive(standing.lease).await {
                Ok(Some(ttl)) => self.renewed(usable(asked, ttl)),
                Ok(None) => self.step_down("etcd has ended this server's lease"),
                Err(status) if standing.ends <= Instant::now() => {
                    tracing::error!(error = status.message(), "etcd can't be reached");
                    self.step_down("this server's lease may have lapsed");
                }
                Err(status) => tracing::warn!(error = status.message(), "the lease could not be renewed yet"),
            }
            if let Err(status) = self.tell_of_itself(&standing).await {
                tracing::debug!(error = status.message(), "the others could not be told the time");
            }
        }
    }

    fn renewed(&self, ends: Instant) {
        let mut standing = self.standing.lock();
        let Some(standing) = &mut *standing else { return };
        standing.ends = ends;
        self.registry.grant_until(self.time_of(ends));
    }

    /// Gives up all budgets at once: they may be another's by now.
    fn step_down(&self, why: &str) {
        let mut standing = self.standing.lock();
        *standing = None;
        self.registry.grant_until(Time::ZERO);
        let seats = self.registry.seats();
        tracing::error!(budgets = seats.len(), why, "gives up its budgets until etcd gives it another lease");
        let giving_up = self.registry.losses().begin();
        self.owned.clear();
        for budget in &seats {
            self.registry.unseat(budget, false);
        }
        drop(giving_up);
        drop(standing);
        self.tell_change();
    }

    async fn come_back(&self) {
        match self.enter().await {
            Ok(Some(())) => {
                tracing::warn!("has a lease again");
                self.tell_change();
            }
            // Its own old key is there until the old lease has ended in etcd, too.
            Ok(None) | Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }

    /// Tells the others what time it is here, and whether this server takes no budgets.
    pub(super) async fn tell_of_itself(&self, standing: &Standing) -> Result<(), Status> {
        let key = self.keys.member(&self.name);
        let request = TxnRequest {
            compare: vec![made_at(key.clone(), standing.member_revision)],
            success: vec![put(key, self.row(standing.since), standing.lease)],
            failure: Vec::new(),
        };
        self.etcd.txn(request).await.map(drop)
    }

    fn row(&self, since: Time) -> Vec<u8> {
        let row = MemberRow::now(&self.address, &self.instance, self.takes_none(), since, &self.clock);
        MemberRow { clients: Some(self.for_clients.clone()), ..row }.encode_to_vec()
    }

    /// The budgets' time of a moment to come.
    fn time_of(&self, at: Instant) -> Time {
        self.clock.now() + at.saturating_duration_since(Instant::now())
    }
}

/// Until when a lease of that ttl counts that was asked for then.
fn usable(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl - ttl / MARGIN_PART
}
