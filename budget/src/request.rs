//! What a caller asks for, and what it is given.

use std::time::Duration;

use crate::{
    refusal::Refusal,
    time::Time,
    usage::{Amounts, Usage},
};

/// Permits that one request may ask for.
pub const COUNT_MAX: u32 = 10_000;

/// Classes share by weight, 16 : 4 : 1, so that none starves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody is looking at a screen.
    Interactive,
    /// The default.
    #[default]
    Standard,
    /// Whenever there is room.
    Batch,
}

impl Priority {
    /// All classes, the heaviest first.
    pub const ALL: [Priority; 3] = [Priority::Interactive, Priority::Standard, Priority::Batch];

    /// The class's part relative to the others.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Priority::Interactive => 16,
            Priority::Standard => 4,
            Priority::Batch => 1,
        }
    }

    /// Its place in [`Priority::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Asks for `count` permits. `W` is whatever the caller needs to find who asked; it comes back with every answer.
#[derive(Clone, Debug)]
pub struct Request<'a, W> {
    /// Who shares the budget; not empty.
    pub tenant: &'a str,
    /// The model, or empty.
    pub model: &'a str,
    /// The class.
    pub priority: Priority,
    /// What each permit is expected to use.
    pub estimate: Usage,
    /// How many permits, 1 to [`COUNT_MAX`].
    pub count: u32,
    /// How long to wait at most; `None` means the budget's default, zero means now or not at all.
    pub max_wait: Option<Duration>,
    /// The moment at which the caller itself gives up, if it said so: a second deadline beside `max_wait`.
    pub gives_up: Option<Time>,
    /// Comes back with every answer.
    pub waiter: W,
}

/// The immediate answer to a [`Request`] that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The one permit asked for.
    Granted(Grant),
    /// In the queue; what follows comes as [`Event`]s, some perhaps already with this call.
    Waiting(Ticket),
}

/// A place in the queue, good for cancelling and asking about it. Never used again for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Names one permit of one budget. Never used again for another permit of that budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitKey(u64);

impl PermitKey {
    /// From [`PermitKey::as_u64`].
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// For writing into an opaque id.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Leave to make one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names the permit.
    pub permit: PermitKey,
    /// What it holds, per unit.
    pub charged: Amounts,
    /// When it ends by itself.
    pub expires: Time,
    /// How long it lives, and for how much longer an extension makes it live.
    pub ttl: Duration,
    /// How long the request was in the queue.
    pub waited: Duration,
}

/// What a live permit is for, to be told to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFacts {
    /// Whose it is.
    pub tenant: String,
    /// The model, or empty.
    pub model: String,
    /// Its class.
    pub priority: Priority,
    /// When it was granted.
    pub granted: Time,
    /// How long it had been waited for.
    pub waited: Duration,
}

/// Something that happened to a request or a permit other than as the direct answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<W> {
    /// One permit of a waiting request.
    Granted {
        /// Who asked.
        waiter: W,
        /// The permit.
        grant: Grant,
        /// How many of the request's permits are still waited for; at 0 the request is done.
        remaining: u32,
        /// What it waited for last.
        held_by: HeldBy,
    },
    /// A waiting request left the queue for good without its remaining permits.
    Refused {
        /// Who asked.
        waiter: W,
        /// Why.
        refusal: Refusal,
    },
    /// A permit ended without a report. Its charge stays, its in-flight slot is back.
    Expired {
        /// Who asked for it.
        waiter: W,
        /// Which.
        permit: PermitKey,
    },
}

/// What a request waited for last, before it was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldBy {
    /// Nothing but its turn.
    #[default]
    Turn,
    /// A limit, which [`Budget::limit_at`](crate::Budget::limit_at) names.
    Limit(LimitPlace),
    /// The whole budget was frozen after a refusal.
    Frozen,
    /// An administrator had paused the budget.
    Paused,
    /// The next write of what may be granted.
    Store,
}

impl HeldBy {
    pub(crate) fn limit(self) -> Option<usize> {
        match self {
            Self::Limit(place) => Some(place.0.into()),
            Self::Turn | Self::Frozen | Self::Paused | Self::Store => None,
        }
    }
}

/// A limit of a budget, by its place: good until the next call that changes the budget's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPlace(u8);

impl LimitPlace {
    /// A budget has at most 128 limits.
    pub(crate) fn of(at: usize) -> Self {
        Self(u8::try_from(at).unwrap_or(u8::MAX))
    }
}

/// A look at a waiting request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Waiting requests expected to be served before, in tag order. Exact for short queues, an estimate for long ones.
    pub position: u32,
    /// When it is likely to be served; `None` where nothing is known.
    pub estimated_wait: Option<Duration>,
    /// What binds: `input_tokens/1m model=claude-*`, `in_flight`, `frozen`, `paused`,
    /// `store` for the next write.
    pub held_by: String,
    /// The limit that binds, also while it is frozen or the budget is paused; `None` if none does.
    pub limit: Option<String>,
}
