//! What a budget has to tell whoever writes it down: which permits changed, whether it is time, and who waits for it.

use hashbrown::HashSet;

use crate::{meter::Escrow, request::Ticket, time::Time};

/// Permits that may be granted between two writes: their numbers are skipped after a crash, so that none names two.
pub(crate) const SERIALS: u64 = 1 << 22;
/// Reports on permits from before a crash that are told apart. Further ones free no slot.
const REPORTS_MAX: usize = 1 << 20;

/// How urgently a budget wants to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// With the next regular write.
    None,
    /// Half of what was set aside is gone.
    Soon,
    /// Somebody waits for it.
    Now,
}

/// The budget's side of being written down. By default it is not.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether it is written down at all.
    pub(crate) on: bool,
    /// Whether the latest write failed.
    pub(crate) failing: bool,
    /// Whether a request waits for nothing but the next write.
    pub(crate) withheld: bool,
    /// Whether something that was set aside is half gone.
    pub(crate) pressing: bool,
    pub(crate) touched: Touched,
    pub(crate) serials: Escrow,
    /// Requests that wait for the next write and for nothing else.
    pub(crate) tries: Vec<Ticket>,
    pub(crate) doubt: Doubt,
}

impl Ledger {
    pub(crate) fn pressure(&self) -> Pressure {
        match (self.withheld, self.pressing) {
            (true, _) => Pressure::Now,
            (false, true) => Pressure::Soon,
            (false, false) => Pressure::None,
        }
    }

    /// A slot got another permit, or lost the one it had.
    pub(crate) fn touch(&mut self, slot: u32) {
        if self.on {
            self.touched.mark(slot);
        }
    }
}

/// A set of slots that is emptied again and again: each is in it once, however often it changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    marks: Vec<u64>,
    slots: Vec<u32>,
}

impl Touched {
    pub(crate) fn mark(&mut self, slot: u32) {
        let (word, bit) = (slot as usize / 64, 1_u64 << (slot % 64));
        if word >= self.marks.len() {
            self.marks.resize(word + 1, 0);
        }
        if self.marks[word] & bit == 0 {
            self.marks[word] |= bit;
            self.slots.push(slot);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u32> {
        for slot in &self.slots {
            self.marks[*slot as usize / 64] = 0;
        }
        std::mem::take(&mut self.slots)
    }
}

/// Permits that may have been granted just before a crash: their ids are genuine, and nothing else is known of them.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// Their numbers, without the end.
    serials: (u64, u64),
    /// All of them have ended by then.
    pub(crate) until: Option<Time>,
    reported: HashSet<u64, foldhash::fast::FixedState>,
}

impl Doubt {
    pub(crate) fn new(serials: (u64, u64), until: Option<Time>) -> Self {
        Self { serials, until, reported: HashSet::default() }
    }

    /// Whether this is the first report of such a permit.
    pub(crate) fn report(&mut self, serial: u64) -> bool {
        let (first, end) = self.serials;
        self.until.is_some()
            && (first..end).contains(&serial)
            && self.reported.len() < REPORTS_MAX
            && self.reported.insert(serial)
    }

    /// Whether there is any, and this moment ends it.
    pub(crate) fn end(&mut self, now: Time) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            *self = Self::default();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a slot that changed is told once, and again after it changed again.
    #[test]
    fn slots_are_told_once() {
        let mut touched = Touched::default();
        for slot in [3, 64, 3, 1_000_000, 64] {
            touched.mark(slot);
        }
        assert_eq!(touched.take(), [3, 64, 1_000_000]);
        assert!(touched.take().is_empty());
        touched.mark(64);
        assert_eq!(touched.take(), [64]);
    }

    /// Goal: a permit in doubt counts once, and only while there is doubt.
    #[test]
    fn doubts_are_reported_once() {
        let end = Time::from_nanos(9);
        let mut doubt = Doubt::new((10, 20), Some(end));
        assert!(doubt.report(10) && !doubt.report(10) && doubt.report(19));
        assert!(!doubt.report(9) && !doubt.report(20));
        assert!(!doubt.end(Time::from_nanos(8)) && doubt.end(end) && !doubt.end(end));
        assert!(!doubt.report(11));
    }
}
