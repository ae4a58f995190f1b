//! When more may be tried: a refusal is what that costs, and there is to be no more than one in [`PRICE`] calls. Those that went well before
//! count too, so a limit that had held for long is tried again soon after it fell, and after every time in vain twice as long later: a fall
//! is forgotten about as fast as it passes, and one that stays costs a few refusals once.
//!
//! Virtual scheduling (ITU-T I.371, GCRA), with calls as the clock.

use super::{
    course::{Course, Hold},
    percent,
};

/// So many calls pay for a refusal: one in 200 is the most that there may be, and this is a little less.
const PRICE: u64 = 210;
/// So many of the calls before a refusal count at the most.
const CREDIT: u64 = 1_000;
/// And so many that come after it have to.
const DEBT: u64 = 2 * PRICE;
/// Where calls are seldom, refusals may be more of them: one in so much time of use is no harm.
const SELDOM_NANOS: u64 = 600_000_000_000;
/// How long after a fall it is tried for the first time what had held before; and no sooner than so many times the wait it cost.
const BACK_NANOS: u64 = 2_000_000_000;
const BACK_WAITS: u64 = 2;
/// So often, each time twice as long after; then the limit has fallen for good.
const FALLS_MOST: u32 = 4;
/// A fall by less than this is none: the next step goes as far.
const FALL_PERCENT: u64 = 108;

/// What trying has cost, and what there is to come back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// By so many calls the refusals so far are paid for.
    paid_by: u64,
    /// How often the limit has fallen since all that is configured had held; `None` if it never had, or has fallen for good.
    falls: Option<u32>,
}

impl Tries {
    /// The provider refused, `calls` after the first one.
    pub(super) fn pay(&mut self, calls: u64) {
        let from = self.paid_by.max(calls.saturating_sub(CREDIT));
        self.paid_by = from.saturating_add(PRICE).min(calls.saturating_add(DEBT));
    }

    /// Whether more may be tried on this course: a step beyond what is known is paid for beforehand, the way back afterwards.
    pub(super) fn are_paid(&self, course: &Course, calls: u64) -> bool {
        let price = if course.back_to.is_some() { 0 } else { PRICE };
        calls >= self.paid_by.saturating_add(price) || course.used_nanos >= SELDOM_NANOS
    }

    /// The provider let through all that is configured, and for long.
    pub(super) fn hold(&mut self) {
        self.falls = Some(0);
    }

    /// Another limit than before.
    pub(super) fn forget(&mut self) {
        self.falls = None;
    }

    /// The limit has fallen from what is configured, `cap`, and freezes for so long. Where that had held, it stays there for a shorter time
    /// than otherwise, and then goes back.
    pub(super) fn fall(&mut self, course: Course, cap: u64, wait_nanos: u64) -> Course {
        let falls = self.falls.filter(|_| cap > percent(course.good, FALL_PERCENT));
        let Some(falls) = falls else { return course };
        self.falls = (falls + 1 < FALLS_MOST).then_some(falls + 1);
        let nanos = BACK_NANOS.max(wait_nanos.saturating_mul(BACK_WAITS)) << falls;
        Course { hold: Hold { nanos, calls: 0 }, back_to: Some(cap), ..course }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::course::HOLD_AT_CEILING, *};
    use crate::{
        feedback::{Phase, Traffic},
        time::Time,
    };

    fn course(back_to: Option<u64>) -> Course {
        let traffic = Traffic::default();
        let course = Course::new(Phase::Hold, 300, 300, HOLD_AT_CEILING, 1, &traffic, Time::ZERO);
        Course { back_to, ..course }
    }

    /// Goal: where nothing is known to have held, refusals are one in so many calls, that of the next try included.
    #[test]
    fn refusals_are_paid_for() {
        let mut tries = Tries::default();
        let paid = |tries: &Tries, calls| tries.are_paid(&course(None), calls);
        tries.pay(50);
        tries.pay(80);
        assert!(!paid(&tries, 3 * PRICE - 1));
        assert!(paid(&tries, 3 * PRICE));
        tries.pay(3 * PRICE);
        assert!(!paid(&tries, 4 * PRICE - 1));
        assert!(paid(&tries, 4 * PRICE));
    }

    /// Goal: what went well before pays for a few tries at once, and a burst of refusals is not paid for until the end of time.
    #[test]
    fn credit_and_debt_have_an_end() {
        let mut tries = Tries::default();
        let refused = |tries: &mut Tries, calls| {
            (1..20).find(|_| {
                tries.pay(calls);
                !tries.are_paid(&course(None), calls)
            })
        };
        assert_eq!(refused(&mut tries, 1_000_000), Some(4));
        (0..100).for_each(|_| tries.pay(1_000_000));
        assert!(tries.are_paid(&course(None), 1_000_000 + DEBT + PRICE));
        let seldom = Course { used_nanos: SELDOM_NANOS, ..course(None) };
        assert!(tries.are_paid(&seldom, 1_000_000), "a few calls an hour do not wait for a week");
    }

    /// Goal: what had held is come back to soon, each time twice as long after, and in the end as seldom as anything else is tried.
    #[test]
    fn what_held_is_come_back_to() {
        let (mut tries, second) = (Tries::default(), 1_000_000_000);
        assert_eq!(tries.fall(course(None), 600, second), course(None), "it never held");
        tries.hold();
        assert_eq!(tries.fall(course(None), 310, second), course(None), "hardly a fall");
        let waits = (0..FALLS_MOST).map(|_| {
            let course = tries.fall(course(None), 600, second);
            (course.back_to, Duration::from_nanos(course.hold.nanos).as_secs())
        });
        let doubled = (0..FALLS_MOST).map(|falls| (Some(600), 2 << falls));
        assert_eq!(waits.collect::<Vec<_>>(), doubled.collect::<Vec<_>>());
        assert_eq!(tries.fall(course(None), 600, second), course(None), "it has fallen for good");
        tries.hold();
        let dear = tries.fall(course(None), 600, 30 * second);
        assert_eq!(dear.hold.nanos, 60 * second, "no sooner than twice the wait after");
    }
}
