//! Everything that has no final answer yet, so that a broken session loses nothing: requests by id, permits by id, and what has to go
//! out next. Pure: it is told the time and does no I/O.
//!
//! Invariant: whatever was granted leaves this table only by an answered report. A grant that nobody waits for is reported as
//! cancelled.

mod refusals;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use permitd_proto::v1 as wire;
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::{
    Advice, Error, Guard, Permit, Report, Source, Usage, convert,
    guard::{Hold, PermitId},
    mailbox::{AdviceSender, Mailbox, Waiting},
    request::wait_left,
};

/// Unanswered reports and cancels, past which nothing new is taken from the mailbox until the server catches up.
const UNANSWERED_MAX: usize = 100_000;

/// The longest life of a permit that counts.
const TTL_MAX: Duration = Duration::from_secs(86_400);

/// Cancels that are remembered for the case that the session breaks.
const CANCELLING_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    mailbox: Arc<Mailbox>,
    /// Whether permits are counted per budget, for the local share.
    counts_live: bool,
    waiting: HashMap<u64, Box<Waiting>>,
    /// Requests that the server knows by another number than their own.
    renumbered: HashMap<u64, u64>,
    permits: HashMap<PermitId, Held>,
    reporting: usize,
    /// Cancels that the server has perhaps not seen.
    cancelling: HashSet<u64>,
    outbox: Outbox,
    next_sweep: Option<Instant>,
    /// When requests are asked again that were refused for now.
    next_again: Option<Instant>,
}

/// A permit that the server gave.
#[derive(Debug)]
struct Held {
    state: HeldState,
    /// Only with a local share.
    budget: Option<Arc<str>>,
}

#[derive(Debug)]
enum HeldState {
    /// With a guard. `extend_at` is `None` once the server does not know the permit any more.
    Live { extend_at: Option<Instant>, ttl: Duration },
    /// With a report that has no answer.
    Reporting {
        report: Box<Report>,
        reply: Option<AdviceSender>,
        bare: bool,
        /// When it is sent again, if it was refused for now.
        again_at: Option<Instant>,
    },
}

impl Held {
    fn is_live(&self) -> bool {
        matches!(self.state, HeldState::Live { .. })
    }
}

/// What became of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusing {
    /// Whoever asked was told.
    Told,
    /// The request stays, for another server: this one is about to stop.
    Draining,
}

impl Table {
    pub(crate) fn new(mailbox: Arc<Mailbox>, counts_live: bool) -> Self {
        Self {
            mailbox,
            counts_live,
            waiting: HashMap::new(),
            renumbered: HashMap::new(),
            permits: HashMap::new(),
            reporting: 0,
            cancelling: HashSet::new(),
            outbox: Outbox::default(),
            next_sweep: None,
            next_again: None,
        }
    }

    // What the handles want.

    pub(crate) fn acquire(&mut self, request_id: u64, waiting: Box<Waiting>) {
        self.outbox.acquire(request_id);
        self.waiting.insert(request_id, waiting);
    }

    /// Gives back what was cancelled, if it was waiting.
    pub(crate) fn cancel(&mut self, request_id: u64) -> Option<Box<Waiting>> {
        let waiting = self.remove(request_id)?;
        self.forget(&waiting);
        Some(waiting)
    }

    /// The first report of a permit counts. Dropping the `reply` of another one tells that the client is closed: it has reported for the
    /// guard.
    pub(crate) fn report(&mut self, permit_id: PermitId, report: Box<Report>, reply: Option<AdviceSender>) {
        let known = self.permits.get(&permit_id);
        if known.is_some_and(|held| !held.is_live()) {
            return;
        }
        let budget = known.and_then(|held| held.budget.clone());
        let state = HeldState::Reporting { report, reply, bare: false, again_at: None };
        self.permits.insert(Arc::clone(&permit_id), Held { state, budget });
        self.reporting += 1;
        self.outbox.report(permit_id);
    }

    /// Whether more may be taken from the mailbox.
    pub(crate) fn has_room(&self) -> bool {
        self.reporting < UNANSWERED_MAX && self.outbox.cancels() < UNANSWERED_MAX
    }

    pub(crate) fn is_reporting(&self) -> bool {
        self.reporting > 0
    }

    /// Whether nobody waits, no guard lives and no report is unanswered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.permits.is_empty()
    }

    /// Whether nobody waits and no guard lives.
    pub(crate) fn has_only_reports(&self) -> bool {
        self.waiting.is_empty() && self.permits.len() == self.reporting
    }

    // What the server says.

    /// A new session stands. With `resumed` the server still knows everything; without, nothing.
    pub(crate) fn welcome(&mut self, resumed: bool, now: Instant) {
        self.outbox = Outbox::default();
        let mut request_ids: Vec<u64> = self.waiting.keys().copied().collect();
        request_ids.sort_unstable();
        for request_id in request_ids {
            self.outbox.acquire(request_id);
        }
        for (permit_id, held) in &mut self.permits {
            match &mut held.state {
                HeldState::Reporting { again_at, .. } => {
                    *again_at = None;
                    self.outbox.report(Arc::clone(permit_id));
                }
                // Whatever the last server thought of it, this one is asked.
                HeldState::Live { extend_at, ttl } if !ttl.is_zero() => {
                    extend_at.get_or_insert(now);
                }
                HeldState::Live { .. } => {}
            }
        }
        for request_id in self.cancelling.drain() {
            if resumed {
                self.outbox.cancel(request_id);
            }
        }
        if !resumed {
            self.waiting.values_mut().for_each(|waiting| waiting.sent = false);
        }
        self.next_sweep = Some(now);
    }

    pub(crate) fn granted(&mut self, granted: wire::Granted, now: Instant) {
        let Some(permit) = granted.permit else { return };
        let ttl = permit.ttl.map(convert::duration).unwrap_or_default().min(TTL_MAX);
        if let Some(held) = self.permits.get_mut(permit.permit_id.as_str()) {
            // Sent again on resume, or with a new end.
            if let HeldState::Live { extend_at, .. } = &mut held.state {
                *extend_at = extension(ttl, now);
            }
            return;
        }
        let permit_id: PermitId = permit.permit_id.as_str().into();
        self.cancelling.remove(&granted.request_id);
        let request_id = self.own_id(granted.request_id);
        let Some(waiting) = self.waiting.get_mut(&request_id) else {
            self.report(permit_id, Box::new(Report::cancelled()), None);
            return;
        };
        let extend_at = extension(ttl, now);
        let budget = self.counts_live.then(|| budget_name(&permit.provider, &permit.key));
        let held = Held { state: HeldState::Live { extend_at, ttl }, budget };
        self.permits.insert(Arc::clone(&permit_id), held);
        self.next_sweep = earlier(self.next_sweep, extend_at);
        let permit = Permit {
            id: permit_id,
            provider: permit.provider,
            key: permit.key,
            expires_at: permit.expires_at.and_then(convert::system_time),
            waited: permit.waited.map(convert::duration).unwrap_or_default(),
            charged: permit.charged.map(Usage::from_wire).unwrap_or_default(),
            source: Source::Server,
        };
        waiting.reply.send(Ok(Guard::new(permit, Hold::Server, Arc::clone(&self.mailbox))));
        waiting.remaining -= 1;
        if waiting.remaining == 0 {
            self.remove(request_id);
        }
    }

    pub(crate) fn answered(&mut self, answer: &wire::ReportResponse) {
        self.reported(&answer.permit_id, Ok(Advice::from_wire(answer)));
    }

    fn reported(&mut self, permit_id: &str, answer: Result<Advice, Error>) {
        if self.permits.get(permit_id).is_none_or(Held::is_live) {
            return;
        }
        self.reporting -= 1;
        if let Some(Held { state: HeldState::Reporting { reply: Some(reply), .. }, .. }) =
            self.permits.remove(permit_id)
        {
            drop(reply.send(answer));
        }
    }

    // Time.

    /// When [`sweep`](Self::sweep) has something to do.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Extends the permits of guards that live long, and sends reports again that were refused for now. Everything that is due soon goes along, so that a sweep is seldom: not more often than
    /// eight times in a permit's life.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| now < at) {
            return;
        }
        self.next_sweep = None;
        for (permit_id, held) in &mut self.permits {
            let next = match &mut held.state {
                HeldState::Live { extend_at, ttl } => {
                    if extend_at.is_some_and(|at| at <= now + *ttl / 8) {
                        self.outbox.extend(Arc::clone(permit_id));
                        *extend_at = extension(*ttl, now);
                    }
                    *extend_at
                }
                HeldState::Reporting { again_at, .. } => {
                    if again_at.take_if(|at| *at <= now).is_some() {
                        self.outbox.report(Arc::clone(permit_id));
                    }
                    *again_at
                }
            };
            self.next_sweep = earlier(self.next_sweep, next);
        }
    }

    // Going out.

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whatever is ready, within the bounds of one message. May come out empty where everything was cancelled meanwhile.
    pub(crate) fn message(&mut self, now: Instant) -> wire::SessionRequest {
        let Self { waiting, permits, cancelling, outbox, .. } = self;
        outbox.message(
            |request_id| {
                let waiting = waiting.get_mut(&request_id)?;
                waiting.sent = true;
                waiting.again_at = None;
                Some(wire::AcquireRequest {
                    request_id: waiting.number,
                    max_wait: wait_left(waiting.wait, waiting.asked_at, now),
                    count: waiting.remaining,
                    ..waiting.ask.clone()
                })
            },
            |permit_id| match &permits.get(permit_id)?.state {
                HeldState::Reporting { report, .. } => Some(report.to_wire(permit_id.to_owned())),
                HeldState::Live { .. } => None,
            },
            |request_id| {
                if cancelling.len() < CANCELLING_MAX {
                    cancelling.insert(request_id);
                }
            },
        )
    }

    // Without a server.

    /// All that wait, in the order in which they asked.
    pub(crate) fn waiting_ids(&self) -> Vec<u64> {
        let mut request_ids: Vec<u64> = self.waiting.keys().copied().collect();
        request_ids.sort_unstable();
        request_ids
    }

    pub(crate) fn waiting(&mut self, request_id: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(&request_id).map(Box::as_mut)
    }

    /// Grants one permit of a waiting request in the server's place.
    pub(crate) fn grant_without_server(&mut self, request_id: u64, permit: Permit, hold: Hold) {
        // Nobody's guard gives its permit back when it is dropped.
        let guard = Guard::new(permit, hold, Arc::clone(&self.mailbox));
        let Some(waiting) = self.waiting.get_mut(&request_id) else { return };
        waiting.reply.send(Ok(guard));
        waiting.remaining -= 1;
        if waiting.remaining == 0 {
            // A server that still has it in its queue has to be told when it is back.
            self.cancel(request_id);
        }
    }

    pub(crate) fn refuse_without_server(&mut self, request_id: u64, error: Error) {
        if let Some(mut waiting) = self.cancel(request_id) {
            waiting.reply.send(Err(error));
        }
    }

    /// Callers that wait for advice are told that there is none for now; the reports stay.
    pub(crate) fn let_reporters_go(&mut self, problem: &str) {
        for held in self.permits.values_mut() {
            if let HeldState::Reporting { reply, .. } = &mut held.state
                && let Some(reply) = reply.take()
            {
                drop(reply.send(Err(Error::report_kept(problem))));
            }
        }
    }

    /// Guards that hold permits of `budget`.
    pub(crate) fn live(&self, budget: &str) -> u32 {
        let of_budget = |held: &&Held| held.budget.as_deref() == Some(budget);
        let live = self.permits.values().filter(of_budget).filter(|held| held.is_live());
        u32::try_from(live.count()).unwrap_or(u32::MAX)
    }

    /// The budget of a permit that the server gave and that is not reported yet.
    pub(crate) fn budget_of_live(&self, permit_id: &str) -> Option<Arc<str>> {
        let held = self.permits.get(permit_id)?;
        held.budget.clone().filter(|_| held.is_live())
    }

    /// Ends everything: what waits is cancelled, what is held is reported as its guard would when dropped.
    pub(crate) fn close(&mut self) {
        for request_id in self.waiting_ids() {
            self.refuse_without_server(request_id, Error::closed());
        }
        let live = self.permits.iter().filter(|(_, held)| held.is_live());
        let live: Vec<PermitId> = live.map(|(permit_id, _)| Arc::clone(permit_id)).collect();
        for permit_id in live {
            self.report(permit_id, Box::new(Report::failed()), None);
        }
    }

    fn forget(&mut self, waiting: &Waiting) {
        if waiting.sent {
            self.outbox.cancel(waiting.number);
            if self.cancelling.len() < CANCELLING_MAX {
                self.cancelling.insert(waiting.number);
            }
        }
    }

    fn remove(&mut self, request_id: u64) -> Option<Box<Waiting>> {
        let waiting = self.waiting.remove(&request_id)?;
        self.renumbered.remove(&waiting.number);
        Some(waiting)
    }

    /// Of the request that the server knows by `number`.
    fn own_id(&self, number: u64) -> u64 {
        self.renumbered.get(&number).copied().unwrap_or(number)
    }
}

/// How budgets are named in the client: as the server does.
pub(crate) fn budget_name(provider: &str, key: &str) -> Arc<str> {
    let key = if key.is_empty() { "default" } else { key };
    format!("{provider}/{key}").into()
}

/// Half of its life after `now`. A permit without a life is not extended.
fn extension(ttl: Duration, now: Instant) -> Option<Instant> {
    if ttl.is_zero() { None } else { now.checked_add(ttl / 2) }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
