//! What a session knows of its requests, by request_id: what waits, what was granted and is not reported, and how the last ones
//! ended, so that a repeat gets the same answer and never a second permit.
//!
//! A request is *open* while it waits or has a live permit, then *finished*; only the newest finished ones are kept.

use std::{collections::VecDeque, sync::Arc};

use foldhash::fast::RandomState;
use permitd_budget::{Grant, PermitKey, Ticket};
use permitd_proto::v1::Refused;
use smallvec::SmallVec;

use super::{
    away::Ask,
    cells::{At, Cells},
};
use crate::cell::Cell;

/// Finished requests that are remembered, and grants of all of them together.
const FINISHED_MAX: usize = 256;
const FINISHED_GRANTS_MAX: usize = 16_384;

/// All requests of one session.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Each remembered request keeps its budget here.
    pub(crate) cells: Cells,
    requests: std::collections::HashMap<u64, Asked, RandomState>,
    /// The oldest first.
    finished: VecDeque<u64>,
    finished_grants: usize,
    waiting: usize,
    permits: usize,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The budget; `None` if it was refused before one was found.
    pub(crate) cell: Option<At>,
    /// Its place in the queue, while it waits.
    pub(crate) ticket: Option<Ticket>,
    /// Permits still waited for.
    wanted: u32,
    /// Cancelled, but its last answer is on its way.
    cancelled: bool,
    /// Permits neither reported nor expired.
    live: u32,
    /// Every permit that it got, in the order of their keys.
    grants: SmallVec<[Held; 1]>,
    /// How it was refused.
    pub(crate) refused: Option<Box<Refused>>,
    /// The place last told: position and what holds it.
    pub(crate) told: Option<(u32, Box<str>)>,
    /// What was asked, where the budget may become another server's while it waits.
    again: Option<Box<Ask>>,
}

#[derive(Debug)]
struct Held {
    grant: Grant,
    live: bool,
}

/// What became of a grant that was delivered.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It goes to the client. The budget that it is of.
    Wanted(At),
    /// It has to go back to its budget. `answer`: the client still has to be told that the request is cancelled.
    Unwanted { answer: bool },
}

/// What has to be done about a cancel.
#[derive(Debug)]
pub(crate) enum Cancelling {
    /// Leave this queue.
    Waiting(At, Ticket),
    /// The only permit of the request is out; it goes back.
    Granted(At, PermitKey),
    /// Nothing to cancel.
    Nothing,
}

impl Asked {
    fn new(cell: Option<At>) -> Self {
        Self {
            cell,
            ticket: None,
            wanted: 0,
            cancelled: false,
            live: 0,
            grants: SmallVec::new(),
            refused: None,
            told: None,
            again: None,
        }
    }

    /// Every permit that it got; live ones only, if so wanted.
    pub(crate) fn grants(&self, live_only: bool) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |held| held.live || !live_only).map(|held| &held.grant)
    }

    pub(crate) fn has_live(&self) -> bool {
        self.live > 0
    }

    fn hold(&mut self, grant: Grant) {
        // Nearly always at the end.
        let at = self.grants.partition_point(|held| held.grant.permit < grant.permit);
        self.grants.insert(at, Held { grant, live: true });
        self.live += 1;
    }

    /// How many permits it got, once nothing of it waits or lives.
    fn finished(&self) -> Option<usize> {
        (self.wanted == 0 && self.live == 0).then_some(self.grants.len())
    }
}

impl Ledger {
    /// Requests in queues.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Permits waited for or live.
    pub(crate) fn permits(&self) -> usize {
        self.permits
    }

    /// The request of that id, if it is open or finished lately.
    pub(crate) fn find(&self, id: u64) -> Option<&Asked> {
        self.requests.get(&id)
    }

    /// The request of that id.
    pub(crate) fn find_mut(&mut self, id: u64) -> Option<&mut Asked> {
        self.requests.get_mut(&id)
    }

    /// All requests, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Asked)> {
        self.requests.iter().map(|(&id, asked)| (id, asked))
    }

    /// A new request was granted at once. Its budget was kept for it before.
    pub(crate) fn granted_at_once(&mut self, id: u64, cell: At, grant: Grant) {
        let mut asked = Asked::new(Some(cell));
        asked.hold(grant);
        self.permits += 1;
        self.requests.insert(id, asked);
    }

    /// A new request waits for so many permits. Its budget was kept for it before.
    pub(crate) fn waits(&mut self, id: u64, cell: At, ticket: Ticket, wanted: u32) {
        let asked = Asked { ticket: Some(ticket), wanted, ..Asked::new(Some(cell)) };
        self.waiting += 1;
        self.permits += wanted as usize;
        self.requests.insert(id, asked);
    }

    /// What a waiting request asked for, should its budget become another server's.
    pub(crate) fn keep_ask(&mut self, id: u64, ask: Ask) {
        if let Some(asked) = self.requests.get_mut(&id) {
            asked.again = Some(Box::new(ask));
        }
    }

    /// A waiting request's budget is another server's, who is to be asked; the request is forgotten here. `None` if that can't be done:
    /// some of its permits were granted here.
    pub(crate) fn moved(&mut self, id: u64) -> Option<Ask> {
        let asked = self.requests.get_mut(&id).filter(|asked| asked.wanted > 0 && asked.grants.is_empty())?;
        let ask = asked.again.take().filter(|_| !asked.cancelled)?;
        self.waiting -= 1;
        self.permits -= asked.wanted as usize;
        let gone = self.requests.remove(&id).and_then(|asked| asked.cell);
        if let Some(cell) = gone {
            self.cells.release(cell);
        }
        Some(*ask)
    }

    /// A new request was refused.
    pub(crate) fn refused_at_once(&mut self, id: u64, refused: Refused) {
        let asked = Asked { refused: Some(Box::new(refused)), ..Asked::new(None) };
        self.requests.insert(id, asked);
        self.finish(id, 0);
    }

    /// A permit of a waiting request arrived.
    pub(crate) fn granted(&mut self, id: u64, grant: &Grant) -> Taken {
        let asked = self.requests.get_mut(&id).filter(|asked| asked.wanted > 0);
        let Some((asked, cell)) = asked.and_then(|asked| asked.cell.map(|cell| (asked, cell))) else {
            return Taken::Unwanted { answer: false };
        };
        asked.wanted -= 1;
        let last = asked.wanted == 0;
        if last {
            asked.ticket = None;
            self.waiting -= 1;
        }
        if !asked.cancelled {
            asked.hold(grant.clone());
            return Taken::Wanted(cell);
        }
        self.permits -= 1;
        if let Some(grants) = asked.finished() {
            self.finish(id, grants);
        }
        Taken::Unwanted { answer: last }
    }

    /// A waiting request gets no more permits. False if it did not wait.
    pub(crate) fn refused(&mut self, id: u64, refused: &Refused) -> bool {
        let Some(asked) = self.requests.get_mut(&id).filter(|asked| asked.wanted > 0) else { return false };
        self.waiting -= 1;
        self.permits -= asked.wanted as usize;
        asked.wanted = 0;
        asked.ticket = None;
        asked.refused = Some(Box::new(refused.clone()));
        if let Some(grants) = asked.finished() {
            self.finish(id, grants);
        }
        true
    }

    /// How the request was answered, for repeats.
    pub(crate) fn remember(&mut self, id: u64, refused: &Refused) {
        if let Some(asked) = self.requests.get_mut(&id) {
            asked.refused = Some(Box::new(refused.clone()));
        }
    }

    /// A permit was reported or expired.
    pub(crate) fn ended(&mut self, id: u64, permit: PermitKey) {
        let Some(asked) = self.requests.get_mut(&id) else { return };
        let Ok(at) = asked.grants.binary_search_by_key(&permit, |held| held.grant.permit) else { return };
        if std::mem::replace(&mut asked.grants[at].live, false) {
            asked.live -= 1;
            self.permits -= 1;
            if let Some(grants) = asked.finished() {
                self.finish(id, grants);
            }
        }
    }

    /// A budget is another server's, and so are its permits: they are counted there. Whoever asks for them again gets them all the same.
    pub(crate) fn left(&mut self, cell: At) {
        let of_cell = self.requests.iter().filter(|(_, asked)| asked.cell == Some(cell) && asked.live > 0);
        let of_cell: Vec<u64> = of_cell.map(|(id, _)| *id).collect();
        for id in of_cell {
            let Some(asked) = self.requests.get_mut(&id) else { continue };
            asked.grants.iter_mut().for_each(|held| held.live = false);
            self.permits -= std::mem::take(&mut asked.live) as usize;
            if let Some(grants) = asked.finished() {
                self.finish(id, grants);
            }
        }
    }

    /// Where a budget that was found just now stands. One that was another server's in between came back as another cell.
    pub(crate) fn place(&mut self, cell: Arc<Cell>) -> At {
        if let Some(at) = self.cells.of_id(cell.id()) {
            if Arc::ptr_eq(self.cells.cell(at), &cell) {
                return at;
            }
            self.cells.forget_name(at);
            self.cells.forget_id(at);
            self.left(at);
        }
        self.cells.add(cell)
    }

    /// The same, of one that the caller may use by its name.
    pub(crate) fn place_named(&mut self, cell: Arc<Cell>) -> At {
        let at = self.place(cell);
        self.cells.allow_name(at);
        at
    }

    /// What a cancel of that id has to do.
    pub(crate) fn cancelling(&self, id: u64) -> Cancelling {
        let Some(asked) = self.requests.get(&id) else { return Cancelling::Nothing };
        let Some(cell) = asked.cell else { return Cancelling::Nothing };
        if let Some(ticket) = asked.ticket {
            return if asked.cancelled { Cancelling::Nothing } else { Cancelling::Waiting(cell, ticket) };
        }
        match asked.grants.as_slice() {
            [only] if only.live && asked.refused.is_none() => Cancelling::Granted(cell, only.grant.permit),
            _ => Cancelling::Nothing,
        }
    }

    /// A waiting request had left its queue before it could be cancelled: its last answer is on its way, and if that is a
    /// grant, it goes back.
    pub(crate) fn cancel_answer(&mut self, id: u64) {
        if let Some(asked) = self.requests.get_mut(&id) {
            asked.cancelled = true;
        }
    }

    fn finish(&mut self, id: u64, grants: usize) {
        self.finished_grants += grants;
        self.finished.push_back(id);
        while self.finished.len() > FINISHED_MAX || self.finished_grants > FINISHED_GRANTS_MAX {
            let Some(oldest) = self.finished.pop_front() else { return };
            let Some(gone) = self.requests.remove(&oldest) else { continue };
            self.finished_grants -= gone.grants.len();
            if let Some(cell) = gone.cell {
                self.cells.release(cell);
            }
        }
    }
}
