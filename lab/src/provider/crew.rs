//! A provider that refuses nothing and gets slower: so many calls are worked on at once, each by one of the crew, and further ones wait
//! their turn in the order in which they came.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::buckets::Nanos;

/// When each of the crew is free again, with all that was given to it.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    free: BinaryHeap<Reverse<Nanos>>,
}

impl Crew {
    /// So many, all free.
    pub(crate) fn new(size: u32, now: Nanos) -> Self {
        Self { free: (0..size).map(|_| Reverse(now)).collect() }
    }

    /// More or fewer of them. Those who leave end what was given to them, and they are the ones who are free first.
    pub(crate) fn resized(mut self, size: u32, now: Nanos) -> Self {
        let size = size as usize;
        while self.free.len() > size {
            self.free.pop();
        }
        while self.free.len() < size {
            self.free.push(Reverse(now));
        }
        self
    }

    /// Somebody takes a call that takes so long once it is begun. Says how long it waits until then.
    pub(crate) fn give(&mut self, now: Nanos, service: Nanos) -> Nanos {
        let Reverse(free) = self.free.pop().expect("a crew is at least one");
        let begun = free.max(now);
        self.free.push(Reverse(begun.saturating_add(service)));
        begun - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: calls beyond the capacity wait in order, and with another capacity no longer or shorter than that says.
    #[test]
    fn calls_wait_in_order() {
        let mut crew = Crew::new(2, 0);
        assert_eq!([10, 10, 10, 10, 10].map(|service| crew.give(0, service)), [0, 0, 10, 10, 20]);
        // One is busy until 30, the other until 20.
        let mut crew = crew.resized(1, 5);
        assert_eq!([crew.give(5, 10), crew.give(50, 10)], [25, 0]);
        let mut crew = crew.resized(3, 55);
        assert_eq!([10, 10, 10].map(|service| crew.give(55, service)), [0, 0, 5]);
    }
}
