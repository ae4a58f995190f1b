//! A heart that is made when somebody needs it. Of a great many budgets most are asked nothing, and what a heart is made of takes
//! a small part of what the heart takes.

use std::sync::Arc;

use permitd_budget::{Budget, CheckedSpec, Pressure, Resumed, SavedBudget, SavedPermit, Time};

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
    /// Of one that starts full: how far it is written down.
    written: Written,
    /// Nothing is granted from then on.
    end: Time,
}

/// What a new heart may grant before its next write is the same whenever that was written down, so it can be done while it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    No,
    UnderWay,
    Yes,
}

/// What has to be written down of a heart that is asleep.
pub(super) enum Asleep {
    /// As it is, or as it was.
    Nothing,
    /// What it may grant once it is awake.
    New(SavedBudget),
    /// It never granted what was set aside.
    Full,
}

impl Heart {
    /// One that has granted nothing yet.
    pub(super) fn new(spec: CheckedSpec, profile: Arc<Profile>, now: Time, is_kept: bool) -> Self {
        let (balance, back, end, written) = (None, Resumed::at(now), Time::MAX, Written::No);
        Self { awake: None, made_of: Source { spec, profile, balance, back, is_kept, written, end } }
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
        let (back, is_kept, written, end) = (*back, true, Written::No, Time::MAX);
        let made_of = Source { spec, profile, balance, back, is_kept, written, end };
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

    /// Writes down one that is asleep, for the `last` time if nothing is to be granted after it. Whether that succeeded is told by
    /// [`Heart::saved_asleep`].
    pub(super) fn save_asleep(&mut self, last: bool) -> Asleep {
        let made_of = &mut self.made_of;
        match made_of.written {
            _ if !made_of.is_kept || made_of.balance.is_some() => Asleep::Nothing,
            Written::Yes | Written::UnderWay if last => Asleep::Full,
            Written::No if !last => {
                let saved = made_of.make(Vec::new(), &Waiter::nobody()).save(made_of.back.now, false).0;
                made_of.written = Written::UnderWay;
                Asleep::New(saved)
            }
            _ => Asleep::Nothing,
        }
    }

    /// What became of that.
    pub(super) fn saved_asleep(&mut self, is_durable: bool) {
        let written = &mut self.made_of.written;
        if *written == Written::UnderWay {
            *written = if is_durable { Written::Yes } else { Written::No };
        }
    }

    /// Whether something is set aside for when it is awake.
    pub(super) fn has_set_aside(&self) -> bool {
        self.made_of.written != Written::No
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
            if self.written == Written::Yes {
                let _ = heart.save(self.back.now, false);
                heart.saved(self.back.now, &mut Vec::new());
            }
        }
        if self.end != Time::MAX {
            heart.grant_until(self.back.now, self.end, &mut Vec::new());
        }
        heart
    }
}
