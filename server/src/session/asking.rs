//! The acquires of a message: each is read and its budget found, and what became of it is answered.

use std::sync::Arc;

use permitd_budget::{Acquired, Request};

use super::{
    away::Ask,
    batch::{Batch, Place, RUN_MAX},
    cells::At,
    core::Core,
    outgoing::Outgoing,
};
use crate::{
    auth::Holder,
    cell::{Cell, NotTaken},
    inbox::{Inbox, Waiter},
    shared::{self, Shared, Sought, too_many_permits},
    status::Fault,
    wire::{decode, items, writer::PermitText},
};

/// Acquires that were read and not put to their budgets yet.
pub(super) struct Asking<'a> {
    /// Of requests that name none.
    tenant: &'a str,
    pub(super) run: Vec<Asked<'a>>,
    /// The largest id in it. Clients count theirs up, so that most are new without a look through the run.
    last_id: Option<u64>,
    /// Permits that the run asks for.
    count: usize,
    /// Empty between budgets.
    pub(super) answers: Vec<Result<Acquired, NotTaken>>,
}

/// One acquire, its budget found and kept.
pub(super) struct Asked<'a> {
    pub(super) at: At,
    request: &'a items::Acquire<'a>,
    /// Taken when it is put to the budget.
    ask: Option<decode::Ask<'a>>,
}

impl<'a> Asked<'a> {
    /// As its budget takes it.
    pub(super) fn take(&mut self, shared: &Shared, inbox: &Arc<Inbox>) -> Option<Request<'a, Waiter>> {
        Some(waiting(shared, inbox, self.request, self.ask.take()?))
    }
}

impl<'a> Asking<'a> {
    /// Room for so many acquires of one message.
    pub(super) fn of(tenant: &'a str, acquires: usize) -> Self {
        let room = acquires.min(RUN_MAX);
        let (run, answers) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Self { tenant, run, last_id: None, count: 0, answers }
    }

    pub(super) fn clear(&mut self) {
        (self.count, self.last_id) = (0, None);
        self.run.clear();
    }

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
    /// Reads requests. What was read is put to its budgets where the room for it is full, or where something has to be answered after it.
    pub(super) fn acquire_all<'a>(
        &mut self,
        shared: &Shared,
        requests: &'a [items::Acquire<'a>],
        batch: &mut Batch<'a>,
    ) {
        for request in requests {
            let id = request.request_id;
            if batch.asking.has(id) {
                self.put(shared, batch);
            }
            if self.ledger.find(id).is_some() {
                self.repeat(shared, id);
            } else if self.away.as_ref().is_some_and(|away| away.repeat(id, shared.clock.now())) {
                // Whoever has it answers again.
            } else if self.repeat_in_pool(id) {
                // It waits there.
            } else if let Err(fault) = self.prepare(shared, request, batch) {
                // Behind the answers of those that came before.
                self.put(shared, batch);
                self.refuse(shared, id, fault);
            }
            if batch.asking.run.len() == RUN_MAX {
                self.put(shared, batch);
            }
        }
    }

    /// Reads a request and puts it into the run.
    fn prepare<'a>(
        &mut self,
        shared: &Shared,
        request: &'a items::Acquire<'a>,
        batch: &mut Batch<'a>,
    ) -> Result<(), Fault> {
        let ask = match batch.asking.like_last(request) {
            Some(_) => decode::named_acquire(request, batch.asking.tenant)?,
            None => decode::acquire(request, batch.asking.tenant)?,
        };
        self.caller.check_ask(&ask)?;
        let (count, tenant) = (ask.count as usize, ask.tenant);
        if self.check_room(shared, batch.asking.run.len() + 1, batch.asking.count + count).is_err() {
            // Those before it may not have to wait, and what is reported makes room.
            self.put(shared, batch);
            self.check_room(shared, 1, count)?;
        }
        let known = batch.asking.like_last(request);
        // Found by its name is what was allowed before.
        let at = match known.or_else(|| self.ledger.cells.named(request.provider, request.key)) {
            Some(at) => at,
            None => match shared.seek(&self.caller, request.provider, request.key)? {
                Sought::Here(cell) => self.ledger.place_named(cell),
                // Neither is put together with what was read before it, whose reports go first.
                Sought::Elsewhere(budget) => {
                    self.put(shared, batch);
                    let asked = shared.clock.now();
                    self.pass_on(shared, Ask { budget, request: request.to_request(tenant), asked });
                    return Ok(());
                }
                Sought::Pool(pool) => {
                    self.put(shared, batch);
                    return self.ask_pool(shared, pool, request, ask);
                }
            },
        };
        self.ledger.cells.keep(at);
        batch.asking.push(at, request, ask);
        Ok(())
    }

    /// Answers what one budget was asked for.
    pub(super) fn answer_acquires(
        &mut self,
        shared: &Shared,
        asking: &mut Asking<'_>,
        (at, places): (At, &[Place]),
    ) {
        self.shares.used(self.ledger.cells.cell(at), shared, &self.caller, &mut self.out);
        let Asking { tenant, run, answers, .. } = asking;
        for (&(_, place), answer) in places.iter().zip(answers.drain(..)) {
            self.answer(shared, tenant, run[place].request, at, answer);
        }
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
                shared::Asking::Pool(pool) => self.ask_pool(shared, pool, request, ask).map(|()| None),
                asking => Ok(Some((asking, ask.tenant))),
            }
        });
        match asked {
            Ok(None | Some((shared::Asking::Pool(_), _))) => {}
            Ok(Some((shared::Asking::Here(cell, acquired), tenant))) => {
                let at = self.ledger.place_named(cell);
                self.ledger.cells.keep(at);
                self.acquired(shared, tenant, request, at, acquired);
            }
            Ok(Some((shared::Asking::Elsewhere(budget), tenant))) => {
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
