//! A meter to be written down and read back. What was set aside when it was written counts as taken when it is read.

use super::{Kind, Meter, Moment, escrow::ALL};
use crate::{
    saved::{Level, Resumed, SavedMeter},
    time::Time,
};

/// A second of the rate is set aside, so that about one write a second keeps ahead of it.
const AHEAD_NANOS: u128 = 1_000_000_000;
/// Where somebody waits for the write, twice that.
const HURRIED_NANOS: u128 = 2 * AHEAD_NANOS;
/// The part of all slots that is set aside at rest. Each may be in doubt after a crash for as long as a permit lives, so the few of
/// a small limit wait for a write instead.
const SLOTS_PART_IDLE: u64 = 16;
/// The part of all slots that is set aside while they are used: a write for as many grants.
const SLOTS_PART_BUSY: u64 = 4;

impl Meter {
    /// What is left, to be written down, and what is set aside with it. Whoever asked for more since the last time gets it. The
    /// largest request that may be granted takes `largest`; where that is more than a full meter, it leaves a debt.
    pub(crate) fn save(&mut self, now: Time, last: bool, largest: u64) -> SavedMeter {
        self.advance(now);
        let allowance = if last { 0 } else { self.allowance(largest) };
        self.escrow.begin(allowance);
        let level = match &self.kind {
            Kind::Bucket(bucket) => bucket.saved(),
            Kind::Fixed(fixed) => Level::Fixed { used: fixed.used() },
            Kind::Sliding(sliding) => Level::Sliding { taken: sliding.saved() },
            Kind::Slots(slots) => Level::Slots { doubted: slots.doubted() },
        };
        SavedMeter { level, allowance }
    }

    /// What is set aside by the next write.
    pub(crate) fn allowance(&self, largest: u64) -> u64 {
        let (wanted, all) = (self.escrow.wanted(), self.capacity_units());
        let units = match &self.kind {
            // Never all of them without counting: each in doubt has to be told from the next.
            Kind::Slots(_) if self.escrow.is_idle() => return all / SLOTS_PART_IDLE,
            Kind::Slots(_) => return (all / SLOTS_PART_BUSY).max(1),
            _ => self.units_in(if wanted == 0 { AHEAD_NANOS } else { HURRIED_NANOS }).max(wanted),
        };
        // A full meter that is all set aside is an empty one, whatever is taken of it, unless that may be more than all.
        if units >= all && largest <= all { ALL } else { units }
    }

    /// Goes on from what was written down at `then`. The level of slots follows from the permits that are out, which are taken one by
    /// one. What was set aside was taken by `moment`; the permits that took it have ended at `end`.
    pub(crate) fn restore(
        &mut self,
        saved: &SavedMeter,
        then: Time,
        back: &Resumed,
        moment: Moment,
        end: Time,
    ) {
        match (&mut self.kind, &saved.level) {
            (Kind::Bucket(bucket), Level::Bucket { refills_from, parts, peaks }) => {
                bucket.restore(back.moved(then.max(*refills_from)), *parts, peaks);
            }
            (Kind::Fixed(fixed), Level::Fixed { used }) => fixed.restore(then, back, *used),
            (Kind::Sliding(sliding), Level::Sliding { taken }) => {
                sliding.restore(taken.iter().map(|(latest, used)| (back.moved(*latest), *used)));
            }
            (Kind::Slots(_), Level::Slots { doubted }) => {
                let doubted = doubted.map(|(slots, until)| (slots, back.moved(until)));
                let (before, until) = doubted.filter(|(_, until)| *until > back.now).unwrap_or_default();
                let until = if saved.allowance > 0 { end.max(until) } else { until };
                return self.owe(before.saturating_add(saved.allowance), moment, until);
            }
            // Written of another way of counting: nothing is known, so nothing is left.
            _ => return self.owe(ALL, moment, end),
        }
        self.advance(moment.time);
        match saved.allowance {
            ALL => self.owe(ALL, moment, end),
            // More than a full meter holds is a debt, as if it had been granted.
            units => self.take(moment, units),
        }
    }

    /// Counts units as taken of which nobody knows whether they were. Slots are in doubt until then.
    pub(crate) fn owe(&mut self, units: u64, moment: Moment, until: Time) {
        match &mut self.kind {
            Kind::Slots(slots) if units > 0 => slots.doubt(units, until),
            Kind::Slots(_) => {}
            _ => self.take(moment, units.min(self.capacity_units())),
        }
    }

    /// A permit in doubt has certainly ended.
    pub(crate) fn end_doubt(&mut self) {
        if let Kind::Slots(slots) = &mut self.kind {
            slots.end_doubt();
        }
    }

    /// Whole units of the rate in so many nanoseconds.
    fn units_in(&self, nanos: u128) -> u64 {
        let parts = self.parts_in(nanos) / self.parts(1).max(1);
        u64::try_from(parts).unwrap_or(u64::MAX)
    }
}
