//! What all services and all threads of one server share, and the few things that unary calls and sessions do alike.

use std::sync::Arc;

use permitd_budget::{Acquired, Outcome, PermitKey, Report, Reported, Request, Time};
use permitd_proto::v1;
use tokio::sync::watch;

use crate::{
    alarm::Alarms,
    auth::{Caller, Gate, Holder},
    cell::{Cell, IN_FLIGHT_MAX, NotTaken},
    clock::Clock,
    cluster::Cluster,
    config::{BudgetName, ServerConfig},
    http::Phase,
    inbox::{Delivery, Inbox, News, Waiter},
    metrics::Metrics,
    permit_id::PermitIds,
    pool::Pool,
    profile::GENERIC,
    registry::{Registry, RegistryError},
    session::Sessions,
    status::Fault,
    tls::Tls,
    traces::Traces,
    wire::{decode, encode},
};

/// Bytes of a permit_id that are worth sending back.
const PERMIT_ID_BYTES_MAX: usize = 256;

/// One server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// For streams. Budgets have a thread of their own, so that no grant is late for the sake of a stream.
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) config: ServerConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) permit_ids: PermitIds,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) gate: Gate,
    /// `None`: in the clear.
    pub(crate) tls: Option<Arc<Tls>>,
    /// `None`: this server is all there is.
    pub(crate) cluster: Option<Arc<Cluster>>,
}

/// A report that was answered.
pub(crate) struct Answered {
    pub(crate) response: v1::ReportResponse,
    /// Who has to know that the permit ended, if this report is what ended it.
    pub(crate) ended: Option<(Waiter, PermitKey)>,
}

/// Where a budget is.
pub(crate) enum Sought {
    Here(Arc<Cell>),
    Elsewhere(BudgetName),
    /// The name stands for several budgets.
    Pool(Arc<Pool>),
}

/// What became of a request.
pub(crate) enum Asking {
    Here(Arc<Cell>, Acquired),
    /// The budget is another server's.
    Elsewhere(BudgetName),
    /// Nothing was asked: the name stands for several budgets.
    Pool(Arc<Pool>),
}

impl Shared {
    /// Whether the server is about to stop, and lets nobody in.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::HandingOver
    }

    /// Whether all that is still done here is to take reports.
    pub(crate) fn settles(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// The budget that a caller's request names, made if its provider has defaults.
    pub(crate) fn seek(&self, caller: &Caller, provider: &str, key: &str) -> Result<Sought, Fault> {
        let name = BudgetName::new(provider, key)?;
        caller.check_budget(&name)?;
        match self.registry.find_or_make(&name) {
            Ok(cell) => Ok(Sought::Here(cell)),
            Err(RegistryError::Elsewhere { name }) => Ok(Sought::Elsewhere(name)),
            Err(error @ RegistryError::IsPool { .. }) => {
                let pool = self.registry.pool(&name).map(Sought::Pool);
                pool.ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The budget of that name, for a pool of which it is a member.
    pub(crate) fn member(&self, name: &BudgetName) -> Result<Arc<Cell>, Fault> {
        Ok(self.registry.find_or_make(name)?)
    }

    /// Joins the queue of the budget that a request names. `request` is called once, but for budgets deleted meanwhile.
    pub(crate) fn acquire<'a>(
        &self,
        caller: &Caller,
        provider: &str,
        key: &str,
        request: impl Fn() -> Request<'a, Waiter>,
    ) -> Result<Asking, Fault> {
        loop {
            let cell = match self.seek(caller, provider, key)? {
                Sought::Here(cell) => cell,
                Sought::Elsewhere(name) => return Ok(Asking::Elsewhere(name)),
                Sought::Pool(pool) => return Ok(Asking::Pool(pool)),
            };
            match cell.acquire(request()) {
                Ok(acquired) => return Ok(Asking::Here(cell, acquired)),
                // Deleted since it was found. Its name is free: the next look finds a new one, or nothing.
                Err(NotTaken::Gone) => {}
                Err(NotTaken::TooManyPermits) => return Err(too_many_permits(&cell)),
                Err(NotTaken::Refused(refusal)) => return Err(Fault::from(refusal)),
            }
        }
    }

    /// The cell and permit that an id names, if this server issued it to this holder.
    pub(crate) fn permit(&self, holder: Holder, permit_id: &str) -> Option<(Arc<Cell>, PermitKey)> {
        let (id, permit) = self.permit_ids.read(permit_id, holder)?;
        Some((self.registry.by_id(id)?, permit))
    }

    /// Settles a permit. Ids that this server never issued to this holder have no effect.
    pub(crate) fn report(&self, holder: Holder, request: &v1::ReportRequest) -> Result<Answered, Fault> {
        let permit = self.permit(holder, &request.permit_id);
        let report = self.read_report(permit.as_ref().map(|(cell, _)| &**cell), request, self.clock.now())?;
        let settled = permit.and_then(|(cell, permit)| Some((cell.report(permit, &report)?, permit)));
        let (reported, ended) = match settled {
            Some(((reported, waiter), permit)) => (reported, waiter.map(|waiter| (waiter, permit))),
            None => (unknown(report.outcome), None),
        };
        self.metrics.reported(reported.outcome, reported.settled, 1);
        Ok(Answered { response: encode::reported(shown(&request.permit_id).to_owned(), reported), ended })
    }

    /// Reads a report by the profile of the permit's provider, or for a permit that nobody knows by the generic one.
    pub(crate) fn read_report(
        &self,
        cell: Option<&Cell>,
        request: &v1::ReportRequest,
        now: Time,
    ) -> Result<Report, Fault> {
        let profile = cell.map_or_else(|| self.registry.profiles().of(GENERIC), Cell::profile);
        let (report, unreadable) = decode::report(request, profile, now)?;
        self.metrics.unreadable(&unreadable);
        Ok(report)
    }

    /// The wire's permit for a grant.
    pub(crate) fn permit_of(&self, holder: Holder, cell: &Cell, grant: permitd_budget::Grant) -> v1::Permit {
        let id = self.permit_ids.write(cell.id(), grant.permit, holder);
        encode::permit(id.as_str().to_owned(), cell.name(), grant)
    }
}

/// More permits of a budget are out than a server keeps.
pub(crate) fn too_many_permits(cell: &Cell) -> Fault {
    let message = format!(
        "{IN_FLIGHT_MAX} permits of {} are neither reported nor expired; report each permit when its call ends",
        cell.name()
    );
    Fault::exhausted("TOO_MANY_PERMITS", cell.name().to_string(), message)
}

/// Tells whoever asked for a permit that it ended.
pub(crate) fn tell_ended(waiter: Waiter, permit: PermitKey) {
    let Waiter { inbox, request_id, .. } = waiter;
    // A closed inbox has nobody who would want to know.
    if inbox.put(Delivery { request_id, what: News::Ended(permit) }).unwrap_or(false) {
        Inbox::wake(&inbox);
    }
}

/// As much of a permit_id as is worth sending back.
pub(crate) fn shown(permit_id: &str) -> &str {
    &permit_id[..permit_id.floor_char_boundary(PERMIT_ID_BYTES_MAX)]
}

/// The answer about a permit that nobody knows: what the outcome alone tells.
pub(crate) fn unknown(outcome: Outcome) -> Reported {
    Reported { outcome, settled: false, retry: outcome.is_worth_retrying(), retry_after: None }
}
