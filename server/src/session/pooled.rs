//! Requests of a session that wait at the members of pools. One that is granted is from then on like any other request to the member, and
//! the ledger's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use permitd_budget::{Grant, Reason, Refusal, Time};

use super::{
    asking::send_grant,
    core::{Core, PLACES_PER_LOOK},
};
use crate::{
    cell::Cell,
    inbox::News,
    pool::{Entry, Pool},
    shared::Shared,
    status::Fault,
    wire::{decode, encode, items},
};

/// Between two questions to members that did not take a request.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Requests for which that is done at a time; where more wait, they take turns.
const ASKED_AGAIN_MAX: usize = 512;
/// Requests whose places are looked at then, each at up to 16 members.
const PLACES: usize = PLACES_PER_LOOK / 16;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Pooled {
    waiting: BTreeMap<u64, Waiting>,
    /// When members are asked again that did not take a request.
    ask_again: Option<Time>,
    /// The requests that were looked at last: for asking again, and for their places.
    looked: [u64; 2],
}

#[derive(Debug)]
struct Waiting {
    entry: Entry<Arc<Cell>>,
    /// The place last told: position and what holds it.
    told: Option<(u32, Box<str>)>,
    /// The client took it back, but a grant is on its way.
    cancelled: bool,
}

impl Pooled {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn next_tick(&mut self, now: Time) -> Option<Time> {
        self.ask_again = (!self.waiting.is_empty()).then(|| self.ask_again.unwrap_or(now + ASK_AGAIN));
        self.ask_again
    }

    /// At most `most` requests, those behind the last that was looked at first.
    fn some(&mut self, look: usize, most: usize) -> Vec<u64> {
        let behind = self.waiting.range(self.looked[look].saturating_add(1)..);
        let before = self.waiting.range(..=self.looked[look]);
        let some: Vec<u64> = behind.chain(before).map(|(&id, _)| id).take(most).collect();
        self.looked[look] = some.last().copied().unwrap_or_default();
        some
    }
}

impl Core {
    /// Requests that wait in pools.
    pub(super) fn waiting_in_pools(&self) -> usize {
        self.pooled.as_ref().map_or(0, |pooled| pooled.len())
    }

    /// Which ones.
    pub(super) fn requests_in_pools(&self) -> Vec<u64> {
        self.pooled.as_ref().map_or_else(Vec::new, |pooled| pooled.waiting.keys().copied().collect())
    }

    /// Asks a pool.
    pub(super) fn ask_pool(
        &mut self,
        shared: &Shared,
        pool: Arc<Pool>,
        request: &items::Acquire<'_>,
        ask: decode::Ask<'_>,
    ) -> Result<(), Fault> {
        let (now, id) = (shared.clock.now(), request.request_id);
        let trace = shared.traces.begin(request.traceparent, (request.provider, request.key), &ask);
        let asked = ask.for_pool(now, None)?;
        let mut entry = Entry::new(pool, asked, (Arc::clone(&self.inbox), id), trace);
        if let Some((cell, grant)) = entry.enter(now, &|name| shared.member(name))? {
            self.granted_by_member(shared, id, cell, grant);
            return Ok(());
        }
        let waiting = Waiting { entry, told: None, cancelled: false };
        self.pooled.get_or_insert_default().waiting.insert(id, waiting);
        if self.progress {
            self.tell_place_in_pool(id);
        }
        Ok(())
    }

    /// Tells the place once more; false if no request of that id waits in a pool.
    pub(super) fn repeat_in_pool(&mut self, id: u64) -> bool {
        let Some(waiting) = self.pooled.as_mut().and_then(|pooled| pooled.waiting.get_mut(&id)) else {
            return false;
        };
        waiting.told = None;
        if self.progress {
            self.tell_place_in_pool(id);
        }
        true
    }

    /// Takes in what is about a request that waits in a pool; hands back what is not.
    pub(super) fn take_in_pooled(&mut self, shared: &Shared, id: u64, what: News) -> Option<News> {
        let Some(waiting) = self.pooled.as_mut().and_then(|pooled| pooled.waiting.get_mut(&id)) else {
            return Some(what);
        };
        let now = shared.clock.now();
        match what {
            News::Granted { cell, grant } => {
                let (is_unwanted, permit) = (waiting.cancelled, grant.permit);
                let served = waiting.entry.granted(cell, grant, now);
                self.forget_pooled(id);
                match served {
                    Some((cell, grant)) if !is_unwanted => self.granted_by_member(shared, id, cell, grant),
                    served => {
                        let cell = served.map(|(cell, _)| cell).or_else(|| shared.registry.by_id(cell));
                        if let Some(cell) = cell {
                            cell.give_back(&[permit]);
                        }
                        self.refuse(shared, id, Fault::from(Refusal::new(Reason::Cancelled)));
                    }
                }
            }
            News::Refused { cell, refusal } => {
                if let Some(fault) = waiting.entry.refused(cell, refusal, now) {
                    self.forget_pooled(id);
                    self.refuse(shared, id, fault);
                }
            }
            News::Ended(_) => return Some(what),
        }
        None
    }

    /// Takes a request back; false if none of that id waits in a pool.
    pub(super) fn cancel_pooled(&mut self, shared: &Shared, id: u64) -> bool {
        let Some(waiting) = self.pooled.as_mut().and_then(|pooled| pooled.waiting.get_mut(&id)) else {
            return false;
        };
        if waiting.entry.leave() {
            self.forget_pooled(id);
            self.refuse(shared, id, Fault::from(Refusal::new(Reason::Cancelled)));
        } else {
            waiting.cancelled = true;
        }
        true
    }

    /// Asks members again that did not take a request, once it is time.
    pub(super) fn ask_members_again(&mut self, shared: &Shared, now: Time) {
        let Some(pooled) = &mut self.pooled else { return };
        if pooled.ask_again.is_none_or(|due| due > now) {
            return;
        }
        pooled.ask_again = None;
        for id in pooled.some(0, ASKED_AGAIN_MAX) {
            let waiting = self.pooled.as_mut().and_then(|pooled| pooled.waiting.get_mut(&id));
            let served =
                waiting.and_then(|waiting| waiting.entry.ask_again(now, &|name| shared.member(name)));
            if let Some((cell, grant)) = served {
                self.forget_pooled(id);
                self.granted_by_member(shared, id, cell, grant);
            }
        }
    }

    /// Tells the places of some requests that wait in pools.
    pub(super) fn tell_places_in_pools(&mut self) {
        let Some(pooled) = &mut self.pooled else { return };
        for id in pooled.some(1, PLACES) {
            self.tell_place_in_pool(id);
        }
    }

    pub(super) fn tell_place_in_pool(&mut self, id: u64) {
        let Some(waiting) = self.pooled.as_mut().and_then(|pooled| pooled.waiting.get_mut(&id)) else {
            return;
        };
        let Some(place) = waiting.entry.place() else { return };
        let standing = (place.position, place.held_by.as_str().into());
        if waiting.told.as_ref() != Some(&standing) {
            waiting.told = Some(standing);
            self.out.queued(&encode::queued(id, place));
        }
    }

    /// Leaves every queue.
    pub(super) fn bury_pooled(&mut self) {
        self.pooled = None;
    }

    fn granted_by_member(&mut self, shared: &Shared, id: u64, cell: Arc<Cell>, grant: Grant) {
        // Found by its id only: its name may be none that the caller may use.
        let at = self.ledger.place(cell);
        self.ledger.cells.keep(at);
        send_grant(shared, self.caller.holder(), &mut self.out, id, self.ledger.cells.cell(at), &grant);
        self.ledger.granted_at_once(id, at, grant);
    }

    fn forget_pooled(&mut self, id: u64) {
        if let Some(pooled) = &mut self.pooled {
            pooled.waiting.remove(&id);
        }
    }
}
