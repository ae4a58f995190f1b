//! The acquires and reports of one message: read first, then put to each budget in runs under one lock, then answered. Locks
//! are what a busy budget costs most, and nothing that takes long happens under one.

use std::{mem, sync::Arc};

use permitd_budget::{Acquired, PermitKey, Report, Reported, Request};
use permitd_proto::v1::{AcquireRequest, Granted, ReportRequest};

use super::core::Core;
use crate::{
    cell::{Cell, NotTaken},
    inbox::Waiter,
    shared::{RecentCells, Shared, shown, tell_ended, too_many_permits, unknown},
    status::Fault,
    wire::{decode, encode},
};

/// Items under one lock.
const RUN_MAX: usize = 64;

/// Acquires of one budget that were read and not put to it yet.
struct Asking<'a> {
    /// Of requests that name none.
    tenant: &'a str,
    cell: Option<Arc<Cell>>,
    run: Vec<(&'a AcquireRequest, Request<'a, Waiter>)>,
    /// Permits that the run asks for.
    count: usize,
    answers: Vec<Result<Acquired, NotTaken>>,
}

/// Reports on permits of one budget that were read and not put to it yet.
struct Settling {
    cell: Option<Arc<Cell>>,
    run: Vec<(PermitKey, Report, String)>,
    answers: Vec<(Reported, Option<Waiter>)>,
}

impl Core {
    pub(super) fn acquire_all(&mut self, shared: &Shared, requests: &[AcquireRequest]) {
        // Borrowed by the requests below, while the rest of the session changes.
        let tenant = mem::take(&mut self.tenant);
        let room = requests.len().min(RUN_MAX);
        let mut asking = Asking {
            tenant: &tenant,
            cell: None,
            run: Vec::with_capacity(room),
            count: 0,
            answers: Vec::with_capacity(room),
        };
        for request in requests {
            let id = request.request_id;
            if asking.run.iter().any(|(asked, _)| asked.request_id == id) {
                self.ask(shared, &mut asking);
            }
            if self.ledger.find(id).is_some() {
                self.repeat(shared, id);
            } else if let Err(fault) = self.prepare(shared, request, &mut asking) {
                self.refuse(shared, id, fault);
            }
            if asking.run.len() == RUN_MAX {
                self.ask(shared, &mut asking);
            }
        }
        self.ask(shared, &mut asking);
        self.tenant = tenant;
    }

    pub(super) fn report_all(&mut self, shared: &Shared, requests: Vec<ReportRequest>) {
        let room = requests.len().min(RUN_MAX);
        let mut settling =
            Settling { cell: None, run: Vec::with_capacity(room), answers: Vec::with_capacity(room) };
        for request in requests {
            let report = match decode::report(&request) {
                Ok(report) => report,
                Err(fault) => {
                    self.out.refused(fault.into_refused_permit(shown(request.permit_id)));
                    continue;
                }
            };
            let Some((id, permit)) = shared.permit_ids.read(&request.permit_id) else {
                self.answer_unknown(shared, request.permit_id, &report);
                continue;
            };
            if settling.cell.as_ref().is_none_or(|cell| cell.id() != id) || settling.run.len() == RUN_MAX {
                self.settle(shared, &mut settling);
                settling.cell = shared.cell_by_id(&self.recent, id);
            }
            match settling.cell {
                Some(_) => settling.run.push((permit, report, request.permit_id)),
                None => self.answer_unknown(shared, request.permit_id, &report),
            }
        }
        self.settle(shared, &mut settling);
    }

    /// Reads a request and puts it into the run of its budget.
    fn prepare<'a>(
        &mut self,
        shared: &Shared,
        request: &'a AcquireRequest,
        asking: &mut Asking<'a>,
    ) -> Result<(), Fault> {
        let ask = decode::acquire(request, asking.tenant)?;
        let count = ask.count as usize;
        if self.check_room(shared, asking.run.len() + 1, asking.count + count).is_err() {
            // Those before it in the run may not have to wait.
            self.ask(shared, asking);
            self.check_room(shared, 1, count)?;
        }
        let named = |cell: &Arc<Cell>| RecentCells::is_named(cell, &request.provider, &request.key);
        if !asking.cell.as_ref().is_some_and(named) {
            self.ask(shared, asking);
            asking.cell = None;
            asking.cell = Some(shared.cell(&mut self.recent, &request.provider, &request.key)?);
        }
        asking.count += count;
        let waiter = Waiter { inbox: Arc::clone(&self.inbox), request_id: request.request_id };
        asking.run.push((request, ask.for_waiter(waiter)));
        Ok(())
    }

    /// Puts the run to its budget, and answers.
    fn ask(&mut self, shared: &Shared, asking: &mut Asking<'_>) {
        let (Some(cell), false) = (&asking.cell, asking.run.is_empty()) else { return };
        asking.count = 0;
        let (requests, run): (Vec<_>, Vec<_>) = asking.run.drain(..).unzip();
        cell.acquire_all(run.into_iter(), &mut asking.answers);
        self.shares.used(cell, shared, &mut self.out);
        let mut gone = false;
        for (request, answer) in requests.into_iter().zip(asking.answers.drain(..)) {
            let id = request.request_id;
            match answer {
                Ok(acquired) => self.acquired(shared, id, request.count.max(1), cell, acquired),
                Err(NotTaken::Refused(refusal)) => self.refuse(shared, id, Fault::from(refusal)),
                Err(NotTaken::TooManyPermits) => self.refuse(shared, id, too_many_permits(cell)),
                // Deleted since it was found, and perhaps made anew: by itself, with a new look.
                Err(NotTaken::Gone) => {
                    gone = true;
                    self.ask_again(shared, asking.tenant, request);
                }
            }
        }
        if gone {
            asking.cell = None;
        }
    }

    fn ask_again(&mut self, shared: &Shared, tenant: &str, request: &AcquireRequest) {
        let id = request.request_id;
        let asked = decode::acquire(request, tenant).and_then(|ask| {
            shared.acquire(&mut self.recent, &request.provider, &request.key, || {
                ask.clone().for_waiter(Waiter { inbox: Arc::clone(&self.inbox), request_id: id })
            })
        });
        match asked {
            Ok((cell, acquired)) => self.acquired(shared, id, request.count.max(1), &cell, acquired),
            Err(fault) => self.refuse(shared, id, fault),
        }
    }

    fn acquired(&mut self, shared: &Shared, id: u64, count: u32, cell: &Arc<Cell>, acquired: Acquired) {
        match acquired {
            Acquired::Granted(grant) => {
                let permit = shared.permit_of(cell, grant.clone());
                self.ledger.granted_at_once(id, Arc::clone(cell), grant);
                self.out.granted(Granted { request_id: id, permit: Some(permit) });
            }
            Acquired::Waiting(ticket) => {
                self.ledger.waits(id, Arc::clone(cell), ticket, count);
                if self.progress {
                    self.tell_place(id);
                }
            }
        }
    }

    fn refuse(&mut self, shared: &Shared, id: u64, fault: Fault) {
        shared.metrics.refused(fault.reason());
        let refused = fault.into_refused_request(id);
        self.ledger.refused_at_once(id, refused.clone());
        self.out.refused(refused);
    }

    /// Puts the run to its budget, and answers.
    fn settle(&mut self, shared: &Shared, settling: &mut Settling) {
        let (Some(cell), false) = (&settling.cell, settling.run.is_empty()) else { return };
        let reports = settling.run.iter().map(|(permit, report, _)| (*permit, report));
        cell.report_all(reports, &mut settling.answers);
        for ((permit, _, permit_id), (reported, ended)) in
            settling.run.drain(..).zip(settling.answers.drain(..))
        {
            match ended {
                Some(waiter) if Arc::ptr_eq(&waiter.inbox, &self.inbox) => {
                    self.ledger.ended(waiter.request_id, permit);
                }
                Some(waiter) => tell_ended(waiter, permit),
                None => {}
            }
            shared.metrics.reported(reported.outcome, reported.settled);
            self.out.reported(encode::reported(permit_id, reported));
        }
    }

    fn answer_unknown(&mut self, shared: &Shared, permit_id: String, report: &Report) {
        let reported = unknown(report.outcome);
        shared.metrics.reported(reported.outcome, reported.settled);
        self.out.reported(encode::reported(shown(permit_id), reported));
    }
}
