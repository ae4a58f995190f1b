//! What the provider taught of a limit, written down and read back: a new process follows it from where the old one was, and does not
//! ask for refusals that tell what was known. What went through lately is not written: it tells nothing across a pause.

use super::Resumed;
use crate::{
    feedback::{Burst, Cushion, Gate, Gradient, Lesson, Pace, Phase},
    limit::{Rule, Source},
    time::Time,
};

/// Who says that there is such a limit, and what the provider taught of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedLearned {
    /// Who says so.
    pub source: Source,
    /// What the provider's headers say the limit is.
    pub told: Option<u64>,
    /// What holds grants back.
    pub gate: SavedGate,
    /// How much of it is granted; `None` for all that is configured.
    pub pace: Option<SavedPace>,
    /// What how long calls take has taught; `None` where the limit does not follow that.
    pub gradient: Option<SavedGradient>,
    /// Units kept back, and when that was widened last.
    pub cushion: (u64, Time),
    /// The most that the provider takes at once, and when that was learned.
    pub burst: Option<(u64, Time)>,
    /// When the provider last refused for it; zero if it never did.
    pub refused_at: Time,
}

/// What holds grants back after a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedGate {
    /// Nothing is granted before then.
    pub frozen_until: Time,
    /// Refusals in a row.
    pub in_a_row: u32,
    /// When the latest event was heard of: refusals of calls from before it are part of it.
    pub heard: Option<Time>,
    /// Grants since it thawed, while it opens slowly.
    pub probing: Option<u64>,
}

/// The effective amount of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPace {
    /// Units per window.
    pub amount: u64,
    /// Where it collapsed last.
    pub ceiling: Option<u64>,
    /// How long a rise takes to double it, in nanoseconds.
    pub double_nanos: u64,
    /// What taught it last.
    pub lesson: Option<Lesson>,
    /// Its way back up; `None` if time changes nothing.
    pub course: Option<SavedCourse>,
}

/// The way back up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedCourse {
    /// How far it has come.
    pub phase: Phase,
    /// Units that work, as far as known.
    pub good: u64,
    /// Units at the beginning of this phase.
    pub from: u64,
    /// Nanoseconds of use since then.
    pub used_nanos: u64,
    /// Calls since then.
    pub calls: u64,
    /// Nanoseconds and calls of use that a hold takes.
    pub hold: (u64, u64),
    /// How long a rise takes to double the limit, in nanoseconds.
    pub double_nanos: u64,
}

/// What how long calls take has taught of a limit in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedGradient {
    /// So many at once.
    pub limit: u64,
    /// With so many nothing queued.
    pub settled: u64,
    /// What calls take then, in nanoseconds; 0 if nothing is known.
    pub long_nanos: u64,
    /// How many averages that is the average of.
    pub windows: u64,
    /// The mean difference of one call from the next, in nanoseconds.
    pub spread_nanos: u64,
    /// Whether it doubles, since nothing queued so far.
    pub doubles: bool,
    /// When it became so many.
    pub moved: Time,
}

impl Rule {
    pub(super) fn learned(&self) -> SavedLearned {
        SavedLearned {
            source: self.source,
            told: self.told,
            gate: self.gate.saved(),
            pace: self.pace.saved(),
            gradient: self.gradient.as_ref().map(|gradient| gradient.saved()),
            cushion: self.cushion.saved(),
            burst: self.burst.saved(),
            refused_at: self.refused_at,
        }
    }

    /// Goes on with what was learned. For a rule that is new.
    pub(super) fn learn_again(&mut self, learned: &SavedLearned, back: &Resumed) {
        self.told = learned.told;
        self.gate = Gate::restored(&learned.gate, back);
        self.cushion = Cushion::restored((learned.cushion.0, back.moved(learned.cushion.1)));
        self.burst = Burst::restored(learned.burst.map(|(units, at)| (units, back.moved(at))));
        self.refused_at = back.moved(learned.refused_at);
        let cap = self.cap();
        self.pace = match &learned.pace {
            Some(pace) => Pace::restored(pace, cap, back),
            None if cap == u64::MAX => Pace::capped(self.spec.amount),
            None => Pace::capped(cap),
        };
        if let (Some(gradient), Some(saved)) = (&mut self.gradient, &learned.gradient) {
            **gradient = Gradient::restored(saved, self.spec.amount, back);
        }
        self.measure_capacity();
    }
}
