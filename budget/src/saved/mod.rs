//! A budget to be written down and read back, so that it survives its process.
//!
//! A budget that is [kept](Budget::keep) grants nothing that is not covered by a write: each [`Budget::save`] sets aside, of every
//! limit, what may be taken before the next one (`meter/escrow.rs`), and [`Budget::saved`] says that it is safe. What
//! [`Budget::restore`] makes of it after a crash has granted at least as much as the one that is gone: everything that was set
//! aside counts as taken. The last save of an orderly end sets nothing aside, so nothing is lost then.
//!
//! Requests are written nowhere: whoever waited asks again. Permits are, slot by slot: of those that came and went between two
//! writes nothing is ever written.

mod learned;
mod ledger;
mod restore;
mod save;
mod strangers;

use std::time::Duration;

pub use learned::{SavedCourse, SavedGate, SavedGradient, SavedLearned, SavedPace};
pub(crate) use ledger::Ledger;
pub use ledger::Pressure;
pub(crate) use strangers::Strangers;

use crate::{request::Priority, spec::LimitSpec, time::Time, usage::Amounts};

/// Everything of a budget that has to be written down, but its declaration and its permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedBudget {
    /// When it stood so.
    pub at: Time,
    /// The number that the next permit gets.
    pub next_serial: u64,
    /// Permits that may be granted before the next write.
    pub serials: u64,
    /// In the order in force.
    pub limits: Vec<SavedLimit>,
    /// Tenants whose own meters are not full, by name.
    pub tenants: Vec<SavedTenant>,
    /// What holds back all of it.
    pub gate: SavedGate,
    /// The provider's quota is used up, until then if that is known.
    pub exhausted: Option<Option<Time>>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedLimit {
    /// As it was in force: what is declared may be another by now, and some limits nobody declared.
    pub spec: LimitSpec,
    /// What all share; `None` where every tenant has a meter of its own.
    pub meter: Option<SavedMeter>,
    /// What the provider taught of it.
    pub learned: SavedLearned,
    /// Where every tenant has a meter of its own: what is set aside for each of whom nothing is written down.
    pub strangers: Option<SavedStrangers>,
}

/// What tenants may have taken of whom nothing is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedStrangers {
    /// Units that each may take before the next write; `u64::MAX` for all there are.
    pub allowance: u64,
    /// Units that each may have taken before the last crash, and until when that counts.
    pub owed: Option<(u64, Time)>,
}

/// A tenant with meters of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTenant {
    /// Its name.
    pub tenant: String,
    /// By the place of the limit.
    pub meters: Vec<(u8, SavedMeter)>,
}

/// What is left of a limit, and what is set aside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedMeter {
    /// What is left.
    pub level: Level,
    /// Units that may be taken before the next write; `u64::MAX` for all there are.
    pub allowance: u64,
}

/// What is left, by the way of counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Parts in a token bucket, negative for debt; and how full it has been, by the order of charges.
    Bucket {
        /// It refills from then on; where that is over, from when the budget stood so.
        refills_from: Time,
        /// Units times nanoseconds of the window.
        parts: i128,
        /// The order of a charge, and the level before it.
        peaks: Vec<(u64, i128)>,
    },
    /// Units used in the fixed window of that moment.
    Fixed {
        /// Debt of earlier windows included.
        used: u128,
    },
    /// What still counts in a sliding window, the oldest first: until when it was taken, and how much.
    Sliding {
        /// At most 1,025.
        taken: Vec<(Time, u128)>,
    },
    /// Slots follow from the permits; some may be in doubt since a crash, until then.
    Slots {
        /// How many, and until when.
        doubted: Option<(u64, Time)>,
    },
}

/// A permit that is neither reported nor expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPermit {
    /// As in `PermitKey`.
    pub key: u64,
    /// Who asked.
    pub tenant: String,
    /// For which model, or empty.
    pub model: String,
    /// The class.
    pub priority: Priority,
    /// What it holds.
    pub charge: Amounts,
    /// When it was granted.
    pub granted: Time,
    /// When it ends by itself.
    pub expires: Time,
    /// How long it lives.
    pub ttl: Duration,
    /// How long the request was in the queue.
    pub waited: Duration,
    /// Whether the caller left the output open, so that what is used teaches the next estimate.
    pub open_output: bool,
}

/// What changed about permits since the last save: a slot, and the permit that is in it now.
pub type PermitChange = (u32, Option<SavedPermit>);

/// One moment on two clocks: the one that a budget was saved by, and the one that it goes on by. They differ if the clock was
/// set, or can't be trusted to have gone on; a budget sees neither a jump ahead nor one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The moment on the clock of what was saved: not before anything that was saved.
    pub by_old_clock: Time,
    /// The same moment on the clock from now on.
    pub now: Time,
}

impl Resumed {
    /// The same clock as before.
    #[must_use]
    pub fn at(now: Time) -> Self {
        Self { by_old_clock: now, now }
    }

    /// The moment `time` of the old clock on the new one. The ends of time stay where they are.
    #[must_use]
    pub fn moved(&self, time: Time) -> Time {
        if time == Time::ZERO || time == Time::MAX {
            return time;
        }
        let (old, now) = (i128::from(self.by_old_clock.as_nanos()), i128::from(self.now.as_nanos()));
        let moved = i128::from(time.as_nanos()) - old + now;
        let last = i128::from(u64::MAX) - 1;
        Time::from_nanos(u64::try_from(moved.clamp(1, last)).expect("clamped to what fits"))
    }
}
