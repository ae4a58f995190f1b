//! What has happened in a budget so far, counted for those who watch it. Nothing is ever decided by it, and none of it outlasts the
//! process.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{outcome::Outcome, refusal::Reason, request::Priority};

/// Upper bounds of the buckets in which [`Waits`] are counted, in nanoseconds; what is longer has a bucket of its own.
pub const WAIT_BOUNDS_NANOS: [u64; 14] = [
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

/// The bucket in which a wait is counted.
#[must_use]
pub fn wait_bucket(nanos: u64) -> usize {
    if nanos == 0 { 0 } else { WAIT_BOUNDS_NANOS.partition_point(|bound| *bound < nanos) }
}

/// How long requests waited before they were granted: those that never waited count as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Grants by the bucket of [`wait_bucket`].
    pub counts: [u64; WAIT_BOUNDS_NANOS.len() + 1],
    /// All waits together, in nanoseconds; saturates after 584 years.
    pub sum_nanos: u64,
}

/// What became of what permits took of one limit, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitTally {
    /// Taken by grants, as estimated.
    pub charged: u64,
    /// Given back because less was used.
    pub refunded: u64,
    /// Taken afterwards because more was used.
    pub debited: u64,
    /// Given up at the start, because the process before may have granted it without writing that down.
    pub forfeited: u64,
}

/// Of a whole budget.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) granted: u64,
    pub(crate) expired: u64,
    /// By the wire's name.
    refused: SmallVec<[(&'static str, u64); 4]>,
    /// By [`Outcome::index`].
    pub(crate) outcomes: [u64; Outcome::NAMES.len()],
    /// By class.
    pub(crate) waits: [Waits; Priority::ALL.len()],
}

impl Tally {
    #[inline]
    pub(crate) fn grant(&mut self, class: Priority, waited: Duration) {
        self.granted += 1;
        let waits = &mut self.waits[class.index()];
        let nanos = crate::time::nanos(waited);
        waits.counts[wait_bucket(nanos)] += 1;
        waits.sum_nanos = waits.sum_nanos.saturating_add(nanos);
    }

    pub(crate) fn refuse(&mut self, reason: &Reason) {
        let reason = reason.name();
        match self.refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, times)) => *times += 1,
            None => self.refused.push((reason, 1)),
        }
    }

    /// Requests refused, by the wire's name of the reason, in no order.
    pub(crate) fn refused(&self) -> &[(&'static str, u64)] {
        &self.refused
    }
}

impl LimitTally {
    #[inline]
    pub(crate) fn charge(&mut self, units: u64) {
        self.charged = self.charged.saturating_add(units);
    }

    pub(crate) fn forfeit(&mut self, units: u64) {
        self.forfeited = self.forfeited.saturating_add(units);
    }

    /// A permit that took `held` used `used`.
    #[inline]
    pub(crate) fn settle(&mut self, held: u64, used: u64) {
        self.refunded = self.refunded.saturating_add(held.saturating_sub(used));
        self.debited = self.debited.saturating_add(used.saturating_sub(held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every wait has one bucket, whose bound it does not exceed.
    #[test]
    fn waits_have_buckets() {
        for (nanos, bucket) in [(0, 0), (1, 0), (1_000_000, 0), (1_000_001, 1), (300_000_000_000, 13)] {
            assert_eq!(wait_bucket(nanos), bucket, "{nanos}");
        }
        assert_eq!(wait_bucket(u64::MAX), WAIT_BOUNDS_NANOS.len());
        let mut tally = Tally::default();
        tally.grant(Priority::Batch, Duration::MAX);
        tally.grant(Priority::Batch, Duration::from_secs(1));
        let waits = &tally.waits[Priority::Batch.index()];
        assert_eq!((waits.counts[7], waits.counts[14], waits.sum_nanos), (1, 1, u64::MAX));
    }
}
