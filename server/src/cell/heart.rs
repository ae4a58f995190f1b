//! A heart that is made when somebody needs it. Of a great many budgets most are asked nothing, and what a heart is made of takes
//! a small part of what the heart takes.

use std::sync::Arc;

use permitd_budget::{Budget, CheckedSpec, Pressure, Resumed, SavedPermit, Time};

use crate::{inbox::Waiter, profile::Profile, store::Balance};

/// A budget's heart, asleep until it is needed.
pub(crate) struct Heart {
    awake: Option<Box<Budget<Waiter>>>,
    made_of: Source,
}

/// What a heart is made of.
#[derive(Debug)]
struct Source {
    /// What of the declaration is in force.
    spec: CheckedSpec,
    profile: Arc<Profile>,
    /// What an earlier process wrote down of it; without, it starts full.
    balance: Option<Balance>,
    /// The moment from which on it counts, on the clock of what was written down and on the one that it goes on by.
    back: Resumed,
    /// Whether every grant is to be covered by a write.
    is_kept: bool,
    /// Nothing is granted from then on.
    end: Time,
}

impl Heart {
    /// One that has granted nothing yet.
    pub(super) fn new(spec: CheckedSpec, profile: Arc<Profile>, now: Time, is_kept: bool) -> Self {
        let (balance, back, end) = (None, Resumed::at(now), Time::MAX);
        Self { awake: None, made_of: Source { spec, profile, balance, back, is_kept, end } }
    }

    /// One that goes on where an earlier process left it. One with permits is awake, since they end by themselves; so is one that was
    /// written down by another clock, since that has to be done anew by this one.
    pub(crate) fn revived(
        (spec, profile): (CheckedSpec, Arc<Profile>),
        (balance, permits): (Option<Balance>, Vec<SavedPermit>),
        back: &Resumed,
        waiter: &Waiter,
    ) -> Self {
        let holds_back = balance.as_ref().is_some_and(Balance::holds_back);
        let is_awake = holds_back || !permits.is_empty() || back.by_old_clock != back.now;
        let made_of = Source { spec, profile, balance, back: *back, is_kept: true, end: Time::MAX };
        let mut heart = Self { awake: None, made_of };
        if is_awake {
            heart.awake = Some(Box::new(heart.made_of.make(permits, waiter)));
            heart.made_of.balance = None;
        }
        heart
    }

    /// The heart, made now if it was asleep.
    pub(crate) fn awake(&mut self) -> &mut Budget<Waiter> {
        let Self { awake, made_of } = self;
        awake.get_or_insert_with(|| {
            let heart = made_of.make(Vec::new(), &Waiter::nobody());
            made_of.balance = None;
            Box::new(heart)
        })
    }

    /// `None` where it is asleep: nobody waits, no permit is out, and nothing happens by itself.
    pub(super) fn if_awake(&mut self) -> Option<&mut Budget<Waiter>> {
        self.awake.as_deref_mut()
    }

    /// Looks at it as it is, or as it would be, which wakes nobody.
    pub(super) fn look<R>(&mut self, look: impl FnOnce(&mut Budget<Waiter>) -> R) -> R {
        match &mut self.awake {
            Some(heart) => look(heart),
            None => look(&mut self.made_of.make(Vec::new(), &Waiter::nobody())),
        }
    }

    /// When one that is asleep stops granting.
    pub(super) fn end_asleep(&mut self, end: Time) {
        self.made_of.end = end;
    }

    pub(super) fn is_awake(&self) -> bool {
        self.awake.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.awake.as_ref().is_some_and(|heart| heart.is_paused())
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.awake.as_ref().map_or(0, |heart| heart.in_flight())
    }

    pub(super) fn pressure(&self) -> Pressure {
        self.awake.as_ref().map_or(Pressure::None, |heart| heart.pressure())
    }
}

impl Source {
    fn make(&self, permits: Vec<SavedPermit>, waiter: &Waiter) -> Budget<Waiter> {
        let spec = self.profile.fill(&self.spec);
        let mut heart = match &self.balance {
            Some(balance) => Budget::restore(&spec, &balance.saved(), permits, &self.back, waiter),
            None => Budget::new(&spec, self.back.now),
        };
        if self.is_kept && self.balance.is_none() {
            heart.keep();
        }
        if self.end != Time::MAX {
            heart.grant_until(self.back.now, self.end, &mut Vec::new());
        }
        heart
    }
}
