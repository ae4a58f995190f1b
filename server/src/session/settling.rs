//! The reports of a message: each is read by what is known of its provider, and what became of it is answered.

use std::sync::Arc;

use permitd_budget::{Outcome, PermitKey, Report, Reported};
use permitd_proto::v1::ReportRequest;

use super::{
    batch::{Batch, Place, RUN_MAX},
    core::Core,
};
use crate::{
    auth::Role,
    inbox::Waiter,
    shared::{Shared, shown, tell_ended, unknown},
    wire::items,
};

/// Reports that were read and not put to their budgets yet.
pub(super) struct Settling<'a> {
    pub(super) run: Vec<Settled<'a>>,
    /// Empty between budgets.
    pub(super) answers: Vec<(Reported, Option<Waiter>)>,
}

/// One report.
pub(super) struct Settled<'a> {
    /// Of the permit's cell.
    pub(super) id: u32,
    pub(super) permit: PermitKey,
    /// [`PLAIN`], if there is none. With all that may be in one, moving it about took a thirtieth of the server's time.
    report: Option<Box<Report>>,
    permit_id: &'a str,
    /// As it came, for another server.
    request: &'a items::Report<'a>,
}

/// What most calls come to.
static PLAIN: Report = Report::new(Outcome::Success);

impl Settled<'_> {
    pub(super) fn report(&self) -> &Report {
        self.report.as_deref().unwrap_or(&PLAIN)
    }
}

impl Settling<'_> {
    /// Room for so many reports of one message.
    pub(super) fn of(reports: usize) -> Self {
        let room = reports.min(RUN_MAX);
        Self { run: Vec::with_capacity(room), answers: Vec::with_capacity(room) }
    }
}

impl Core {
    /// Reads reports. What was read is put to its budgets where the room for it is full.
    pub(super) fn report_all<'a>(
        &mut self,
        shared: &Shared,
        requests: &'a [items::Report<'a>],
        batch: &mut Batch<'a>,
    ) {
        let now = shared.clock.now();
        for request in requests {
            let permit_id = request.permit_id;
            let known = shared.permit_ids.read(permit_id, self.caller.holder());
            let kept = known.and_then(|(id, _)| self.ledger.cells.of_id(id));
            let allowed = self.caller.check_role(Role::Report);
            let read = allowed.and_then(|()| match (kept, known) {
                // Whoever the provider is, nothing has to be made of it.
                _ if request.is_plain_success() => Ok(None),
                (Some(at), _) => {
                    shared.read_report(Some(self.ledger.cells.cell(at)), &request.told(), now).map(Some)
                }
                (None, Some((id, _))) => {
                    let cell = shared.registry.by_id(id);
                    shared.read_report(cell.as_deref(), &request.told(), now).map(Some)
                }
                (None, None) => shared.read_report(None, &request.told(), now).map(Some),
            });
            self.forged += usize::from(known.is_none());
            match (read, known) {
                (Ok(report), Some((id, permit))) => {
                    let report = report.map(Box::new);
                    batch.settling.run.push(Settled { id, permit, report, permit_id, request });
                }
                (Ok(report), None) => {
                    self.answer_unknown(shared, permit_id, report.as_ref().unwrap_or(&PLAIN));
                }
                (Err(fault), _) => {
                    self.out.refused(&fault.into_refused_permit(shown(permit_id).to_owned()));
                }
            }
            if batch.settling.run.len() == RUN_MAX {
                self.put(shared, batch);
            }
        }
    }

    /// Answers what was reported to one budget.
    pub(super) fn answer_reports(&mut self, shared: &Shared, settling: &mut Settling<'_>, places: &[Place]) {
        let Settling { run, answers } = settling;
        count(shared, answers);
        for (&(_, place), (reported, ended)) in places.iter().zip(answers.drain(..)) {
            let Settled { permit, permit_id, .. } = run[place];
            match ended {
                Some(waiter) if Arc::ptr_eq(&waiter.inbox, &self.inbox) => {
                    self.ledger.ended(waiter.request_id, permit);
                }
                Some(waiter) => tell_ended(waiter, permit),
                None => {}
            }
            self.out.reported(shown(permit_id), &reported);
        }
    }

    /// The permit's budget is another server's, or there is none.
    pub(super) fn settle_elsewhere(&mut self, shared: &Shared, settled: &Settled<'_>) {
        let Settled { id, permit_id, request, .. } = settled;
        let report = settled.report();
        // Where a budget comes back to, it is another cell.
        if let Some(at) = self.ledger.cells.of_id(*id) {
            self.ledger.cells.forget_id(at);
            self.ledger.left(at);
        }
        if let Some(cell) = shared.registry.by_id(*id)
            && let Some((reported, ended)) = cell.report(settled.permit, report)
        {
            if let Some(waiter) = ended {
                tell_ended(waiter, settled.permit);
            }
            shared.metrics.reported(reported.outcome, reported.settled, 1);
            return self.out.reported(shown(permit_id), &reported);
        }
        let whole = ReportRequest { permit_id: (*permit_id).to_owned(), ..request.told().into_owned() };
        match self.pass_report(shared, *id, whole) {
            Ok(true) => {}
            Ok(false) => self.answer_unknown(shared, permit_id, report),
            Err(fault) => self.out.refused(&fault.into_refused_permit(shown(permit_id).to_owned())),
        }
    }

    pub(super) fn answer_unknown(&mut self, shared: &Shared, permit_id: &str, report: &Report) {
        let reported = unknown(report.outcome);
        shared.metrics.reported(reported.outcome, reported.settled, 1);
        self.out.reported(shown(permit_id), &reported);
    }
}

/// Counts reports that were answered, those alike at once: all threads share the counters.
fn count(shared: &Shared, answers: &[(Reported, Option<Waiter>)]) {
    let kind = |(reported, _): &(Reported, Option<Waiter>)| (reported.outcome, reported.settled);
    for alike in answers.chunk_by(|one, other| kind(one) == kind(other)) {
        let (outcome, settled) = kind(&alike[0]);
        shared.metrics.reported(outcome, settled, alike.len() as u64);
    }
}
