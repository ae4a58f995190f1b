//! Why nothing moves: what holds a budget back, who waits for what, and what was refused of late. Facts only; sentences are for
//! whoever shows them.

use std::time::Duration;

use crate::{
    admission,
    budget::Budget,
    past::{PastAnswer, PastRefusal, Seen},
    request::{Place, Priority, Ticket},
    slab::slot_of,
    time::Time,
};

/// Lines that are looked at one by one: the longest.
pub const LINES_MAX: usize = 32;

/// A budget's queue at one instant, and its last refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What keeps the budget as a whole from granting anything.
    pub halts: Vec<Halt>,
    /// Who waits: the longest lines, at most [`LINES_MAX`].
    pub lines: Vec<Line>,
    /// Requests in shorter lines.
    pub others_waiting: u32,
    /// When the first permit ends by itself.
    pub next_expiry: Option<Time>,
    /// Requests that were refused, the newest first.
    pub refusals: Vec<Seen<PastRefusal>>,
    /// Calls that the provider refused, the newest first.
    pub answers: Vec<Seen<PastAnswer>>,
    /// How it would be in earnest; `None` unless the budget is in shadow mode.
    pub shadow: Option<Box<Standing>>,
}

/// What keeps a whole budget from granting anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// An administrator paused it.
    Paused,
    /// The provider's quota is used up, until then if that is known.
    Exhausted(Option<Time>),
    /// The provider is overloaded: nothing before then.
    Frozen(Time),
    /// Everything that was written down as set aside has been granted, until the next write.
    Store,
}

/// Requests of one tenant and class that wait for the same limits, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub tenant: String,
    /// Their class.
    pub priority: Priority,
    /// The model of the first.
    pub model: String,
    /// How many.
    pub waiting: u32,
    /// How long the first has waited.
    pub oldest: Duration,
    /// Where the first stands, and what binds it.
    pub first: Place,
}

impl<W: Clone> Budget<W> {
    /// A look at who waits and why. Takes time in proportion to tenants, and to limits for the longest lines.
    #[must_use]
    pub fn standing(&mut self, now: Time) -> Standing {
        let now = self.now.max(now);
        let mut longest: Vec<(u32, u32)> = self.queue.lines().collect();
        longest.sort_unstable_by_key(|(lane, len)| (std::cmp::Reverse(*len), *lane));
        let others = longest.iter().skip(LINES_MAX).map(|(_, len)| len).sum();
        longest.truncate(LINES_MAX);
        Standing {
            halts: self.halts(now),
            lines: longest.into_iter().filter_map(|(lane, len)| self.line(now, lane, len)).collect(),
            others_waiting: others,
            next_expiry: self.expiries.first(),
            refusals: self.refusals.newest(),
            answers: self.provider_refusals.newest(),
            shadow: self.shadow.as_mut().map(|shadow| Box::new(shadow.standing(now))),
        }
    }

    /// What holds back the whole of it.
    #[must_use]
    pub fn halts(&self, now: Time) -> Vec<Halt> {
        let paused = self.paused.then_some(Halt::Paused);
        let exhausted = self.feedback.exhausted(now).map(Halt::Exhausted);
        let frozen = self.feedback.frozen(now).map(Halt::Frozen);
        let store = (!self.ledger.serials.covers(1)).then_some(Halt::Store);
        [paused, exhausted, frozen, store].into_iter().flatten().collect()
    }

    fn line(&mut self, now: Time, lane: u32, waiting: u32) -> Option<Line> {
        let slot = self.queue.head(lane);
        let first = self.place(now, Ticket(self.waiting.key_at(slot)?))?;
        let head = self.waiting.at(slot);
        let lane = self.queue.lane(lane);
        Some(Line {
            tenant: self.tenants.name(lane.tenant).to_owned(),
            priority: lane.class,
            model: self.models.name(head.model).to_owned(),
            waiting,
            oldest: now.since(head.asked),
            first,
        })
    }

    /// The limit that keeps a waiting request from being granted: for the first of a lane the one that was in its way, for those behind
    /// it the one that is likely to be.
    pub(crate) fn binding(&self, ticket: Ticket, alone: &admission::Alone) -> Option<usize> {
        let waiting = self.waiting.get(ticket.0)?;
        let lane = waiting.lane;
        let in_the_way = || self.queue.held_since(lane, waiting.asked)?.1.limit();
        let likely = alone.binding.or(alone.full);
        if self.queue.head(lane) == slot_of(ticket.0) {
            in_the_way().or(likely)
        } else {
            likely.or_else(in_the_way)
        }
    }
}
