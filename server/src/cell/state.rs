//! What stands behind a cell's lock, and what it makes of requests and reports before the heart sees them.

use permitd_budget::{
    Acquired, Event, Outcome, PermitKey, Pressure, Reason, Refusal, Report, Reported, Request, Time,
};

use super::{Declared, Exemplars, Heart, traced::Finished};
use crate::{inbox::Waiter, profile::Profile, schedule::InForce};

/// Unreported permits of one budget. Past it, acquires are refused until some are reported or expire.
pub(crate) const IN_FLIGHT_MAX: u32 = 4_000_000;

/// Why a cell took no request.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The budget was deleted, or went to another server; one of the same name may have come since.
    Gone,
    /// [`IN_FLIGHT_MAX`] permits are unreported.
    TooManyPermits,
    /// By the heart.
    Refused(Refusal),
}

/// What a cell's lock holds.
pub(super) struct State {
    pub(super) heart: Heart,
    pub(super) life: Life,
    pub(super) declared: Declared,
    /// What of it the heart has.
    pub(super) in_force: InForce,
    /// Whether the declaration has to be written down.
    pub(super) declared_anew: bool,
    /// Whether, once deleted, that has to be remembered: the configuration declares it.
    pub(super) leaves_a_mark: bool,
    /// In which hurry the keeper was told that it changed since it was last saved, if it was.
    pub(super) noted: Option<Pressure>,
    /// When the alarm is set, if it is.
    pub(super) alarm: Option<Time>,
    /// Traces for the waits that were counted since somebody asked for them first: only of budgets that have series of their own.
    pub(super) exemplars: Option<Exemplars>,
    /// Sampled requests that have ended. Empty between calls.
    pub(super) finished: Vec<Finished>,
    /// Empty between calls; keeps its room.
    pub(super) events: Vec<Event<Waiter>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    /// Takes reports, grants nothing more.
    Draining,
    /// Takes reports, grants nothing more, and its name is free again.
    Deleted,
    /// Another server's, or about to be: takes nothing. In good order, it is written down once more.
    Away {
        in_order: bool,
    },
}

impl State {
    pub(super) fn is_away(&self) -> bool {
        matches!(self.life, Life::Away { .. })
    }

    pub(super) fn acquire(
        &mut self,
        now: Time,
        request: Request<'_, Waiter>,
        events: &mut Vec<Event<Waiter>>,
    ) -> Result<Acquired, NotTaken> {
        let trace = request.waiter.trace.clone();
        let taken = self.check_life();
        let answer =
            taken.and_then(|()| self.heart.awake().acquire(now, request, events).map_err(NotTaken::Refused));
        self.note_answer(now, trace, &answer);
        answer
    }

    /// As [`State::acquire`] without a trace, and a refusal is not counted.
    pub(super) fn join(
        &mut self,
        now: Time,
        request: Request<'_, Waiter>,
        events: &mut Vec<Event<Waiter>>,
    ) -> Result<Acquired, NotTaken> {
        self.check_life()?;
        self.heart.awake().join(now, request, events).map_err(NotTaken::Refused)
    }

    fn check_life(&self) -> Result<(), NotTaken> {
        match self.life {
            Life::Deleted | Life::Away { .. } => Err(NotTaken::Gone),
            Life::Draining => Err(NotTaken::Refused(Refusal::new(Reason::Draining))),
            Life::Serving if self.heart.in_flight() >= IN_FLIGHT_MAX => Err(NotTaken::TooManyPermits),
            Life::Serving => Ok(()),
        }
    }

    /// Settles a permit. What the response tells of limits is about the models that share them with the permit's own.
    pub(super) fn report(
        &mut self,
        profile: &Profile,
        now: Time,
        permit: PermitKey,
        report: &Report,
        events: &mut Vec<Event<Waiter>>,
    ) -> (Reported, Option<Waiter>) {
        if report.observed.is_empty() {
            return self.heart.awake().report(now, permit, report, events);
        }
        let mut report = report.clone();
        match self.heart.awake().model_of(permit).map(|model| profile.sharing(model)) {
            Some(models) => {
                let open = report.observed.iter_mut().filter(|observed| observed.models.is_empty());
                open.for_each(|observed| observed.models = models.into());
            }
            // It ended before: nobody knows any more whose limits these are.
            None => report.observed.clear(),
        }
        self.heart.awake().report(now, permit, &report, events)
    }

    pub(super) fn give_back(&mut self, now: Time, permits: &[PermitKey], events: &mut Vec<Event<Waiter>>) {
        // What is written down of it last is what it was when it left.
        if self.is_away() {
            return;
        }
        let unused = Report::new(Outcome::Cancelled);
        for &permit in permits {
            self.heart.awake().report(now, permit, &unused, events);
        }
    }
}
