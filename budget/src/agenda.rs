//! What has to happen when, on a grid of one millisecond: an item is due at the first grid point at or after its time.
//! Adding is O(log n) in the number of distinct milliseconds, nearly always at the end; removing touches only the neighbours.

use std::collections::BTreeMap;

use crate::{chunks::Chunks, time::Time};

const GRID_NANOS: u64 = 1_000_000;
const NONE: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

/// Small indices (slots of a slab) by the millisecond at which they are due.
#[derive(Debug)]
pub(crate) struct Agenda {
    /// The first item of each millisecond; the others follow it in a list.
    heads: BTreeMap<u64, u32>,
    /// The millisecond that was added to last, kept out of the map: nearly every item is added to the latest one, and many are
    /// taken off again before the next begins. Saves a tree insertion and removal for most items.
    open: Open,
    links: Chunks<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    tick: u64,
    head: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    tick: u64,
    previous: u32,
    next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { tick: NEVER, previous: NONE, next: NONE }
    }
}

impl Agenda {
    pub(crate) const fn new() -> Self {
        Self { heads: BTreeMap::new(), open: Open { tick: NEVER, head: NONE }, links: Chunks::new() }
    }

    /// Rounds up to the grid.
    pub(crate) const fn due(time: Time) -> Time {
        Time::from_nanos(time.as_nanos().div_ceil(GRID_NANOS).saturating_mul(GRID_NANOS))
    }

    /// An item may be on the agenda once.
    pub(crate) fn add(&mut self, item: u32, time: Time) {
        while self.links.len() <= item as usize {
            self.links.grow();
        }
        let tick = time.as_nanos().div_ceil(GRID_NANOS);
        debug_assert_eq!(self.links[item as usize].tick, NEVER, "an item is on the agenda once");
        if tick != self.open.tick {
            self.reopen(tick);
        }
        let next = std::mem::replace(&mut self.open.head, item);
        self.links[item as usize] = Link { tick, previous: NONE, next };
        if next != NONE {
            self.links[next as usize].previous = item;
        }
    }

    /// Does nothing for an item that is not there.
    pub(crate) fn remove(&mut self, item: u32) {
        let Some(link) = self.links.get_mut(item as usize) else { return };
        let Link { tick, previous, next } = std::mem::take(link);
        if tick == NEVER {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
        } else if tick == self.open.tick {
            self.open.head = next;
        } else if next != NONE {
            self.heads.insert(tick, next);
        } else {
            self.heads.remove(&tick);
        }
    }

    /// When the first item is due.
    pub(crate) fn first(&self) -> Option<Time> {
        self.first_item().map(|(tick, _)| Time::from_nanos(tick.saturating_mul(GRID_NANOS)))
    }

    /// Takes one item that is due off the agenda.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<u32> {
        let (tick, item) = self.first_item()?;
        if tick.saturating_mul(GRID_NANOS) > now.as_nanos() {
            return None;
        }
        self.remove(item);
        Some(item)
    }

    fn first_item(&self) -> Option<(u64, u32)> {
        let open = (self.open.head != NONE).then_some((self.open.tick, self.open.head));
        let first = self.heads.first_key_value().map(|(tick, head)| (*tick, *head));
        match (open, first) {
            (Some(open), Some(first)) => Some(open.min(first)),
            (open, first) => open.or(first),
        }
    }

    fn reopen(&mut self, tick: u64) {
        if self.open.head != NONE {
            self.heads.insert(self.open.tick, self.open.head);
        }
        self.open = Open { tick, head: self.heads.remove(&tick).unwrap_or(NONE) };
    }
}

#[cfg(test)]
mod tests {
    use super::Agenda;
    use crate::time::Time;

    /// Goal: items come at their millisecond, never before their time, and removed ones never.
    #[test]
    fn gives_out_what_is_due() {
        let mut agenda = Agenda::new();
        let at = Time::from_nanos;
        agenda.add(3, at(1_000_001));
        agenda.add(1, at(1_999_999));
        agenda.add(2, at(1_000_000));
        agenda.add(9, at(2_000_000));
        agenda.remove(1);
        agenda.remove(77);
        assert_eq!(agenda.first(), Some(at(1_000_000)));
        assert_eq!(agenda.take_due(at(1_999_999)), Some(2));
        assert_eq!(agenda.take_due(at(1_999_999)), None);
        assert_eq!(agenda.first(), Some(at(2_000_000)));
        let mut due = [agenda.take_due(at(2_000_000)), agenda.take_due(at(2_000_000))];
        due.sort();
        assert_eq!(due, [Some(3), Some(9)]);
        assert_eq!(agenda.first(), None);
    }
}
