//! What all services and all threads of one server share, and the few things that unary calls and sessions do alike.

use std::sync::Arc;

use permitd_budget::{Acquired, Outcome, PermitKey, Reported, Request};
use permitd_proto::v1;
use tokio::sync::watch;

use crate::{
    alarm::Alarms,
    cell::{Cell, IN_FLIGHT_MAX, NotTaken},
    clock::Clock,
    config::{BudgetName, ServerConfig},
    http::Phase,
    inbox::{Delivery, Inbox, News, Waiter},
    metrics::Metrics,
    permit_id::PermitIds,
    registry::Registry,
    session::Sessions,
    status::Fault,
    tls::Tls,
    wire::{decode, encode},
};

/// Bytes of a permit_id that are worth sending back.
const PERMIT_ID_BYTES_MAX: usize = 256;
/// Cells that one stream keeps at hand: few enough to be compared one by one.
const RECENT_CELLS_MAX: usize = 8;

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
    pub(crate) phase: watch::Receiver<Phase>,
    /// `None`: in the clear.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// A report that was answered.
pub(crate) struct Answered {
    pub(crate) response: v1::ReportResponse,
    /// Who has to know that the permit ended, if this report is what ended it.
    pub(crate) ended: Option<(Waiter, PermitKey)>,
}

/// The cells that a stream used last, so that the next request for one of them needs no look-up.
#[derive(Debug, Default)]
pub(crate) struct RecentCells {
    cells: Vec<Arc<Cell>>,
    /// The next to be replaced.
    oldest: usize,
}

impl Shared {
    /// Whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// The budget that a request names, made if its provider has defaults.
    pub(crate) fn cell(
        &self,
        recent: &mut RecentCells,
        provider: &str,
        key: &str,
    ) -> Result<Arc<Cell>, Fault> {
        if let Some(cell) = recent.cells.iter().find(|cell| RecentCells::is_named(cell, provider, key)) {
            return Ok(Arc::clone(cell));
        }
        let cell = self.registry.find_or_make(&BudgetName::new(provider, key)?)?;
        recent.keep(Arc::clone(&cell));
        Ok(cell)
    }

    /// Joins the queue of the budget that a request names. `request` is called once, but for budgets deleted meanwhile.
    pub(crate) fn acquire<'a>(
        &self,
        recent: &mut RecentCells,
        provider: &str,
        key: &str,
        request: impl Fn() -> Request<'a, Waiter>,
    ) -> Result<(Arc<Cell>, Acquired), Fault> {
        loop {
            let cell = self.cell(recent, provider, key)?;
            match cell.acquire(request()) {
                Ok(acquired) => return Ok((cell, acquired)),
                // Deleted since it was found. Its name is free: the next look finds a new one, or nothing.
                Err(NotTaken::Gone) => recent.forget(&cell),
                Err(NotTaken::TooManyPermits) => return Err(too_many_permits(&cell)),
                Err(NotTaken::Refused(refusal)) => return Err(Fault::from(refusal)),
            }
        }
    }

    /// The cell and permit that an id names, if this server issued it.
    pub(crate) fn permit(&self, recent: &RecentCells, permit_id: &str) -> Option<(Arc<Cell>, PermitKey)> {
        let (id, permit) = self.permit_ids.read(permit_id)?;
        Some((self.cell_by_id(recent, id)?, permit))
    }

    /// The cell of a permit that this server issued.
    pub(crate) fn cell_by_id(&self, recent: &RecentCells, id: u32) -> Option<Arc<Cell>> {
        match recent.cells.iter().find(|cell| cell.id() == id) {
            Some(cell) => Some(Arc::clone(cell)),
            None => self.registry.by_id(id),
        }
    }

    /// Settles a permit. Ids that this server never issued have no effect. A fault comes with the permit_id, for the answer.
    pub(crate) fn report(
        &self,
        recent: &RecentCells,
        request: v1::ReportRequest,
    ) -> Result<Answered, (Fault, String)> {
        let report = match decode::report(&request) {
            Ok(report) => report,
            Err(fault) => return Err((fault, shown(request.permit_id))),
        };
        let (reported, ended) = match self.permit(recent, &request.permit_id) {
            Some((cell, permit)) => {
                let (reported, waiter) = cell.report(permit, &report);
                (reported, waiter.map(|waiter| (waiter, permit)))
            }
            None => (unknown(report.outcome), None),
        };
        self.metrics.reported(reported.outcome, reported.settled);
        Ok(Answered { response: encode::reported(shown(request.permit_id), reported), ended })
    }

    /// The wire's permit for a grant.
    pub(crate) fn permit_of(&self, cell: &Cell, grant: permitd_budget::Grant) -> v1::Permit {
        encode::permit(self.permit_ids.write(cell.id(), grant.permit), cell.name(), grant)
    }
}

impl RecentCells {
    /// Whether this is the budget that a request names. An empty key never is: it stands for another.
    pub(crate) fn is_named(cell: &Cell, provider: &str, key: &str) -> bool {
        cell.name().key() == key && cell.name().provider() == provider
    }

    fn keep(&mut self, cell: Arc<Cell>) {
        if self.cells.len() < RECENT_CELLS_MAX {
            return self.cells.push(cell);
        }
        self.cells[self.oldest] = cell;
        self.oldest = (self.oldest + 1) % RECENT_CELLS_MAX;
    }

    fn forget(&mut self, gone: &Arc<Cell>) {
        self.cells.retain(|cell| !Arc::ptr_eq(cell, gone));
        self.oldest = 0;
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
    let Waiter { inbox, request_id } = waiter;
    // A closed inbox has nobody who would want to know.
    if inbox.put(Delivery { request_id, what: News::Ended(permit) }).unwrap_or(false) {
        Inbox::wake(&inbox);
    }
}

/// As much of a permit_id as is worth sending back.
pub(crate) fn shown(mut permit_id: String) -> String {
    if permit_id.len() > PERMIT_ID_BYTES_MAX {
        let end = (0..=PERMIT_ID_BYTES_MAX).rev().find(|&end| permit_id.is_char_boundary(end)).unwrap_or(0);
        permit_id.truncate(end);
    }
    permit_id
}

/// The answer about a permit that nobody knows: what the outcome alone tells.
pub(crate) fn unknown(outcome: Outcome) -> Reported {
    Reported { outcome, settled: false, retry: outcome.is_worth_retrying(), retry_after: None }
}
