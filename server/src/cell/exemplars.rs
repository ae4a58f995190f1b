//! For each bucket of the histogram of waits, the trace of the last sampled request that was counted in it.

use std::time::Duration;

use permitd_budget::{Priority, Time, WAIT_BOUNDS_NANOS, wait_bucket};

/// A trace and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: u128,
    pub(crate) waited: Duration,
    /// When it was granted.
    pub(crate) at: Time,
}

/// By class, then by bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exemplars(Box<[[Option<Exemplar>; WAIT_BOUNDS_NANOS.len() + 1]; Priority::ALL.len()]>);

impl Exemplars {
    pub(crate) fn keep(&mut self, priority: Priority, exemplar: Exemplar) {
        let nanos = u64::try_from(exemplar.waited.as_nanos()).unwrap_or(u64::MAX);
        self.0[priority.index()][wait_bucket(nanos)] = Some(exemplar);
    }

    pub(crate) fn of(&self, class: usize, bucket: usize) -> Option<&Exemplar> {
        self.0[class][bucket].as_ref()
    }
}
