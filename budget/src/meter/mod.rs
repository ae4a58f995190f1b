//! What is left of one limit. Amounts are integers of *parts*: a unit is as many parts as its limit needs for refilling a whole
//! number of them every nanosecond, so that nothing is ever rounded: one request a day is as exact as ten million tokens a
//! minute.
//!
//! A meter is told the time by [`Meter::advance`]; everything else speaks of that instant.

mod bucket;
mod escrow;
mod fixed;
mod peaks;
mod saved;
mod sliding;
mod slots;

use bucket::Bucket;
use fixed::Fixed;
use sliding::Sliding;
use slots::Slots;

pub(crate) use escrow::Escrow;
pub(crate) use peaks::Order;

use crate::{
    spec::{LimitSpec, Window},
    time::{Time, nanos},
};

/// When something is charged: the time, and the order among charges at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) time: Time,
    pub(crate) order: Order,
}

/// What is left, and how much of it may be taken before it is written down. All methods but the constructors expect to be
/// advanced to now.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    kind: Kind,
    pub(crate) escrow: Escrow,
}

/// The ways of counting.
#[derive(Clone, Debug)]
enum Kind {
    Bucket(Bucket),
    Fixed(Fixed),
    Sliding(Sliding),
    Slots(Slots),
}

macro_rules! each_kind {
    ($meter:expr, $inner:ident => $body:expr) => {
        match &$meter.kind {
            Kind::Bucket($inner) => $body,
            Kind::Fixed($inner) => $body,
            Kind::Sliding($inner) => $body,
            Kind::Slots($inner) => $body,
        }
    };
}

impl Meter {
    /// A full one, with nothing to write down.
    pub(crate) fn new(spec: &LimitSpec, now: Time) -> Self {
        Self { kind: Kind::new(spec, now), escrow: Escrow::default() }
    }

    /// Debt is at most one window's amount: that of the limit as it is declared, also where less is granted.
    pub(crate) fn with_debt_of(mut self, amount: u64) -> Self {
        let used_max = u128::from(amount) * 2;
        match &mut self.kind {
            Kind::Bucket(bucket) => bucket.debt_max = amount.max(bucket.debt_max),
            Kind::Fixed(fixed) => fixed.used_max = used_max.max(fixed.used_max),
            Kind::Sliding(sliding) => sliding.used_max = used_max.max(sliding.used_max),
            Kind::Slots(_) => {}
        }
        self
    }

    /// Refills up to `now`. Going back in time changes nothing.
    pub(crate) fn advance(&mut self, now: Time) {
        match &mut self.kind {
            Kind::Bucket(bucket) => bucket.advance(now),
            Kind::Fixed(fixed) => fixed.advance(now),
            Kind::Sliding(sliding) => sliding.advance(now),
            Kind::Slots(slots) => slots.advance(now),
        }
    }

    /// Parts that could be taken now; negative is debt.
    pub(crate) fn available(&self) -> i128 {
        each_kind!(self, meter => meter.available())
    }

    /// Parts of a full meter.
    pub(crate) fn capacity(&self) -> i128 {
        self.parts(self.capacity_units())
    }

    /// The most that is ever granted at once.
    pub(crate) fn capacity_units(&self) -> u64 {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.burst,
            Kind::Fixed(fixed) => fixed.amount,
            Kind::Sliding(sliding) => sliding.amount,
            Kind::Slots(slots) => slots.amount,
        }
    }

    /// The most that can be taken of a full one: all of it, and a debt of one window.
    pub(crate) fn most_units(&self) -> u64 {
        let used_max = match &self.kind {
            Kind::Bucket(bucket) => return bucket.burst.saturating_add(bucket.debt_max),
            Kind::Fixed(fixed) => fixed.used_max,
            Kind::Sliding(sliding) => sliding.used_max,
            Kind::Slots(_) => return u64::MAX,
        };
        u64::try_from(used_max).unwrap_or(u64::MAX)
    }

    /// So many units in parts.
    pub(crate) fn parts(&self, units: u64) -> i128 {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.parts(units),
            _ => i128::from(units),
        }
    }

    /// When `parts` will be available if nobody takes anything; `None` if that is up to others. `Some(now)` at the earliest.
    pub(crate) fn ready_at(&self, now: Time, parts: i128) -> Option<Time> {
        if parts <= self.available() {
            return Some(now);
        }
        match &self.kind {
            Kind::Bucket(bucket) => Some(bucket.ready_at(now, parts)),
            Kind::Fixed(fixed) => Some(fixed.ready_at(parts)),
            Kind::Sliding(sliding) => Some(sliding.ready_at(now, parts)),
            Kind::Slots(_) => None,
        }
    }

    /// Parts that come back by themselves until `then`.
    pub(crate) fn gain_until(&self, now: Time, then: Time) -> i128 {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.gain_until(now, then),
            Kind::Fixed(fixed) => fixed.gain_until(then),
            Kind::Sliding(sliding) => sliding.gain_until(then),
            Kind::Slots(_) => 0,
        }
    }

    /// Parts that so much service (nanoseconds of this limit) takes.
    pub(crate) fn parts_in(&self, nanos: u128) -> i128 {
        let (amount, per) = match &self.kind {
            Kind::Bucket(bucket) => (bucket.amount, 1),
            Kind::Fixed(fixed) => (fixed.amount, fixed.per),
            Kind::Sliding(sliding) => (sliding.amount, sliding.per),
            Kind::Slots(_) => (0, 1),
        };
        i128::try_from(nanos.saturating_mul(u128::from(amount)) / u128::from(per)).unwrap_or(i128::MAX / 2)
    }

    /// Leaves at most `parts`; for those ways of counting that know how what is taken comes back.
    pub(crate) fn lower_to(&mut self, parts: i128) {
        match &mut self.kind {
            Kind::Bucket(bucket) => bucket.lower_to(parts),
            Kind::Fixed(fixed) => fixed.lower_to(parts),
            // What was used by others leaves these at times that nobody tells.
            Kind::Sliding(_) | Kind::Slots(_) => {}
        }
    }

    /// Whether what was left at `then` still says something about what is left now.
    pub(crate) fn counts_since(&self, then: Time) -> bool {
        match &self.kind {
            Kind::Fixed(fixed) => fixed.is_in_window(then),
            Kind::Bucket(_) | Kind::Sliding(_) | Kind::Slots(_) => true,
        }
    }

    /// How long a window is, where it counts in windows.
    pub(crate) fn window_nanos(&self) -> Option<u64> {
        match &self.kind {
            Kind::Fixed(fixed) => Some(fixed.per),
            Kind::Sliding(sliding) => Some(sliding.per),
            Kind::Bucket(_) | Kind::Slots(_) => None,
        }
    }

    /// Whether it is a token bucket.
    pub(crate) fn is_bucket(&self) -> bool {
        matches!(self.kind, Kind::Bucket(_))
    }

    /// Takes `units` as of `moment`, into debt if need be. Not before anything that was taken earlier.
    pub(crate) fn take(&mut self, moment: Moment, units: u64) {
        match &mut self.kind {
            Kind::Bucket(bucket) => bucket.take(moment.order, units),
            Kind::Fixed(fixed) => fixed.take(moment.time, units),
            Kind::Sliding(sliding) => sliding.take(moment.time, units),
            Kind::Slots(slots) => slots.take(units),
        }
        self.escrow.take(units);
    }

    /// Gives back `units` of what was taken at `moment`, as far as they still count.
    pub(crate) fn give_back(&mut self, moment: Moment, units: u64) {
        match &mut self.kind {
            Kind::Bucket(bucket) => bucket.give_back(moment.order, units),
            Kind::Fixed(fixed) => fixed.give_back(moment.time, units),
            Kind::Sliding(sliding) => sliding.give_back(moment.time, units),
            Kind::Slots(slots) => slots.give_back(units),
        }
    }

    /// What is left in whole units, rounded down.
    pub(crate) fn level(&self) -> i64 {
        let scale = self.parts(1).max(1);
        let units = self.available().div_euclid(scale);
        i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }

    /// Takes over from a meter of the same limit before it was changed. A bucket keeps its level in proportion and its debt as it
    /// is. Windows and slots keep what was used as it is: the provider counts the same calls against the new amount.
    pub(crate) fn take_over(&mut self, before: &mut Meter, moment: Moment) {
        let now = moment.time;
        match (&mut self.kind, &mut before.kind) {
            (Kind::Bucket(new), Kind::Bucket(old)) => new.take_over(old),
            (Kind::Fixed(new), Kind::Fixed(old)) => new.take_over(old, now),
            (Kind::Sliding(new), Kind::Sliding(old)) => new.take_over(old, now),
            (Kind::Slots(new), Kind::Slots(old)) => new.take_over(old),
            // Another way of counting: what was taken of the old amount is taken of the new.
            _ => {
                let used = i128::from(before.capacity_units()) - i128::from(before.level());
                self.take(moment, u64::try_from(used).unwrap_or(0));
            }
        }
        self.escrow = before.escrow;
    }
}

impl Kind {
    fn new(spec: &LimitSpec, now: Time) -> Self {
        let Some(per) = spec.per.map(nanos) else {
            return Self::Slots(Slots::new(spec.amount));
        };
        match spec.window {
            Window::Bucket => {
                let burst = if spec.burst == 0 { spec.amount } else { spec.burst };
                Self::Bucket(Bucket::new(spec.amount, per, burst, now))
            }
            Window::Fixed { phase: Some(phase) } => Self::Fixed(Fixed::new(spec.amount, per, phase, now)),
            // Holds for every phase, so also for the one that nobody knows.
            Window::Fixed { phase: None } | Window::Sliding => Self::Sliding(Sliding::new(spec.amount, per)),
            Window::Quantised { quantum } => {
                let (share, stretch) = quantised(spec.amount, per, nanos(quantum));
                Self::Sliding(Sliding::new(share, stretch))
            }
        }
    }
}

/// The part of an amount that may be used in one quantum, and the length of the stretch that it holds for. Less than one unit
/// a quantum is one unit in a longer stretch.
fn quantised(amount: u64, per: u64, quantum: u64) -> (u64, u64) {
    let share = u128::from(amount) * u128::from(quantum) / u128::from(per.max(1));
    match u64::try_from(share).unwrap_or(u64::MAX) {
        0 => (1, per.div_ceil(amount)),
        share => (share, quantum),
    }
}

#[cfg(test)]
mod tests {
    use super::quantised;

    const S: u64 = 1_000_000_000;

    /// Goal: a quantum gets its part rounded down, and a slow limit one unit in a longer stretch.
    #[test]
    fn quanta_get_their_part() {
        assert_eq!(quantised(60, 60 * S, S), (1, S));
        assert_eq!(quantised(600, 60 * S, S), (10, S));
        assert_eq!(quantised(100, 60 * S, S), (1, S));
        assert_eq!(quantised(30, 60 * S, S), (1, 2 * S));
        assert_eq!(quantised(u64::MAX, S, S), (u64::MAX, S));
    }
}
