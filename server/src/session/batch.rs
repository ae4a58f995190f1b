//! The acquires and reports of one message: read first, then put to each budget in runs under one lock, then answered. Locks
//! are what a busy budget costs most, and nothing that takes long happens under one. Answers may come in another order than the
//! items: those for one budget come together.

use std::{mem, sync::Arc};

use permitd_budget::{Acquired, Outcome, PermitKey, Report, Reported, Request};
use permitd_proto::v1::ReportRequest;

use super::{away::Ask, cells::At, core::Core, outgoing::Outgoing};
use crate::{
    auth::{Holder, Role},
    cell::{Cell, NotTaken},
    inbox::{Inbox, Waiter},
    shared::{Asking, Shared, Sought, shown, tell_ended, too_many_permits, unknown},
    status::Fault,
    wire::{decode, items, writer::PermitText},
};

/// Items that are put to budgets together, and at most so many under one lock.
const RUN_MAX: usize = 64;

/// Acquires that were read and not put to their budgets yet.
struct Run<'a> {
    /// Of requests that name none.
    tenant: &'a str,
    run: Vec<Asked<'a>>,
    /// The largest id in it. Clients count theirs up, so that most are new without a look through the run.
    last_id: Option<u64>,
    /// Permits that the run asks for.
    count: usize,
    answers: Vec<Result<Acquired, NotTaken>>,
}

/// One acquire, its budget found and kept.
struct Asked<'a> {
    at: At,
    request: &'a items::Acquire<'a>,
    /// Taken when it is put to the budget.
    ask: Option<decode::Ask<'a>>,
}

/// Reports that were read and not put to their budgets yet.
struct Settling<'a> {
    run: Vec<Settled<'a>>,
    answers: Vec<(Reported, Option<Waiter>)>,
}

/// One report.
struct Settled<'a> {
    /// Of the permit's cell.
    id: u32,
    permit: PermitKey,
    report: Report,
    permit_id: &'a str,
    /// As it came, for another server.
    request: &'a items::Report<'a>,
}

impl<'a> Run<'a> {
    fn has(&self, id: u64) -> bool {
        self.last_id.is_some_and(|last| id <= last)
            && self.run.iter().any(|asked| asked.request.request_id == id)
    }

    /// Where the budget of the last one stands, if this one is for the same: its names have been looked at, and its budget is kept.
    fn like_last(&self, request: &items::Acquire<'_>) -> Option<At> {
        self.run.last().filter(|last| request.is_like(last.request)).map(|last| last.at)
    }

    fn push(&mut self, at: At, request: &'a items::Acquire<'a>, ask: decode::Ask<'a>) {
        self.last_id = self.last_id.max(Some(request.request_id));
        self.count += ask.count as usize;
        self.run.push(Asked { at, request, ask: Some(ask) });
    }
}

impl Core {
    pub(super) fn acquire_all(&mut self, shared: &Shared, requests: &[items::Acquire<'_>]) {
        // Borrowed by the requests below, while the rest of the session changes.
        let tenant = mem::take(&mut self.tenant);
        let room = requests.len().min(RUN_MAX);
        let (run, answers) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut asking = Run { tenant: &tenant, run, last_id: None, count: 0, answers };
        for request in requests {
            let id = request.request_id;
            if asking.has(id) {
                self.ask(shared, &mut asking);
            }
            if self.ledger.find(id).is_some() {
                self.repeat(shared, id);
            } else if self.away.as_ref().is_some_and(|away| away.repeat(id, shared.clock.now())) {
                // Whoever has it answers again.
            } else if self.repeat_in_pool(id) {
                // It waits there.
            } else if let Err(fault) = self.prepare(shared, request, &mut asking) {
                // Behind the answers of those that came before.
                self.ask(shared, &mut asking);
                self.refuse(shared, id, fault);
            }
            if asking.run.len() == RUN_MAX {
                self.ask(shared, &mut asking);
            }
        }
        self.ask(shared, &mut asking);
        self.tenant = tenant;
    }

    pub(super) fn report_all<'a>(&mut self, shared: &Shared, requests: &'a [items::Report<'a>]) {
        let room = requests.len().min(RUN_MAX);
        let mut settling = Settling { run: Vec::with_capacity(room), answers: Vec::with_capacity(room) };
        let now = shared.clock.now();
        for request in requests {
            let permit_id = request.permit_id;
            let known = shared.permit_ids.read(permit_id, self.caller.holder());
            let kept = known.and_then(|(id, _)| self.ledger.cells.of_id(id));
            let allowed = self.caller.check_role(Role::Report);
            let read = allowed.and_then(|()| match (kept, known) {
                // Whoever the provider is, nothing has to be made of it.
                _ if request.is_plain_success() => Ok(Report::new(Outcome::Success)),
                (Some(at), _) => shared.read_report(Some(self.ledger.cells.cell(at)), &request.told(), now),
                (None, Some((id, _))) => {
                    shared.read_report(shared.registry.by_id(id).as_deref(), &request.told(), now)
                }
                (None, None) => shared.read_report(None, &request.told(), now),
            });
            match (read, known) {
                (Ok(report), Some((id, permit))) => {
                    settling.run.push(Settled { id, permit, report, permit_id, request });
                }
                (Ok(report), None) => self.answer_unknown(shared, permit_id, &report),
                (Err(fault), _) => {
                    self.out.refused(&fault.into_refused_permit(shown(permit_id).to_owned()));
                }
            }
            if settling.run.len() == RUN_MAX {
                self.settle(shared, &mut settling);
            }
        }
        self.settle(shared, &mut settling);
    }

    /// Reads a request and puts it into the run.
    fn prepare<'a>(
        &mut self,
        shared: &Shared,
        request: &'a items::Acquire<'a>,
        asking: &mut Run<'a>,
    ) -> Result<(), Fault> {
        let ask = match asking.like_last(request) {
            Some(_) => decode::named_acquire(request, asking.tenant)?,
            None => decode::acquire(request, asking.tenant)?,
        };
        self.caller.check_ask(&ask)?;
        let (count, tenant) = (ask.count as usize, ask.tenant);
        if self.check_room(shared, asking.run.len() + 1, asking.count + count).is_err() {
            // Those before it in the run may not have to wait.
            self.ask(shared, asking);
            self.check_room(shared, 1, count)?;
        }
        let known = asking.like_last(request);
        let at = match known.or_else(|| self.ledger.cells.named(request.provider, request.key)) {
            Some(at) => at,
            None => match shared.seek(&self.caller, request.provider, request.key)? {
                Sought::Here(cell) => self.ledger.cells.add(cell),
                Sought::Elsewhere(budget) => {
                    let asked = shared.clock.now();
                    self.pass_on(shared, Ask { budget, request: request.to_request(tenant), asked });
                    return Ok(());
                }
                Sought::Pool(pool) => return self.ask_pool(shared, pool, request, ask),
            },
        };
        self.ledger.cells.keep(at);
        asking.push(at, request, ask);
        Ok(())
    }

    /// Puts the run to its budgets, and answers.
    fn ask(&mut self, shared: &Shared, asking: &mut Run<'_>) {
        (asking.count, asking.last_id) = (0, None);
        let Run { tenant, run, answers, .. } = asking;
        for group in by_budget(run, |asked| asked.at).chunk_by(|(one, _), (other, _)| one == other) {
            let at = group[0].0;
            let cell = self.ledger.cells.cell(at);
            let requests = group.iter().filter_map(|&(_, place)| {
                let Asked { request, ask, .. } = &mut run[place];
                Some(waiting(shared, &self.inbox, request, ask.take()?))
            });
            cell.acquire_all(requests, answers);
            self.shares.used(cell, shared, &mut self.out);
            for (&(_, place), answer) in group.iter().zip(answers.drain(..)) {
                self.answer(shared, tenant, run[place].request, at, answer);
            }
        }
        run.clear();
    }

    fn answer(
        &mut self,
        shared: &Shared,
        tenant: &str,
        request: &items::Acquire<'_>,
        at: At,
        answer: Result<Acquired, NotTaken>,
    ) {
        let fault = match answer {
            Ok(acquired) => return self.acquired(shared, tenant, request, at, acquired),
            Err(NotTaken::Refused(refusal)) => Fault::from(refusal),
            Err(NotTaken::TooManyPermits) => too_many_permits(self.ledger.cells.cell(at)),
            // Deleted since it was found, and perhaps made anew: by itself, with a new look.
            Err(NotTaken::Gone) => {
                self.ledger.cells.forget_name(at);
                if self.ledger.cells.cell(at).is_away() {
                    self.ledger.cells.forget_id(at);
                    self.ledger.left(at);
                }
                self.ledger.cells.release(at);
                return self.ask_again(shared, tenant, request);
            }
        };
        self.ledger.cells.release(at);
        self.refuse(shared, request.request_id, fault);
    }

    fn ask_again(&mut self, shared: &Shared, tenant: &str, request: &items::Acquire<'_>) {
        let id = request.request_id;
        let asked = decode::acquire(request, tenant).and_then(|ask| {
            let acquired = shared.acquire(&self.caller, request.provider, request.key, || {
                waiting(shared, &self.inbox, request, ask.clone())
            });
            match acquired? {
                Asking::Pool(pool) => self.ask_pool(shared, pool, request, ask).map(|()| None),
                asking => Ok(Some((asking, ask.tenant))),
            }
        });
        match asked {
            Ok(None | Some((Asking::Pool(_), _))) => {}
            Ok(Some((Asking::Here(cell, acquired), tenant))) => {
                let known = self.ledger.cells.of_id(cell.id());
                let at = known.unwrap_or_else(|| self.ledger.cells.add(cell));
                self.ledger.cells.keep(at);
                self.acquired(shared, tenant, request, at, acquired);
            }
            Ok(Some((Asking::Elsewhere(budget), tenant))) => {
                let asked = shared.clock.now();
                self.pass_on(shared, Ask { budget, request: request.to_request(tenant), asked });
            }
            Err(fault) => self.refuse(shared, id, fault),
        }
    }

    /// The budget is kept for the request, which the ledger remembers from now on.
    fn acquired(
        &mut self,
        shared: &Shared,
        tenant: &str,
        request: &items::Acquire<'_>,
        at: At,
        acquired: Acquired,
    ) {
        let id = request.request_id;
        match acquired {
            Acquired::Granted(grant) => {
                send_grant(
                    shared,
                    self.caller.holder(),
                    &mut self.out,
                    id,
                    self.ledger.cells.cell(at),
                    &grant,
                );
                self.ledger.granted_at_once(id, at, grant);
            }
            Acquired::Waiting(ticket) => {
                self.ledger.waits(id, at, ticket, request.count.max(1));
                // Who passes a request on keeps it there.
                if shared.cluster.is_some() && !self.caller.is_passed() {
                    let budget = self.ledger.cells.cell(at).name().clone();
                    let tenant = if request.tenant.is_empty() { tenant } else { request.tenant };
                    let request = request.to_request(tenant);
                    self.ledger.keep_ask(id, Ask { budget, request, asked: shared.clock.now() });
                }
                if self.progress {
                    self.tell_place(id);
                }
            }
        }
    }

    pub(super) fn refuse(&mut self, shared: &Shared, id: u64, fault: Fault) {
        shared.metrics.refused(fault.reason());
        let refused = fault.into_refused_request(id);
        self.out.refused(&refused);
        self.ledger.refused_at_once(id, refused);
    }

    /// Puts the run to its budgets, and answers.
    fn settle(&mut self, shared: &Shared, settling: &mut Settling<'_>) {
        let Settling { run, answers } = settling;
        for group in by_budget(run, |settled| settled.id).chunk_by(|(one, _), (other, _)| one == other) {
            let id = group[0].0;
            let reports = group.iter().map(|&(_, place)| (run[place].permit, &run[place].report));
            let is_here = match self.ledger.cells.of_id(id) {
                Some(at) => self.ledger.cells.cell(at).report_all(reports, answers),
                None => match shared.registry.by_id(id) {
                    Some(cell) => cell.report_all(reports, answers),
                    None if shared.cluster.is_some() => false,
                    None => {
                        answers.extend(reports.map(|(_, report)| (unknown(report.outcome), None)));
                        true
                    }
                },
            };
            if !is_here {
                for &(_, place) in group {
                    self.settle_elsewhere(shared, &run[place]);
                }
                continue;
            }
            count(shared, answers);
            for (&(_, place), (reported, ended)) in group.iter().zip(answers.drain(..)) {
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
        run.clear();
    }

    /// The permit's budget is another server's, or there is none.
    fn settle_elsewhere(&mut self, shared: &Shared, settled: &Settled<'_>) {
        let Settled { id, report, permit_id, request, .. } = settled;
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

/// The places of a run's items, those for one budget together, each in the order in which they came.
fn by_budget<T, B: Copy + Ord>(run: &[T], budget: impl Fn(&T) -> B) -> Vec<(B, usize)> {
    let mut places: Vec<_> = run.iter().enumerate().map(|(place, item)| (budget(item), place)).collect();
    places.sort_unstable();
    places
}

/// A request as its budget takes it.
fn waiting<'a>(
    shared: &Shared,
    inbox: &Arc<Inbox>,
    request: &items::Acquire<'_>,
    ask: decode::Ask<'a>,
) -> Request<'a, Waiter> {
    let trace = shared.traces.begin(request.traceparent, (request.provider, request.key), &ask);
    ask.for_waiter(Waiter { inbox: Arc::clone(inbox), request_id: request.request_id, trace })
}

/// Sends a grant.
pub(super) fn send_grant(
    shared: &Shared,
    holder: Holder,
    out: &mut Outgoing,
    request_id: u64,
    cell: &Cell,
    grant: &permitd_budget::Grant,
) {
    let id = shared.permit_ids.write(cell.id(), grant.permit, holder);
    let (provider, key) = (cell.name().provider(), cell.name().key());
    out.granted(request_id, &PermitText { id: id.as_bytes(), provider, key }, grant);
}

/// Counts reports that were answered, those alike at once: all threads share the counters.
fn count(shared: &Shared, answers: &[(Reported, Option<Waiter>)]) {
    let kind = |(reported, _): &(Reported, Option<Waiter>)| (reported.outcome, reported.settled);
    for alike in answers.chunk_by(|one, other| kind(one) == kind(other)) {
        let (outcome, settled) = kind(&alike[0]);
        shared.metrics.reported(outcome, settled, alike.len() as u64);
    }
}
