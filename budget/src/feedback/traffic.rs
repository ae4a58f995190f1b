//! What has gone through one limit. Between two moments at which the provider's bucket was empty, which is what a refusal says, it let
//! through just what it refills: two refusals tell its rate, whatever was configured.

use crate::time::Time;

/// Fewer calls between two refusals tell no rate.
const CALLS_MIN: u64 = 5;
/// Nor does less time: refusals and grants pass each other on their way.
const SPAN_MIN_NANOS: u64 = 300_000_000;
/// A burst is at most one part in so many of what tells a rate.
const BURSTS_MIN: u64 = 3;
/// A limit is idle when nothing was granted for this long beyond what a refill takes.
const IDLE_NANOS: u64 = 1_000_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// Units granted, less what came back and what the provider refused.
    pub(crate) net: i128,
    /// Calls likewise.
    pub(crate) calls: u64,
    latest: Time,
    /// When the provider refused last.
    empty: Option<Mark>,
    /// When it had last been idle for so long that it was full, if that was later.
    full: Option<Mark>,
    /// Whether nobody asked for anything then, so that it was no freeze that filled it.
    idle: bool,
    /// From one of these to the latest refusal.
    stretch: Option<Stretch>,
}

/// A moment at which the provider's level was known.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Time,
    net: i128,
    calls: u64,
    /// What it may still have had, where it refused a call that needs more.
    spare: i128,
}

/// What went through until the provider refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    from: Time,
    until: Time,
    /// Units of calls that have not been refused: fewer with every refusal of a call that was under way.
    carried: i128,
    calls: u64,
    /// How much more it may have had left at the end than when it began, where it refused a larger call.
    more_left: i128,
    /// Whether the provider was full when it began, and not empty.
    pub(crate) was_full: bool,
}

/// What a limit let through per window, and how many calls say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    pub(crate) amount: u64,
    pub(crate) calls: u64,
}

impl Stretch {
    /// Units that the provider let through.
    pub(crate) fn carried(self) -> u64 {
        u64::try_from(self.carried).unwrap_or(0)
    }

    /// How long it was.
    pub(crate) fn nanos(self) -> u64 {
        self.until.nanos_since(self.from)
    }

    /// The provider lets through less than this per `per` nanoseconds, since a call of `refused` more was too much.
    pub(crate) fn less_than(self, refused: u64, per: u64) -> u128 {
        let span = self.until.nanos_since(self.from).max(1);
        u128::from(self.carried().saturating_add(refused)).saturating_mul(per.into()) / u128::from(span)
    }

    /// What that comes to per `per` nanoseconds, without a burst of `burst` if the provider was full; `None` if it tells nothing.
    pub(crate) fn estimate(self, per: u64, burst: u64) -> Option<Estimate> {
        let span = self.until.nanos_since(self.from);
        let burst = if self.was_full { burst } else { 0 };
        let tells = self.calls >= CALLS_MIN && span >= SPAN_MIN_NANOS && self.carried() / BURSTS_MIN >= burst;
        let refilled = u64::try_from(self.carried + self.more_left).unwrap_or(0);
        let sustained = u128::from(refilled.saturating_sub(burst));
        // To the nearest: of three a minute, what is lost by rounding down is a third.
        let span = u128::from(span.max(1));
        let amount = sustained.checked_mul(u128::from(per))?.checked_add(span / 2)? / span;
        tells.then_some(Estimate { amount: u64::try_from(amount).ok()?, calls: self.calls })
    }
}

impl Traffic {
    /// Nothing is known but that the provider refused at `now`.
    pub(crate) fn of_empty(now: Time) -> Self {
        let empty = Some(Mark { at: now, net: 0, calls: 0, spare: 0 });
        Self { latest: now, empty, ..Self::default() }
    }

    /// A permit takes `units`; `refill` is how long an empty limit takes to be as full as it is ever used, in nanoseconds, and `thawed`
    /// when the latest freeze ended.
    #[inline]
    pub(crate) fn grant(&mut self, units: u64, refill: impl FnOnce() -> u64, thawed: Time, now: Time) {
        let pause = now.nanos_since(self.latest);
        if pause > IDLE_NANOS && pause - IDLE_NANOS > refill() {
            self.full = Some(self.mark(now));
            self.idle = now.nanos_since(self.latest.max(thawed)) > IDLE_NANOS;
        }
        self.latest = now;
        self.net += i128::from(units);
        self.calls += 1;
    }

    /// A permit that was granted at `granted` used so much more, or less, than it took.
    #[inline]
    pub(crate) fn correct(&mut self, granted: Time, units: i128) {
        self.net += units;
        for mark in self.marks_after(granted) {
            mark.net += units;
        }
    }

    /// The call of a permit that was granted at `granted` never counted: refused, or not sent.
    pub(crate) fn uncount(&mut self, granted: Time, units: u64) {
        self.correct(granted, -i128::from(units));
        self.calls = self.calls.saturating_sub(1);
        for mark in self.marks_after(granted) {
            mark.calls = mark.calls.saturating_sub(1);
        }
        if let Some(stretch) = &mut self.stretch
            && (stretch.from < granted || stretch.was_full && stretch.from == granted)
            && granted <= stretch.until
        {
            stretch.carried -= i128::from(units);
            stretch.calls = stretch.calls.saturating_sub(1);
        }
    }

    /// The provider refused a call of `cost`, for which it had too little: the stretch that ends with it. The next one begins here, unless
    /// this one was too short to tell anything.
    pub(crate) fn refused(&mut self, cost: u64, now: Time) -> Option<Stretch> {
        // It had something between nothing and all of it.
        let end = Mark { spare: i128::from(cost / 2), ..self.mark(now) };
        self.stretch = self.stretch_until(end);
        let too_short =
            self.stretch.is_some_and(|stretch| !stretch.was_full && stretch.estimate(1, 0).is_none());
        if !too_short {
            (self.empty, self.full) = (Some(end), None);
        }
        self.stretch
    }

    /// The stretch that ended with the latest refusal, as it is known now.
    pub(crate) fn latest_stretch(&self) -> Option<Stretch> {
        self.stretch
    }

    /// What was let through between the last refusal and now, also over pauses: no more than the provider's rate.
    pub(crate) fn at_least(&self, now: Time, per: u64) -> Option<Estimate> {
        let mark = self.empty?;
        mark.until(self.mark(now), false).estimate(per, 0)
    }

    /// The provider refused while `carried` units were under way, the refused one not counted.
    pub(crate) fn carry(&mut self, carried: u64, now: Time) {
        let (carried, calls) = (carried.into(), self.calls);
        let (from, until) = (Time::ZERO, now);
        self.stretch = Some(Stretch { from, until, carried, calls, more_left: 0, was_full: false });
    }

    /// What a provider would have left that holds `capacity` and refills as told: in any fraction of a unit of which there are `fine` in
    /// one. `None` if it is not known what it had at any moment, or if that was so long ago that it may be another by now.
    pub(crate) fn left(
        &self,
        fine: i128,
        capacity: i128,
        refill: impl FnOnce(u64) -> i128,
        now: Time,
    ) -> Option<i128> {
        let (mark, level) = match (self.full, self.empty) {
            (Some(full), _) => (full, capacity),
            (None, Some(empty)) => (empty, 0),
            (None, None) => return None,
        };
        let used = (self.net - mark.net).saturating_mul(fine);
        let left = level.saturating_add(refill(now.nanos_since(mark.at))).saturating_sub(used);
        (level == 0 || !self.idle).then_some(left.min(capacity))
    }

    /// The marks that count a permit which was granted at `granted` as before them. What begins with a pause begins with a grant.
    fn marks_after(&mut self, granted: Time) -> impl Iterator<Item = &mut Mark> {
        let empty = self.empty.as_mut().filter(|mark| granted <= mark.at);
        let full = self.full.as_mut().filter(|mark| granted < mark.at);
        empty.into_iter().chain(full)
    }

    fn stretch_until(&self, end: Mark) -> Option<Stretch> {
        match (self.full, self.empty) {
            (Some(full), _) => Some(full.until(end, true)),
            (None, Some(empty)) => Some(empty.until(end, false)),
            (None, None) => None,
        }
    }

    fn mark(&self, now: Time) -> Mark {
        Mark { at: now, net: self.net, calls: self.calls, spare: 0 }
    }
}

impl Mark {
    fn until(self, end: Self, was_full: bool) -> Stretch {
        Stretch {
            from: self.at,
            until: end.at,
            carried: end.net - self.net,
            calls: end.calls.saturating_sub(self.calls),
            more_left: end.spare - self.spare,
            was_full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    /// Goal: two refusals tell the rate; calls of before the first that were refused after it do not spoil it.
    #[test]
    fn two_refusals_tell_the_rate() {
        let mut traffic = Traffic::default();
        for _ in 0..20 {
            traffic.grant(100, || S, Time::ZERO, at(1_000));
        }
        traffic.uncount(at(1_000), 100);
        traffic.refused(0, at(1_010));
        let told = |stretch: Option<Stretch>| stretch.and_then(|stretch| stretch.estimate(60 * S, 0));
        assert_eq!(traffic.at_least(at(1_020), 60 * S), None, "too soon");
        for _ in 0..10 {
            traffic.uncount(at(1_000), 100);
        }
        for call in 0..12 {
            traffic.grant(100, || S, Time::ZERO, at(1_100 + call * 75));
        }
        traffic.uncount(at(1_925), 100);
        let first = told(traffic.refused(0, at(2_010)));
        assert_eq!(first, Some(Estimate { amount: 66_000, calls: 11 }));
        // Others of the same burst come back refused as well.
        traffic.uncount(at(1_850), 100);
        traffic.uncount(at(1_775), 100);
        let refined = told(traffic.latest_stretch());
        assert_eq!(refined, Some(Estimate { amount: 54_000, calls: 9 }));
    }

    /// Goal: a provider that refuses a large call had something left, which the rate is measured with; and of a few units none is lost by
    /// rounding.
    #[test]
    fn what_was_left_counts() {
        let told = |traffic: &mut Traffic, cost, now| {
            traffic.refused(cost, now).and_then(|stretch| stretch.estimate(60 * S, 0)).map(|told| told.amount)
        };
        let mut traffic = Traffic::of_empty(at(0));
        for call in 0..9 {
            traffic.grant(1_000, || S, Time::ZERO, at(1_000 * call));
        }
        assert_eq!(told(&mut traffic, 2_000, at(10_000)), Some(60_000));
        for call in 10..20 {
            traffic.grant(1_000, || S, Time::ZERO, at(1_000 * call));
        }
        assert_eq!(told(&mut traffic, 2_000, at(20_000)), Some(60_000), "as much at both ends");

        let mut slow = Traffic::of_empty(at(0));
        for call in 1..6 {
            slow.grant(1, || 60 * S, Time::ZERO, at(20_000 * call));
        }
        assert_eq!(told(&mut slow, 1, at(101_000)), Some(3));
    }

    /// Goal: after a pause that filled the provider's bucket, what went through is a burst first, and tells a rate only when it is much more.
    #[test]
    fn a_pause_makes_it_full() {
        let mut traffic = Traffic::default();
        traffic.grant(1, || S, Time::ZERO, at(1));
        traffic.refused(0, at(2));
        traffic.grant(1, || S, Time::ZERO, at(1_900));
        for _ in 0..9 {
            traffic.grant(1, || S, Time::ZERO, at(4_000));
        }
        let stretch = traffic.refused(0, at(9_000)).expect("since it was full");
        assert!(stretch.was_full && stretch.carried() == 9);
        assert_eq!(stretch.estimate(60 * S, 9), None);
        assert_eq!(stretch.estimate(60 * S, 3), Some(Estimate { amount: 72, calls: 9 }));
        // The first call of the burst is part of it.
        traffic.uncount(at(4_000), 1);
        assert_eq!(traffic.latest_stretch().map(Stretch::carried), Some(8));
    }

    /// Goal: the level of a provider of a given rate is known from when it was empty, and from when a freeze filled it; after idle time
    /// nothing is said, since it may be another provider by now.
    #[test]
    fn what_a_provider_would_have_left() {
        let left = |traffic: &Traffic, now| traffic.left(1, 50, |span| i128::from(span / S), now);
        let mut traffic = Traffic::default();
        assert_eq!(left(&traffic, at(1)), None);
        traffic.grant(1, || S, Time::ZERO, at(1));
        traffic.refused(0, at(2));
        traffic.grant(3, || 60 * S, Time::ZERO, at(1_000));
        assert_eq!(left(&traffic, at(10_002)), Some(10 - 3));
        assert_eq!(left(&traffic, at(500_002)), Some(50));
        traffic.grant(20, || S, at(99_500), at(100_000));
        assert_eq!(left(&traffic, at(101_000)), Some(50 + 1 - 20));
        traffic.grant(20, || S, at(99_500), at(200_000));
        assert_eq!(left(&traffic, at(201_000)), None);
    }
}
