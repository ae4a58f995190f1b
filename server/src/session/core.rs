//! One session: what it asked for and what it has to be told. Its lock is taken once per turn of its stream, and by whoever
//! takes the session over or buries it.

use std::{mem, sync::Arc, time::Duration};

use permitd_budget::{Outcome, PermitKey, Reason, Refusal, Report, Ticket, Time};
use permitd_proto::v1::{self, Hello, Welcome};
use tonic::Code;

use super::{
    again::Again,
    asking::send_grant,
    away::Away,
    cells::At,
    ledger::{Cancelling, Ledger, Taken},
    message::Message,
    outgoing::Outgoing,
    owners::Owners,
    pooled::Pooled,
    shares::Shares,
};
use crate::{
    auth::Caller,
    inbox::{Delivery, Inbox, News},
    shared::{Shared, shown},
    status::Fault,
    wire::encode,
};

/// Permits of one session that are waited for or live. Past it, acquires are refused until some are reported.
const PERMITS_MAX: usize = 200_000;
/// Between two looks at the places in the queues.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Requests that are looked at then; where more wait, they take turns. Each look goes through up to some hundreds of those ahead, under
/// the budget's lock.
pub(super) const PLACES_PER_LOOK: usize = 128;

/// A session's state.
#[derive(Debug)]
pub(crate) struct Core {
    /// Whose session it is.
    pub(super) caller: Caller,
    pub(super) inbox: Arc<Inbox>,
    pub(super) tenant: String,
    pub(super) progress: bool,
    /// What the client was told of owners, if it wants to know.
    pub(super) owners: Option<Owners>,
    pub(super) ledger: Ledger,
    pub(super) shares: Shares,
    /// When the places are looked at again, while anything waits and the client wants to know.
    next_progress: Option<Time>,
    /// The request whose place was looked at last.
    last_look: u64,
    pub(super) out: Outgoing,
    /// What is said once more; while that goes on, nothing is read.
    pub(super) again: Again,
    /// What other servers are asked; `None` as long as none is.
    pub(super) away: Option<Box<Away>>,
    /// What waits in pools; `None` as long as none is asked.
    pub(super) pooled: Option<Box<Pooled>>,
    /// By which it is known there as well.
    pub(super) session_id: String,
    /// Permits that were named and never given to the caller, since that was last asked.
    pub(super) forged: usize,
}

impl Core {
    pub(super) fn new(caller: Caller, inbox: Arc<Inbox>, message_bytes: usize) -> Self {
        Self {
            caller,
            inbox,
            tenant: String::new(),
            progress: false,
            owners: None,
            ledger: Ledger::default(),
            shares: Shares::default(),
            next_progress: None,
            last_look: 0,
            out: Outgoing::new(message_bytes),
            again: Again::default(),
            away: None,
            pooled: None,
            session_id: String::new(),
            forged: 0,
        }
    }

    /// Requests in queues, and whatever other servers have not answered.
    pub(super) fn waiting(&self) -> usize {
        self.ledger.waiting() + self.away.as_ref().map_or(0, |away| away.len()) + self.waiting_in_pools()
    }

    /// Permits waited for or live.
    pub(super) fn permits(&self) -> usize {
        self.ledger.permits() + self.waiting_in_pools()
    }

    /// Answers a Hello. On a resume, everything that the broken stream may have lost is to be said again.
    pub(super) fn greet(&mut self, shared: &Shared, hello: Hello, session_id: String, resumed: bool) {
        self.tenant = if hello.tenant.is_empty() { self.caller.tenant().to_owned() } else { hello.tenant };
        self.progress = hello.progress;
        self.owners = hello.owners.then(Owners::default);
        self.next_progress = None;
        self.session_id.clone_from(&session_id);
        if resumed {
            // All of them are in the ledger, and sent again.
            self.out.forget_grants();
            // The caller's rules may be others than those of the stream before.
            self.ledger.cells.forget_names();
            self.shares.begin_anew(&self.caller, &mut self.out);
            self.repeat_open();
            self.reopen(shared);
        }
        let address = shared.cluster.as_ref().map_or("", |cluster| cluster.for_clients()).to_owned();
        let grace = Some(encode::duration(shared.config.grace));
        self.out.welcome(Welcome { session_id, resumed, grace, address });
    }

    /// Does everything that a message asks for. Tells how much that was.
    pub(super) fn handle(&mut self, shared: &Shared, message: Message<'_>) -> usize {
        let items =
            message.report.len() + message.extend.len() + message.acquire.len() + message.cancel.len();
        if message.extend.is_empty() {
            self.exchange(shared, &message.report, &message.acquire);
        } else {
            self.exchange(shared, &message.report, &[]);
            for permit_id in message.extend {
                self.extend(shared, permit_id);
            }
            self.exchange(shared, &[], &message.acquire);
        }
        // After the acquires: a message may take back what it asks for.
        for request_id in message.cancel {
            self.cancel(shared, request_id);
        }
        items
    }

    /// How many permits were named that were never given to the caller, since this was last asked.
    pub(super) fn take_forged(&mut self) -> usize {
        mem::take(&mut self.forged)
    }

    /// Takes in what the budgets answered.
    pub(super) fn take_in(&mut self, shared: &Shared, deliveries: &mut Vec<Delivery>) {
        for Delivery { request_id, what } in deliveries.drain(..) {
            let what = match self.pooled {
                None => what,
                Some(_) => match self.take_in_pooled(shared, request_id, what) {
                    Some(what) => what,
                    None => continue,
                },
            };
            match what {
                News::Granted { cell, grant } => match self.ledger.granted(request_id, &grant) {
                    Taken::Wanted(at) => {
                        send_grant(
                            shared,
                            self.caller.holder(),
                            &mut self.out,
                            request_id,
                            self.ledger.cells.cell(at),
                            &grant,
                        );
                    }
                    Taken::Unwanted { answer } => {
                        if let Some(cell) = shared.registry.by_id(cell) {
                            cell.give_back(&[grant.permit]);
                        }
                        if answer {
                            self.answer_cancelled(request_id);
                        }
                    }
                },
                News::Refused { refusal, .. } => self.refused_later(shared, request_id, refusal),
                News::Ended(permit) => self.ledger.ended(request_id, permit),
            }
        }
    }

    /// Tells what changed with time alone: places in queues, and local shares.
    pub(super) fn tick(&mut self, shared: &Shared, now: Time) {
        if self.next_progress.is_some_and(|due| due <= now) {
            self.next_progress = None;
            self.tell_places();
        }
        self.ask_members_again(shared, now);
        self.shares.tick(now, shared.config.share_valid_for, &self.caller, &mut self.out);
    }

    /// Whether something is to be said first, so that nothing more should be read for now.
    pub(super) fn is_busy(&self) -> bool {
        self.out.is_full() || !self.again.is_empty()
    }

    /// When [`Core::tick`] is next worth calling.
    pub(super) fn next_tick(&mut self, now: Time) -> Option<Time> {
        if self.progress && self.ledger.waiting() + self.waiting_in_pools() > 0 {
            self.next_progress.get_or_insert(now + PROGRESS_INTERVAL);
        } else {
            self.next_progress = None;
        }
        let away = self.away.as_ref().and_then(|away| away.next_tick(now));
        let pooled = self.pooled.as_mut().and_then(|pooled| pooled.next_tick(now));
        [self.next_progress, self.shares.next_tick(), away, pooled].into_iter().flatten().min()
    }

    /// Ends everything that waits, and returns grants that never went out. To be called when nobody comes back.
    pub(super) fn bury(&mut self, shared: &Shared) {
        let mut waiting: Vec<(At, Ticket)> = Vec::with_capacity(self.ledger.waiting());
        for (_, asked) in self.ledger.iter() {
            waiting.extend(asked.cell.zip(asked.ticket));
        }
        waiting.sort_unstable();
        for group in waiting.chunk_by(|(one, _), (other, _)| one == other) {
            let tickets: Vec<Ticket> = group.iter().map(|&(_, ticket)| ticket).collect();
            self.ledger.cells.cell(group[0].0).cancel_all(&tickets);
        }
        let mut unsent = self.out.forget_grants();
        unsent.extend(self.bury_again(shared));
        for permit_id in &unsent {
            if let Some((cell, permit)) = shared.permit(self.caller.holder(), permit_id) {
                cell.give_back(&[permit]);
            }
        }
        self.bury_away(&unsent);
        self.bury_pooled();
        self.ledger = Ledger::default();
        self.shares = Shares::default();
    }

    /// Whether `requests` more with `count` permits in all may be asked for.
    pub(super) fn check_room(&self, shared: &Shared, requests: usize, count: usize) -> Result<(), Fault> {
        let waiting_max = shared.config.bounds.waiting_per_session;
        let away = self.away.as_ref().map_or(0, |away| away.asks());
        if self.ledger.waiting() + away + self.waiting_in_pools() + requests > waiting_max {
            let message = format!(
                "{waiting_max} requests of this session wait already; slow down or open another session"
            );
            return Err(Fault::exhausted("SESSION_FULL", "server.bounds.waiting_per_session", message));
        }
        if self.permits() + count > PERMITS_MAX {
            let message = format!(
                "{PERMITS_MAX} permits of this session are unreported or waited for; report each when its call ends"
            );
            return Err(Fault::exhausted("SESSION_FULL", "permits per session", message));
        }
        Ok(())
    }

    fn refused_later(&mut self, shared: &Shared, request_id: u64, refusal: Refusal) {
        if refusal.reason == Reason::Moved
            && let Some(ask) = self.ledger.moved(request_id)
        {
            return self.pass_on(shared, ask);
        }
        let fault = Fault::from(refusal);
        let reason = fault.reason();
        let refused = fault.into_refused_request(request_id);
        if self.ledger.refused(request_id, &refused) {
            shared.metrics.refused(reason);
            self.out.refused(&refused);
        }
    }

    /// Says nothing if all is well: the client knows the ttl.
    pub(super) fn extend(&mut self, shared: &Shared, permit_id: &str) {
        let known = shared.permit_ids.read(permit_id, self.caller.holder());
        let here = known.and_then(|(id, permit)| Some((shared.registry.by_id(id)?, permit)));
        let extended = match (known, here) {
            (_, Some((cell, permit))) if !cell.is_away() => cell.extend(permit).is_some(),
            (Some((id, _)), _) => match self.pass_extend(shared, id, permit_id) {
                Ok(passed) => passed,
                Err(fault) => {
                    return self.out.refused(&fault.into_refused_permit(shown(permit_id).to_owned()));
                }
            },
            (None, _) => {
                self.forged += 1;
                false
            }
        };
        if !extended {
            self.out.refused(&permit_unknown().into_refused_permit(shown(permit_id).to_owned()));
        }
    }

    fn cancel(&mut self, shared: &Shared, request_id: u64) {
        match self.ledger.cancelling(request_id) {
            Cancelling::Waiting(at, ticket) => {
                if self.ledger.cells.cell(at).cancel(ticket) {
                    self.refused_later(shared, request_id, Refusal::new(Reason::Cancelled));
                } else {
                    self.ledger.cancel_answer(request_id);
                }
            }
            Cancelling::Granted(at, permit) => {
                // Only if this is what ended it: a permit that was reported meanwhile is not cancelled.
                let cell = self.ledger.cells.cell(at);
                match cell.report(permit, &Report::new(Outcome::Cancelled)) {
                    Some((_, ended)) => {
                        self.ledger.ended(request_id, permit);
                        if ended.is_some() {
                            self.answer_cancelled(request_id);
                        }
                    }
                    None => self.cancel_moved(shared, request_id, permit),
                }
            }
            Cancelling::Nothing if self.cancel_pooled(shared, request_id) => {}
            Cancelling::Nothing => self.cancel_away(shared, request_id),
        }
    }

    /// The permit of a cancelled request is another server's by now. It goes back there.
    fn cancel_moved(&mut self, shared: &Shared, request_id: u64, permit: PermitKey) {
        let Some(at) = self.ledger.find(request_id).and_then(|asked| asked.cell) else { return };
        let id = self.ledger.cells.cell(at).id();
        let permit_id = shared.permit_ids.write(id, permit, self.caller.holder()).as_str().to_owned();
        let outcome = v1::Outcome::Cancelled.into();
        let report = v1::ReportRequest { permit_id, outcome, ..v1::ReportRequest::default() };
        self.ledger.ended(request_id, permit);
        // If it can't be passed on, it ends by itself.
        if self.pass_report(shared, id, report).unwrap_or(false) {
            self.answer_cancelled(request_id);
        }
    }

    fn answer_cancelled(&mut self, request_id: u64) {
        let refused = Fault::from(Refusal::new(Reason::Cancelled)).into_refused_request(request_id);
        self.ledger.remember(request_id, &refused);
        self.out.refused(&refused);
    }

    fn tell_places(&mut self) {
        let waiting = self.ledger.iter().filter(|(_, asked)| asked.ticket.is_some());
        let mut waiting: Vec<u64> = waiting.map(|(request_id, _)| request_id).collect();
        if waiting.len() > PLACES_PER_LOOK {
            waiting.sort_unstable();
            let next = waiting.partition_point(|request_id| *request_id <= self.last_look);
            waiting.rotate_left(next);
            waiting.truncate(PLACES_PER_LOOK);
            self.last_look = waiting[PLACES_PER_LOOK - 1];
        }
        for request_id in waiting {
            self.tell_place(request_id);
        }
        self.tell_places_in_pools();
    }

    /// Tells where a request stands, if that is not what the client knows.
    pub(super) fn tell_place(&mut self, request_id: u64) {
        let waiting = self.ledger.find(request_id).and_then(|asked| asked.cell.zip(asked.ticket));
        let Some((at, ticket)) = waiting else { return };
        let Some(place) = self.ledger.cells.cell(at).place(ticket) else { return };
        let Some(asked) = self.ledger.find_mut(request_id) else { return };
        let known = asked.told.as_ref();
        if known.is_some_and(|(position, held_by)| {
            (*position, &**held_by) == (place.position, place.held_by.as_str())
        }) {
            return;
        }
        asked.told = Some((place.position, place.held_by.as_str().into()));
        self.out.queued(&encode::queued(request_id, place));
    }
}

/// The refusal of an extension of what is no live permit.
pub(super) fn permit_unknown() -> Fault {
    let message = "no live permit of this server: it was reported, or it expired; acquire another one";
    Fault::new(Code::NotFound, "PERMIT_UNKNOWN", message)
}
