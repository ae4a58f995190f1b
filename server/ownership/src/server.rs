//! A server, as far as ownership goes: its lease by its own clock, and the budget while it is its own.

use crate::{
    etcd::{Kept, Write},
    model::{BURST, LEASE, SET_ASIDE},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) standing: Option<Standing>,
    /// How long ago a renewal of the lease was sent of which nothing was heard yet.
    pub(crate) renewal: Option<u8>,
    pub(crate) seat: Option<Seat>,
}

/// A lease by the server's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// How long the server grants yet.
    pub(crate) left: u8,
    /// Whether its clock has fallen behind, which it does once in a lease at most.
    pub(crate) lagged: bool,
}

/// The budget, as its owner has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    /// The revisions of the claim, as far as the owner knows.
    pub(crate) made: u8,
    pub(crate) written: u8,
    /// Whether a write that was given up may still come.
    pub(crate) doubted: bool,
    /// On its way to another server.
    pub(crate) leaving: bool,
    pub(crate) level: u8,
    /// What may be granted, whichever write is the last to survive.
    pub(crate) left: u8,
    pub(crate) writing: Option<Writing>,
}

/// A write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writing {
    pub(crate) write: Write,
    /// What was granted since it was begun.
    pub(crate) granted: u8,
}

impl Server {
    /// Time passes; by its own clock too, unless that falls behind.
    pub(crate) fn tick(&mut self, lags: bool) {
        if let Some(standing) = &mut self.standing {
            if lags {
                standing.lagged = true;
            } else {
                standing.left = standing.left.saturating_sub(1);
            }
        }
        // An answer that comes later than that is no use.
        self.renewal = self.renewal.map(|age| age + 1).filter(|age| *age < LEASE);
        if let Some(seat) = &mut self.seat {
            seat.level = (seat.level + 1).min(BURST);
            if let Some(writing) = &mut seat.writing {
                writing.write.kept.refill();
            }
        }
    }

    /// Whether it believes that its lease has not lapsed.
    pub(crate) fn is_leased(&self) -> bool {
        self.standing.is_some_and(|standing| standing.left > 0)
    }

    /// Gives everything up at once. What was being written may still come.
    pub(crate) fn fall(&mut self) -> Option<Write> {
        Some(std::mem::take(self).seat?.writing?.write)
    }
}

impl Seat {
    /// Begins with what is kept, and with what was set aside counted as granted.
    pub(crate) fn load(made: u8, kept: Kept, counts_aside: bool) -> Self {
        let aside = if counts_aside { kept.aside } else { 0 };
        let level = kept.level.saturating_sub(aside);
        Self { made, written: made, doubted: false, leaving: false, level, left: 0, writing: None }
    }

    /// Begins to write down what is left.
    pub(crate) fn save(&mut self) {
        let aside = if self.leaving { 0 } else { SET_ASIDE.min(self.level) };
        let write = Write { under: self.written, kept: Kept { level: self.level, aside } };
        // Whether it survives or the one before: both have to cover what is granted.
        self.left = self.left.min(aside);
        self.writing = Some(Writing { write, granted: 0 });
    }

    /// The write is done.
    pub(crate) fn confirm(&mut self, writing: &Writing) {
        self.left = writing.write.kept.aside.saturating_sub(writing.granted);
    }

    pub(crate) fn grant(&mut self) {
        self.level -= 1;
        self.left = self.left.saturating_sub(1);
        if let Some(writing) = &mut self.writing {
            writing.granted += 1;
        }
    }
}
