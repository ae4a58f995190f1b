//! `AdminService`: budgets, seen and steered live. Each call decodes, asks the registry, and encodes; changes go through the
//! audit trail, which also puts them in order.

mod elsewhere;
mod lasting;
mod page;
mod pools;
#[cfg(test)]
mod tests;
mod watch;

use std::{fmt, sync::Arc};

use permitd_budget::check_name;
use permitd_proto::v1::{self, admin_service_client::AdminServiceClient, admin_service_server::AdminService};
use tokio::{
    sync::{Semaphore, watch as signal},
    task,
};
use tonic::{Code, Request, Response, Status, transport::Channel};

use self::{
    page::{Pages, Wanted, page_size},
    watch::{Watch, Watched},
};
use crate::{
    audit::{Entry, Trail, What},
    auth::{Caller, Gate},
    cell::{Cell, Declared, Source},
    cluster::{Cluster, Errand},
    config::{Bounds, BudgetName},
    explain::{self, Facts},
    http::Phase,
    metrics::Metrics,
    registry::{Difference, Registry, RegistryError},
    status::Fault,
    wire::budget,
};

pub use crate::wire::budget::{read as read_budget, read_limit, write_limit, write_scheduled};

/// Pools that are told of one budget.
const POOLS: usize = 100;
/// Bytes in a reason.
const REASON_BYTES: usize = 1_024;

/// The service.
#[derive(Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    trail: Arc<Trail>,
    /// `None`: this server is all there is.
    cluster: Option<Arc<Cluster>>,
    metrics: Arc<Metrics>,
    phase: signal::Receiver<Phase>,
    gate: Gate,
    /// Room for more watches.
    watches: Arc<Semaphore>,
    watches_max: usize,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Admin {
    /// Steers `registry`. Clones share everything, so each worker has one.
    #[must_use]
    pub(crate) fn new(
        registry: Arc<Registry>,
        trail: Arc<Trail>,
        cluster: Option<Arc<Cluster>>,
        metrics: Arc<Metrics>,
        phase: signal::Receiver<Phase>,
        gate: Gate,
        bounds: &Bounds,
    ) -> Self {
        let watches = Arc::new(Semaphore::new(bounds.watches));
        Self { registry, trail, cluster, metrics, phase, gate, watches, watches_max: bounds.watches }
    }

    /// Who asks, and for what.
    fn read<T>(&self, request: Request<T>) -> Result<(Caller, T), Fault> {
        let caller = self.gate.caller(request.extensions())?;
        Ok((caller, request.into_inner()))
    }

    /// Makes a change that does not replace what is declared.
    async fn steer(
        &self,
        caller: &Caller,
        name: &BudgetName,
        what: What,
        reason: String,
        act: impl FnOnce(&Cell),
    ) -> Result<(), Fault> {
        let begun = self.can_last()?;
        let made = self.trail.make(|| {
            let cell = self.registry.steer(name, act)?;
            let declared = Some(cell.declared());
            Ok(((), self.entry(caller, name, what, declared.clone(), declared, reason)))
        });
        made.map_err(|error: RegistryError| Fault::from(error))?;
        self.durable(begun).await
    }

    fn entry(
        &self,
        caller: &Caller,
        name: &BudgetName,
        what: What,
        before: Option<Declared>,
        after: Option<Declared>,
        reason: String,
    ) -> Entry {
        let (at, who, budget) = (self.registry.clock().now(), caller.name().to_owned(), Some(name.clone()));
        Entry { number: 0, at, who, what, budget, server: String::new(), before, after, reason }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.get_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Use, &request, call).await? {
            return Ok(answer);
        }
        let cell = self.registry.find(&name).map_err(Fault::from)?;
        Ok(Response::new(v1::GetBudgetResponse { state: Some(state(&cell)) }))
    }

    async fn explain_budget(
        &self,
        request: Request<v1::ExplainBudgetRequest>,
    ) -> Result<Response<v1::ExplainBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.explain_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Use, &request, call).await? {
            return Ok(answer);
        }
        let cell = self.registry.find(&name).map_err(Fault::from)?;
        let (declared, (snapshot, standing, now)) = together(&cell, Cell::explain);
        let pools = self.registry.pools_of(&name, POOLS, |pool| caller.may_see(pool));
        let facts = Facts { name: &name, snapshot: &snapshot, standing: &standing, pools: &pools, now };
        let state = budget::write_state(&cell, &declared, snapshot.clone());
        let pools = pools.iter().map(pools::named).collect();
        Ok(Response::new(v1::ExplainBudgetResponse { pools, ..explain::write(&facts, state) }))
    }

    async fn list_budgets(
        &self,
        request: Request<v1::ListBudgetsRequest>,
    ) -> Result<Response<v1::ListBudgetsResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let wanted = Wanted::read(caller.clone(), &request.filter)?;
        let pages = Pages::new("budgets", &request.filter);
        let after = pages.read::<BudgetName>(&request.page_token)?;
        let (registry, most) = (Arc::clone(&self.registry), page_size(request.page_size)?);
        let own = wanted.clone();
        // Looks at many budgets: off the threads that hand out permits. It fails only where the server stops.
        let found = task::spawn_blocking(move || page::find(&registry, &own, after, most)).await;
        let found = found.map_err(|_| Fault::draining())?;
        let found = self.list_everywhere(&caller, &wanted, &request, found, most).await?;
        let next_page_token = found.next.map(|last| pages.write(&last)).unwrap_or_default();
        Ok(Response::new(v1::ListBudgetsResponse { states: found.states, next_page_token }))
    }

    async fn set_budget(
        &self,
        request: Request<v1::SetBudgetRequest>,
    ) -> Result<Response<v1::SetBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let whole = self.cluster.is_some().then(|| request.clone());
        let v1::SetBudgetRequest { budget: declared, validate_only, reason } = request;
        let reason = read_reason(reason)?;
        let declared = declared.ok_or_else(|| Fault::invalid("budget", "is missing"))?;
        let (name, spec) = budget::read(&declared).map_err(|fault| fault.within("budget"))?;
        caller.check_budget(&name)?;
        if let Some(whole) = whole {
            let call = |mut client: AdminServiceClient<Channel>, request| async move {
                client.set_budget(request).await
            };
            if let Some(answer) = self.at_owner(&caller, &name, Errand::Declare, &whole, call).await? {
                return Ok(answer);
            }
        }
        let set = |dry| self.registry.set(&name, spec, Source::Admin, &declared.etag, dry);
        let change = if validate_only {
            let mut change = set(true).map_err(Fault::from)?;
            // Nothing changed, so the etag that stands is the one to give in the real request.
            let stands = change.before.as_ref().map(|before| before.etag.clone());
            if let Some(after) = &mut change.after {
                after.etag = stands.unwrap_or_default();
            }
            change
        } else {
            let begun = self.can_last()?;
            let made = self.trail.make(|| {
                let change = set(false)?;
                let (before, after) = (change.before.clone(), change.after.clone());
                Ok((change, self.entry(&caller, &name, What::Set, before, after, reason)))
            });
            let change = made.map_err(|error: RegistryError| Fault::from(error))?;
            self.durable(begun).await?;
            change
        };
        let budget = change.after.map(|after| budget::write(&name, &after));
        Ok(Response::new(v1::SetBudgetResponse { budget }))
    }

    async fn delete_budget(
        &self,
        request: Request<v1::DeleteBudgetRequest>,
    ) -> Result<Response<v1::DeleteBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.delete_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Use, &request, call).await? {
            return Ok(answer);
        }
        let begun = self.can_last()?;
        let made = self.trail.make(|| {
            let change = self.registry.delete(&name, &request.etag)?;
            Ok(((), self.entry(&caller, &name, What::Delete, change.before, change.after, String::new())))
        });
        made.map_err(|error: RegistryError| Fault::from(error))?;
        self.durable(begun).await?;
        if let Some(cluster) = &self.cluster {
            cluster.unpin(&name).await?;
        }
        Ok(Response::new(v1::DeleteBudgetResponse {}))
    }

    async fn diff_budgets(
        &self,
        request: Request<v1::DiffBudgetsRequest>,
    ) -> Result<Response<v1::DiffBudgetsResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let wanted = Wanted::read(caller.clone(), &request.filter)?;
        let pages = Pages::new("differences", &request.filter);
        let after = pages.read::<BudgetName>(&request.page_token)?;
        let (registry, most) = (Arc::clone(&self.registry), page_size(request.page_size)?);
        // Looks at all budgets, as a list of them does.
        let found = task::spawn_blocking(move || registry.differences()).await;
        let found = found.map_err(|_| Fault::draining())?;
        let own = found.into_iter().map(|found| (found.name.clone(), difference(found)));
        let elsewhere = self.differences_elsewhere(&caller, &request.filter).await?;
        let mut found: Vec<_> = own.chain(elsewhere).collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut left = found
            .into_iter()
            .filter(|(name, _)| after.as_ref().is_none_or(|after| name > after) && wanted.holds_for(name));
        let (differences, more) = page::fill(left.by_ref().take(most).map(|(_, found)| found));
        let more = more || left.next().is_some();
        let last = differences.last().filter(|_| more);
        let last =
            last.map(|last| BudgetName::new(&last.provider, &last.key)).transpose().map_err(Fault::from)?;
        let next_page_token = last.map(|last| pages.write(&last)).unwrap_or_default();
        Ok(Response::new(v1::DiffBudgetsResponse { differences, next_page_token }))
    }

    async fn reset_budget(
        &self,
        request: Request<v1::ResetBudgetRequest>,
    ) -> Result<Response<v1::ResetBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.reset_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Declare, &request, call).await? {
            return Ok(answer);
        }
        let reason = read_reason(request.reason)?;
        let begun = self.can_last()?;
        let made = self.trail.make(|| {
            let change = self.registry.reset(&name, &request.etag)?;
            let (before, after) = (change.before.clone(), change.after.clone());
            Ok((change, self.entry(&caller, &name, What::Reset, before, after, reason)))
        });
        let change = made.map_err(|error: RegistryError| Fault::from(error))?;
        self.durable(begun).await?;
        let budget = change.after.map(|after| budget::write(&name, &after));
        Ok(Response::new(v1::ResetBudgetResponse { budget }))
    }

    async fn pause_budget(
        &self,
        request: Request<v1::PauseBudgetRequest>,
    ) -> Result<Response<v1::PauseBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.pause_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Use, &request, call).await? {
            return Ok(answer);
        }
        let reason = read_reason(request.reason)?;
        self.steer(&caller, &name, What::Pause, reason, Cell::pause).await?;
        Ok(Response::new(v1::PauseBudgetResponse {}))
    }

    async fn resume_budget(
        &self,
        request: Request<v1::ResumeBudgetRequest>,
    ) -> Result<Response<v1::ResumeBudgetResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let call = |mut client: AdminServiceClient<Channel>, request| async move {
            client.resume_budget(request).await
        };
        if let Some(answer) = self.at_owner(&caller, &name, Errand::Use, &request, call).await? {
            return Ok(answer);
        }
        self.steer(&caller, &name, What::Resume, String::new(), Cell::resume).await?;
        Ok(Response::new(v1::ResumeBudgetResponse {}))
    }

    type WatchBudgetsStream = Watch;

    async fn watch_budgets(
        &self,
        request: Request<v1::WatchBudgetsRequest>,
    ) -> Result<Response<Watch>, Status> {
        let (caller, request) = self.read(request)?;
        let wanted = Wanted::read(caller, &request.filter)?;
        let interval = watch::read_interval(request.interval.as_ref())?;
        let room = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            let message =
                format!("{} watches at once; end one, or raise server.bounds.watches", self.watches_max);
            Fault::exhausted("TOO_MANY_WATCHES", "server.bounds.watches", message)
        })?;
        let registry = Arc::clone(&self.registry);
        let gauge = self.metrics.watches.clone();
        let cluster = self.cluster.clone().filter(|_| !wanted.caller().is_passed());
        let watched = Watched { registry, cluster, wanted };
        Ok(Response::new(Watch::new(watched, interval, self.phase.clone(), room, gauge)))
    }

    async fn get_pool(
        &self,
        request: Request<v1::GetPoolRequest>,
    ) -> Result<Response<v1::GetPoolResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let name = read_name(&caller, &request.provider, &request.key)?;
        let pool = self.registry.pool(&name).ok_or_else(|| {
            let message = format!("there is no pool {name}; the configuration declares pools, under [pools]");
            Fault::new(Code::NotFound, "POOL_UNKNOWN", message)
        })?;
        Ok(Response::new(v1::GetPoolResponse { pool: Some(pools::write(&self.registry, &pool)) }))
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let wanted = Wanted::read(caller, &request.filter)?;
        let pages = Pages::new("pools", &request.filter);
        let after = pages.read::<BudgetName>(&request.page_token)?;
        let (registry, most) = (Arc::clone(&self.registry), page_size(request.page_size)?);
        // Looks at many budgets, as a list of them does.
        let found = task::spawn_blocking(move || pools::find(&registry, &wanted, after.as_ref(), most)).await;
        let (pools, next) = found.map_err(|_| Fault::draining())?;
        let next_page_token = next.map(|last| pages.write(&last)).unwrap_or_default();
        Ok(Response::new(v1::ListPoolsResponse { pools, next_page_token }))
    }

    async fn list_changes(
        &self,
        request: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        let (caller, request) = self.read(request)?;
        let v1::ListChangesRequest { provider, key, page_size: size, page_token } = request;
        check_name("provider", &provider, true).map_err(Fault::from)?;
        check_name("key", &key, true).map_err(Fault::from)?;
        let most = page_size(size)?;
        let pages = Pages::new("changes", &format!("{provider}/{key}"));
        let before = pages.read::<u64>(&page_token)?;
        let wanted = |name: Option<&BudgetName>| match name {
            Some(name) => {
                (provider.is_empty() || name.provider() == provider)
                    && (key.is_empty() || name.key() == key)
                    && caller.may_see(name)
            }
            // What was done to a server touches all budgets.
            None => provider.is_empty() && key.is_empty() && caller.may_see_all(),
        };
        // One more than wanted tells whether there is another page.
        let entries = self.trail.page(before, most + 1, wanted);
        let (changes, more) = page::fill(entries.iter().take(most).map(|entry| entry.to_wire()));
        let shown = changes.len();
        let next = (more || entries.len() > shown).then(|| entries[shown - 1].number);
        let next_page_token = next.map(|number| pages.write(&number)).unwrap_or_default();
        Ok(Response::new(v1::ListChangesResponse { changes, next_page_token }))
    }
}

/// The name of a budget that the caller may use.
fn read_name(caller: &Caller, provider: &str, key: &str) -> Result<BudgetName, Fault> {
    let name = BudgetName::new(provider, key)?;
    caller.check_budget(&name)?;
    Ok(name)
}

fn read_reason(reason: String) -> Result<String, Fault> {
    if reason.len() > REASON_BYTES {
        return Err(Fault::invalid("reason", format!("{} bytes; at most {REASON_BYTES}", reason.len())));
    }
    Ok(reason)
}

/// What is declared and how it stands, of the same moment: looked at again if a change came in between.
fn state(cell: &Cell) -> v1::BudgetState {
    let (declared, snapshot) = together(cell, Cell::snapshot);
    budget::write_state(cell, &declared, snapshot)
}

fn together<T>(cell: &Cell, look: impl Fn(&Cell) -> T) -> (Declared, T) {
    let mut declared = cell.declared();
    loop {
        let seen = look(cell);
        let now = cell.declared();
        if now.etag == declared.etag {
            return (declared, seen);
        }
        declared = now;
    }
}

fn difference(found: Difference) -> v1::BudgetDifference {
    let Difference { name, configured, in_force } = found;
    let configured = configured.map(|spec| Declared { spec, etag: String::new(), source: Source::Config });
    v1::BudgetDifference {
        provider: name.provider().to_owned(),
        key: name.key().to_owned(),
        configured: configured.map(|declared| budget::write(&name, &declared)),
        in_force: in_force.map(|declared| budget::write(&name, &declared)),
    }
}
