//! For each bucket of the histogram of waits, the trace of the last sampled request that was counted in it.

use std::time::Duration;

use permitd_budget::{Priority, Time, wait_bucket};

/// A trace and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: u128,
    pub(crate) waited: Duration,
    /// When it was granted.
    pub(crate) at: Time,
}

/// Only of buckets that have one: most budgets know two or three.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exemplars(Vec<(Bucket, Exemplar)>);

/// Of which class, and of which of its buckets.
type Bucket = (u8, u8);

impl Exemplars {
    pub(crate) fn keep(&mut self, priority: Priority, exemplar: Exemplar) {
        let nanos = u64::try_from(exemplar.waited.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(priority.index(), wait_bucket(nanos));
        match self.0.iter_mut().find(|(known, _)| *known == bucket) {
            Some((_, last)) => *last = exemplar,
            None => self.0.push((bucket, exemplar)),
        }
    }

    pub(crate) fn of(&self, class: usize, at: usize) -> Option<&Exemplar> {
        let bucket = bucket(class, at);
        self.0.iter().find(|(known, _)| *known == bucket).map(|(_, exemplar)| exemplar)
    }
}

/// There are a few of both.
fn bucket(class: usize, at: usize) -> Bucket {
    (class as u8, at as u8)
}
