//! One request to a pool, from the first member that is asked to the one permit. It stands in the queue of every member that takes it, so
//! each member's own order, freezes and refills decide who is soonest, and nobody has to guess. Its inbox takes one grant, ever: a member
//! that comes second gets its grant back at once, whole.

use std::{sync::Arc, time::Duration};

use permitd_budget::{
    Acquired, Grant, PermitKey, Place, Priority, Reason, Refusal, Request, Ticket, Time, Usage,
};
use smallvec::SmallVec;
use tonic::Code;

use super::Pool;
use crate::{
    cell::{Cell, NotTaken},
    config::BudgetName,
    inbox::{Inbox, Waiter},
    shared::too_many_permits,
    status::Fault,
    traces::{Ended, Trace},
};

/// What holds a request that waits for the next write only, as [`Place`] has it.
const STORE: &str = "store";

/// What a request to a pool needs of a member.
pub(crate) trait Member {
    /// The id of the budget.
    fn id(&self) -> u32;
    /// Joins the queue. With `counts`, a refusal is the member's answer, counted and recorded as such.
    fn join(&self, request: Request<'_, Waiter>, counts: bool) -> Result<Acquired, Option<Fault>>;
    /// Leaves the queue.
    fn leave(&self, ticket: Ticket);
    /// A look at the place in the queue.
    fn place(&self, ticket: Ticket) -> Option<Place>;
    /// Takes back a permit that went to nobody.
    fn give_back(&self, permit: PermitKey);
    /// Its answer, a permit or a refusal, is that of the pool to a request that was made then.
    fn record(&self, asked: Time, permit: Option<PermitKey>, request: &Request<'_, Waiter>);
}

impl Member for Arc<Cell> {
    fn id(&self) -> u32 {
        Cell::id(self)
    }

    fn join(&self, request: Request<'_, Waiter>, counts: bool) -> Result<Acquired, Option<Fault>> {
        let acquired = if counts { self.acquire(request) } else { Cell::join(self, request) };
        acquired.map_err(|not_taken| match not_taken {
            NotTaken::Gone => None,
            NotTaken::TooManyPermits => Some(too_many_permits(self)),
            NotTaken::Refused(refusal) => Some(Fault::from(refusal)),
        })
    }

    fn leave(&self, ticket: Ticket) {
        self.cancel(ticket);
    }

    fn place(&self, ticket: Ticket) -> Option<Place> {
        Cell::place(self, ticket)
    }

    fn give_back(&self, permit: PermitKey) {
        Cell::give_back(self, &[permit]);
    }

    fn record(&self, asked: Time, permit: Option<PermitKey>, request: &Request<'_, Waiter>) {
        self.record_joined(asked, permit, request);
    }
}

/// Finds a member by its name, made from its provider's defaults if need be.
pub(crate) type Find<'a, M> = &'a dyn Fn(&BudgetName) -> Result<M, Fault>;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) tenant: Box<str>,
    pub(crate) model: Box<str>,
    pub(crate) priority: Priority,
    pub(crate) estimate: Usage,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) gives_up: Option<Time>,
    pub(crate) at: Time,
}

/// A request to a pool. Dropped, which is due as soon as it is served, it leaves every queue.
#[derive(Debug)]
pub(crate) struct Entry<M: Member> {
    pool: Arc<Pool>,
    asked: Asked,
    /// As the members know it: its inbox takes one grant.
    waiter: Waiter,
    trace: Option<Arc<Trace>>,
    /// A member has recorded it.
    is_recorded: bool,
    /// It is counted among those that wait.
    is_counted: bool,
    /// Where it stands, by member.
    stands: SmallVec<[Stand<M>; 4]>,
}

#[derive(Debug)]
enum Stand<M> {
    /// In the member's queue.
    Waits(M, Ticket),
    /// The member did not take it, or sent it away; it may come to be asked again.
    Out,
    /// It waited there as long as it could.
    Over,
}

/// What a member said.
enum Said<M> {
    Granted(M, Grant),
    Waits,
    /// Another member's grant is on its way.
    Served,
    No(Fault),
}

impl<M: Member> Entry<M> {
    /// One whose answers go to `inbox`.
    pub(crate) fn new(
        pool: Arc<Pool>,
        asked: Asked,
        (inbox, request_id): (Arc<Inbox>, u64),
        trace: Option<Arc<Trace>>,
    ) -> Self {
        let waiter = Waiter { inbox: Arc::new(Inbox::for_one(inbox)), request_id, trace: None };
        let stands = pool.spec().members.iter().map(|_| Stand::Out).collect();
        Self { pool, asked, waiter, trace, is_recorded: false, is_counted: false, stands }
    }

    /// Asks the members in their order, until one grants at once. `None`: it waits, or a grant is on its way to the inbox.
    ///
    /// # Errors
    /// What the member says that can serve it soonest, if none takes it.
    pub(crate) fn enter(&mut self, now: Time, find: Find<'_, M>) -> Result<Option<(M, Grant)>, Fault> {
        let entered = self.ask_all(now, find)?;
        if entered.is_none() {
            self.is_counted = true;
            self.pool.counts().waits();
        }
        Ok(entered)
    }

    fn ask_all(&mut self, now: Time, find: Find<'_, M>) -> Result<Option<(M, Grant)>, Fault> {
        let order = self.pool.order();
        let mut best: Option<(usize, Fault)> = None;
        for (place, &at) in order.iter().enumerate() {
            match self.join(at, now, find, false) {
                Said::Granted(member, grant) => {
                    self.pool.chose(&order[place..]);
                    return Ok(Some(self.served(at, member, grant, now)));
                }
                // As good as a grant: others are not asked for the sake of a write.
                Said::Waits if self.waits_for_store(at) => {
                    self.pool.chose(&order[place..]);
                    return Ok(None);
                }
                Said::Waits => self.pool.counts().passed_over(at),
                Said::Served => return Ok(None),
                Said::No(fault) => {
                    self.pool.counts().passed_over(at);
                    if best.as_ref().is_none_or(|(_, best)| hope(&fault) < hope(best)) {
                        best = Some((at, fault));
                    }
                }
            }
        }
        let Some((at, _)) = best.filter(|_| !self.waits()) else { return Ok(None) };
        // Once more, as the one answer that counts.
        match self.join(at, now, find, true) {
            Said::Granted(member, grant) => Ok(Some(self.served(at, member, grant, now))),
            Said::Waits | Said::Served => Ok(None),
            Said::No(fault) => Err(self.refusal(at, fault, now)),
        }
    }

    /// Asks those again that did not take it.
    pub(crate) fn ask_again(&mut self, now: Time, find: Find<'_, M>) -> Option<(M, Grant)> {
        let is_served = self.waiter.inbox.is_claimed();
        if is_served || self.is_late(now) || !self.stands.iter().any(|stand| matches!(stand, Stand::Out)) {
            return None;
        }
        for at in self.pool.order() {
            if !matches!(self.stands[at], Stand::Out) {
                continue;
            }
            match self.join(at, now, find, false) {
                Said::Granted(member, grant) => return Some(self.served(at, member, grant, now)),
                Said::Served => return None,
                Said::Waits | Said::No(_) => {}
            }
        }
        None
    }

    /// The grant that its inbox took, with the member that it is of.
    pub(crate) fn granted(&mut self, budget: u32, grant: Grant, now: Time) -> Option<(M, Grant)> {
        let at = self.at(budget)?;
        let Stand::Waits(member, _) = std::mem::replace(&mut self.stands[at], Stand::Over) else {
            return None;
        };
        Some(self.served(at, member, grant, now))
    }

    /// A member sent it away. What that means for the whole, if it waits nowhere else.
    pub(crate) fn refused(&mut self, budget: u32, refusal: Refusal, now: Time) -> Option<Fault> {
        let at = self.at(budget)?;
        let is_over = matches!(refusal.reason, Reason::NotInTime);
        let stands = if is_over { Stand::Over } else { Stand::Out };
        let before = std::mem::replace(&mut self.stands[at], stands);
        // Claimed before a grant can come in between.
        if self.waits() || !self.waiter.inbox.claim() {
            return None;
        }
        if let Stand::Waits(member, _) = before {
            self.record(&member, None);
        }
        Some(self.refusal(at, Fault::from(refusal), now))
    }

    /// Leaves every queue. False: a grant is on its way to the inbox.
    pub(crate) fn leave(&mut self) -> bool {
        let is_free = self.waiter.inbox.claim();
        self.leave_queues();
        is_free
    }

    /// Where it is likely to be served first.
    pub(crate) fn place(&self) -> Option<Place> {
        let places = self.stands.iter().filter_map(|stand| match stand {
            Stand::Waits(member, ticket) => member.place(*ticket),
            Stand::Out | Stand::Over => None,
        });
        places.min_by_key(|place| (place.estimated_wait.unwrap_or(Duration::MAX), place.position))
    }

    fn waits(&self) -> bool {
        self.stands.iter().any(|stand| matches!(stand, Stand::Waits(..)))
    }

    /// Whether the member at that place may still serve it.
    #[cfg(test)]
    pub(super) fn wants(&self, at: usize, now: Time) -> bool {
        match self.stands[at] {
            Stand::Waits(..) => true,
            Stand::Out => !self.is_late(now),
            Stand::Over => false,
        }
    }

    fn waits_for_store(&self, at: usize) -> bool {
        let Stand::Waits(member, ticket) = &self.stands[at] else { return false };
        member.place(*ticket).is_some_and(|place| place.held_by == STORE)
    }

    fn is_late(&self, now: Time) -> bool {
        let end = self.asked.max_wait.map(|wait| self.asked.at + wait);
        end.into_iter().chain(self.asked.gives_up).any(|end| end <= now)
    }

    fn at(&self, budget: u32) -> Option<usize> {
        self.stands.iter().position(|stand| matches!(stand, Stand::Waits(member, _) if member.id() == budget))
    }

    fn join(&mut self, at: usize, now: Time, find: Find<'_, M>, counts: bool) -> Said<M> {
        let name = &self.pool.spec().members[at].budget;
        let mut found = find(name);
        for _ in 0..2 {
            let member = match found {
                Ok(member) => member,
                Err(fault) => return Said::No(fault),
            };
            // The one whose refusal counts has it in its records.
            self.is_recorded |= counts;
            match member.join(self.request(now), counts) {
                Ok(Acquired::Granted(grant)) if self.waiter.inbox.claim() => {
                    return Said::Granted(member, grant);
                }
                Ok(Acquired::Granted(grant)) => {
                    member.give_back(grant.permit);
                    return Said::Served;
                }
                Ok(Acquired::Waiting(ticket)) => {
                    self.stands[at] = Stand::Waits(member, ticket);
                    return if self.waiter.inbox.is_claimed() { Said::Served } else { Said::Waits };
                }
                Err(Some(fault)) => return Said::No(fault),
                // Deleted since it was found: its name is free.
                Err(None) => found = find(name),
            }
        }
        Said::No(Fault::from(Refusal::new(Reason::Deleted)))
    }

    fn request(&self, now: Time) -> Request<'_, Waiter> {
        let Asked { tenant, model, priority, estimate, max_wait, gives_up, at } = &self.asked;
        Request {
            tenant,
            model,
            priority: *priority,
            estimate: estimate.clone(),
            count: 1,
            max_wait: max_wait.map(|wait| wait.saturating_sub(now.since(*at))),
            gives_up: *gives_up,
            waiter: self.waiter.clone(),
        }
    }

    fn served(&mut self, at: usize, member: M, grant: Grant, now: Time) -> (M, Grant) {
        self.record(&member, Some(grant.permit));
        self.pool.counts().granted(at);
        if let Some(trace) = self.trace.take() {
            let waited = now.since(self.asked.at);
            trace.end(now, Ended::Granted { waited, held_by: None, limit: None });
        }
        (member, grant)
    }

    /// Once, at the member that has the last word.
    fn record(&mut self, member: &M, permit: Option<PermitKey>) {
        if !std::mem::replace(&mut self.is_recorded, true) {
            member.record(self.asked.at, permit, &self.request(self.asked.at));
        }
    }

    fn refusal(&mut self, at: usize, fault: Fault, now: Time) -> Fault {
        self.pool.counts().refused(fault.reason());
        if let Some(trace) = self.trace.take() {
            let limit = fault.limit().map(str::to_owned);
            trace.end(now, Ended::Refused { reason: fault.reason(), limit });
        }
        fault.of_member(self.pool.name(), &self.pool.spec().members[at].budget)
    }

    fn leave_queues(&mut self) {
        for stand in &mut self.stands {
            if let Stand::Waits(member, ticket) = std::mem::replace(stand, Stand::Over) {
                member.leave(ticket);
            }
        }
    }
}

impl<M: Member> Drop for Entry<M> {
    fn drop(&mut self) {
        self.leave();
        if self.is_counted {
            self.pool.counts().waits_no_more();
        }
    }
}

/// The less, the more there is to hope for: first what can be had soonest, last what never can.
fn hope(fault: &Fault) -> (bool, Duration) {
    (fault.code() == Code::OutOfRange, fault.retry_after().unwrap_or(Duration::MAX))
}
