//! What a budget makes of the provider's answers. Declared limits and headers say what there is; refusals only correct. A burst of
//! refusals of calls that were under way together is one event.
//!
//! | room | what is there |
//! |---|---|
//! | `learn` | the reaction to each class of outcome |
//! | `gate` | freezes, the ladder, the probe that goes first |
//! | `admissions` | whether a provider without capacity for some calls lets others in, and whether those that it turned away counted |
//! | `traffic` | what went through a limit, and the provider's rate between two refusals |
//! | `pace` | the effective amount of a limit: down once an event, and back up |
//! | `cushion` | what is kept back against jitter, and how much of a burst the provider takes |
//! | `gradient` | how many calls at once a provider takes before it gets slower, for limits that ask for it |
//! | `headers` | limits and levels that responses tell |
//! | `discovery` | limits that nobody declared |
//! | `history`, `recent`, `jitter` | what these need to know |

mod admissions;
mod cushion;
mod discovery;
mod gate;
mod gradient;
mod headers;
mod history;
mod jitter;
mod learn;
mod pace;
mod recent;
mod traffic;

use std::time::Duration;

pub use self::pace::{Lesson, Phase, Teacher};
pub(crate) use self::{
    admissions::Admissions,
    cushion::{Burst, Cushion},
    gate::{Gate, WAIT_MAX},
    gradient::Gradient,
    history::History,
    jitter::Jitter,
    learn::Heard,
    pace::Pace,
    recent::Recent,
    traffic::Traffic,
};
use crate::time::Time;

/// What holds back the budget as a whole.
#[derive(Debug)]
pub(crate) struct Feedback {
    /// Closed while the provider is overloaded.
    pub(crate) gate: Gate,
    /// Of calls that the provider had or had no capacity for.
    pub(crate) admissions: Admissions,
    /// Quota used up, until then if a reset is known.
    exhausted: Option<Option<Time>>,
    pub(crate) jitter: Jitter,
    pub(crate) recent: Recent,
    /// When all refusals of a burst have been heard of; [`Time::MAX`] if none was.
    pub(crate) look_back_at: Time,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            gate: Gate::default(),
            admissions: Admissions::default(),
            exhausted: None,
            jitter: Jitter::default(),
            recent: Recent::default(),
            look_back_at: Time::MAX,
        }
    }
}

impl Feedback {
    /// Until when nothing at all is granted.
    pub(crate) fn frozen(&self, now: Time) -> Option<Time> {
        self.gate.closed_until(now)
    }

    /// Whether the quota is used up, and until when if that is known.
    pub(crate) fn exhausted(&self, now: Time) -> Option<Option<Time>> {
        self.exhausted.filter(|until| until.is_none_or(|until| until > now))
    }

    /// Goes on from what was written down.
    pub(crate) fn restore(&mut self, gate: Gate, exhausted: Option<Option<Time>>) {
        (self.gate, self.exhausted) = (gate, exhausted);
    }

    /// The provider says that the quota is used up.
    pub(crate) fn exhaust(&mut self, wait: Option<Duration>, now: Time) {
        self.exhausted = Some(wait.map(|wait| now + wait.min(WAIT_MAX)));
    }

    /// An administrator says that the quota is there again.
    pub(crate) fn resume(&mut self) {
        self.exhausted = None;
        self.gate.open();
    }
}
