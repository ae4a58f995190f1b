//! The oracle: calls queue at the provider's own door, and go through in the order in which they came as soon as the true limits let
//! them. What gets through is what was possible.

use std::collections::VecDeque;

use super::simulated::Why;
use crate::provider::buckets::Nanos;

/// Where nobody knows how long a refusal lasts, it is looked at again after this.
const LOOK_AGAIN: Nanos = 100_000_000;

/// The queues at the doors of all pools.
pub(super) struct Doors(Vec<Door>);

#[derive(Default)]
struct Door {
    waiting: VecDeque<u32>,
    /// When it will be looked at anyway.
    looked_at: Option<Nanos>,
}

impl Doors {
    pub(super) fn new(pools: usize) -> Self {
        Self((0..pools).map(|_| Door::default()).collect())
    }

    pub(super) fn join(&mut self, pool: usize, job: u32) {
        self.0[pool].waiting.push_back(job);
    }

    pub(super) fn first(&self, pool: usize) -> Option<u32> {
        self.0[pool].waiting.front().copied()
    }

    pub(super) fn leave(&mut self, pool: usize) {
        self.0[pool].waiting.pop_front();
    }

    /// When to look again after a refusal, unless that is planned already or the end of a call will bring it about.
    pub(super) fn look_again(
        &mut self,
        pool: usize,
        now: Nanos,
        why: Why,
        needed: Option<Nanos>,
    ) -> Option<Nanos> {
        let at = match (why, needed) {
            (_, Some(needed)) => now + needed,
            (Why::Limit(_), None) => return None,
            _ => now + LOOK_AGAIN,
        };
        let planned = self.0[pool].looked_at.filter(|planned| *planned > now);
        if planned.is_some_and(|planned| planned <= at) {
            return None;
        }
        self.0[pool].looked_at = Some(at);
        Some(at)
    }
}
