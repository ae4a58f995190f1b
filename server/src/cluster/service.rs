//! `ClusterService`: who the servers are, and steering which budgets each has. What is asked of another server is passed on to it.

use std::{convert::Infallible, fmt, sync::Arc, time::Instant};

use permitd_budget::Time;
use permitd_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Code, Request, Response, Status};

use super::{
    Cluster, Errand, PATIENCE,
    etcd::{
        delete,
        messages::{RequestOp, TxnRequest},
        put,
    },
    peers::on_behalf,
};
use crate::{
    audit::{Entry, What},
    auth::{Caller, Gate},
    config::BudgetName,
    status::{DRAINING_HINT, Fault},
    wire::encode,
};

/// The service.
#[derive(Clone)]
pub(crate) struct Service {
    /// `None`: this server is all there is.
    cluster: Option<Arc<Cluster>>,
    gate: Gate,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn new(cluster: Option<Arc<Cluster>>, gate: Gate) -> Self {
        Self { cluster, gate }
    }

    /// Who asks, for what, and of which cluster.
    fn read<T>(&self, request: Request<T>) -> Result<(Caller, T, &Arc<Cluster>), Fault> {
        let caller = self.gate.caller(request.extensions())?;
        let cluster = self.cluster.as_ref().ok_or_else(|| {
            let message = "this server runs alone; several are one when each is started with `--cluster`";
            Fault::new(Code::FailedPrecondition, "NOT_CLUSTERED", message)
        })?;
        Ok((caller, request.into_inner(), cluster))
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let (_, _, cluster) = self.read(request)?;
        Ok(Response::new(cluster.told()))
    }

    async fn move_budget(
        &self,
        request: Request<v1::MoveBudgetRequest>,
    ) -> Result<Response<v1::MoveBudgetResponse>, Status> {
        let (caller, request, cluster) = self.read(request)?;
        let budget = BudgetName::new(&request.provider, &request.key).map_err(Fault::from)?;
        caller.check_budget(&budget)?;
        // There is such a budget, and somebody has it or gets it.
        cluster.find(&budget, Errand::Use, &caller).await?;
        cluster.can_enter()?;
        let server = request.server;
        if server.is_empty() {
            cluster.unpin(&budget).await?;
        } else {
            cluster.pin(&budget, &server).await?;
        }
        tracing::info!(%budget, server, who = caller.name(), "is moved");
        cluster.enter_steered(&caller, What::Move, Some(&budget), &server).await?;
        if !server.is_empty() {
            let is_there = |cluster: &Cluster| cluster.directory.read().owner(&budget) == Some(&*server);
            cluster.until(&budget.to_string(), is_there).await?;
        }
        let owner = cluster.directory.read().owner(&budget).unwrap_or_default().to_owned();
        Ok(Response::new(v1::MoveBudgetResponse { owner }))
    }

    async fn drain_server(
        &self,
        request: Request<v1::DrainServerRequest>,
    ) -> Result<Response<v1::DrainServerResponse>, Status> {
        let (caller, request, cluster) = self.read(request)?;
        let v1::DrainServerRequest { server, undo } = request;
        if server != cluster.name {
            let peer = cluster.peer(&server).filter(|_| !caller.is_passed());
            let peer = peer.ok_or_else(|| server_unknown(&server))?;
            let request = on_behalf(&caller, v1::DrainServerRequest { server, undo });
            return cluster.peers().cluster(&peer)?.drain_server(request).await;
        }
        if !undo {
            cluster.check_others_take()?;
        }
        cluster.can_enter()?;
        let what = if undo { What::Undrain } else { What::Drain };
        tracing::info!(what = what.name(), who = caller.name(), "whether this server takes budgets");
        // It goes on when nobody waits for it any more: what is half given up would be nobody's.
        let draining = Arc::clone(cluster);
        tokio::spawn(async move { draining.drain(undo).await })
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        cluster.enter_steered(&caller, what, None, &server).await?;
        if !undo {
            cluster.until("the budgets", |cluster| cluster.registry.seats().is_empty()).await?;
        }
        Ok(Response::new(v1::DrainServerResponse {}))
    }
}

impl Cluster {
    /// The servers, as this one knows them.
    fn told(&self) -> v1::GetClusterResponse {
        let directory = self.directory.read();
        let members = directory.members().map(|(name, row)| {
            let since = Some(Time::from_nanos(row.since_nanos)).filter(|since| *since > Time::ZERO);
            let seen = directory.clock_of(&row.instance);
            v1::ClusterMember {
                name: name.to_owned(),
                address: row.address.clone(),
                version: row.version.clone(),
                owned_budgets: u32::try_from(directory.owned(name)).unwrap_or(u32::MAX),
                leased_at: since.map(encode::timestamp),
                heard_ago: seen.map(|seen| encode::duration(seen.at.elapsed())),
                drained: row.leaving,
            }
        });
        v1::GetClusterResponse {
            members: members.collect(),
            answered_by: self.name.clone(),
            ownerless_budgets: u32::try_from(directory.orphans().count()).unwrap_or(u32::MAX),
            lease: Some(encode::duration(self.lease)),
        }
    }

    /// Has a budget move to a server, and stay there.
    async fn pin(&self, budget: &BudgetName, server: &str) -> Result<(), Fault> {
        let takes = self.directory.read().member(server).map(|row| !row.leaving);
        match takes {
            None => return Err(server_unknown(server)),
            Some(false) => {
                let message = format!(
                    "{server} was drained or is about to stop; let it take budgets again with `permitd cluster drain {server} --undo`"
                );
                return Err(Fault::new(Code::FailedPrecondition, "SERVER_DRAINED", message));
            }
            Some(true) => {}
        }
        self.write(put(self.keys.pin(budget), server.as_bytes().to_vec(), 0)).await
    }

    /// A budget may be wherever the cluster likes.
    ///
    /// # Errors
    /// etcd can't be reached.
    pub(crate) async fn unpin(&self, budget: &BudgetName) -> Result<(), Fault> {
        if self.directory.read().is_pinned(budget) {
            self.write(delete(self.keys.pin(budget))).await?;
        }
        Ok(())
    }

    async fn write(&self, op: RequestOp) -> Result<(), Fault> {
        let request = TxnRequest { compare: Vec::new(), success: vec![op], failure: Vec::new() };
        let written = self.etcd.txn(request).await;
        written.map(drop).map_err(|status| {
            let message = format!("etcd can't be written ({}); nothing was changed", status.message());
            Fault::new(Code::Unavailable, "STORE_UNAVAILABLE", message).after(DRAINING_HINT)
        })
    }

    /// Refuses to be steered while that can't be entered into the audit trail.
    fn can_enter(&self) -> Result<(), Fault> {
        match self.registry.keeper() {
            Some(keeper) if keeper.is_failing() => Err(Fault::store_unavailable("nothing was changed")),
            _ => Ok(()),
        }
    }

    /// Enters into the audit trail what somebody steered, and waits until that is written down.
    async fn enter_steered(
        &self,
        caller: &Caller,
        what: What,
        budget: Option<&BudgetName>,
        server: &str,
    ) -> Result<(), Fault> {
        // A budget is moved as it is.
        let declared = budget.and_then(|name| Some(self.directory.read().budget(name)?.1.declared.clone()));
        let entry = Entry {
            number: 0,
            at: self.clock.now(),
            who: caller.name().to_owned(),
            what,
            budget: budget.cloned(),
            server: server.to_owned(),
            before: declared.clone(),
            after: declared,
            reason: String::new(),
        };
        let entered: Result<(), Infallible> = self.trail.make(|| Ok(((), entry)));
        let Ok(()) = entered;
        let Some(keeper) = self.registry.keeper() else { return Ok(()) };
        let written = keeper.flush().await;
        written.map_err(|_| Fault::store_unavailable("it was done, but is not in the audit trail yet"))
    }

    /// Refuses to be the last that takes budgets.
    pub(super) fn check_others_take(&self) -> Result<(), Fault> {
        let directory = self.directory.read();
        if directory.members().any(|(name, row)| name != self.name && !row.leaving) {
            return Ok(());
        }
        let message = format!("no other server would take the budgets of {}; start one first", self.name);
        Err(Fault::new(Code::FailedPrecondition, "SERVER_DRAINED", message))
    }

    /// Waits until something has come about.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Fault> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > end {
                let message = format!(
                    "{what} could not be handed over within {PATIENCE:?}; it goes on, see `permitd cluster status`"
                );
                return Err(Fault::new(Code::Unavailable, "NOT_MOVED", message).after(DRAINING_HINT));
            }
            self.change().await;
        }
        Ok(())
    }
}

fn server_unknown(server: &str) -> Fault {
    let message =
        format!("no server of the cluster is called {server:?}; `permitd cluster status` lists them");
    Fault::new(Code::NotFound, "SERVER_UNKNOWN", message)
}
