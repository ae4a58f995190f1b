//! How much of a limit is really there, as refusals have taught: one decrease for every event, then back along a cubic to what worked
//! last, a while there, a careful step beyond, and if that holds, quickly up. Never beyond what the administrator or the
//! provider's headers say.
//!
//! The cubic is that of Ha, Rhee and Xu, "CUBIC: a new TCP-friendly high-speed TCP variant", 2008, made unit-free. Where two refusals have
//! told the provider's rate ([`Estimate`]), that is the decrease; else it is [`DECREASE_PERCENT`].

mod course;
mod saved;
mod tries;

pub use self::course::Phase;
use self::{
    course::{Course, HOLD, HOLD_AT_CEILING},
    tries::Tries,
};
use super::traffic::{Estimate, Traffic};
use crate::time::Time;

/// What a decrease leaves where nothing better is known.
const DECREASE_PERCENT: u64 = 85;
/// What an estimate leaves at the least: it may be off.
const DECREASE_MOST_PERCENT: u64 = 50;
/// And at the most, or nothing would be learned.
const DECREASE_LEAST_PERCENT: u64 = 99;
/// The least share of the cap that is ever granted.
const FLOOR_PERCENT: u64 = 5;
/// How long a rise takes to double the limit.
const DOUBLE_NANOS: u64 = 8_000_000_000;
/// Where nothing at all is known it may be shorter, as refusals are heard of sooner: so many times what a call takes, and no less than
/// a second. TCP's slow start doubles with every round trip (RFC 5681, 3.1); here calls are fewer.
const DOUBLE_LATENCIES: u64 = 8;
const DOUBLE_MIN_NANOS: u64 = 1_000_000_000;
/// The same for a provider that does not like steep rises: at first, and at the most (OpenAI: half as much again in 15 minutes). With
/// every such refusal it takes twice as long.
const DOUBLE_GENTLY_NANOS: u64 = 20_000_000_000;
const DOUBLE_GENTLY_MAX_NANOS: u64 = 1_500_000_000_000;
/// What was measured before counts no more than so many times as much as what was measured now.
const OLD_MOST: u128 = 4;
/// Two collapses as close as this mark a ceiling.
const SIMILAR_PERCENT: u64 = 10;

/// The effective amount of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    amount: u64,
    /// The lowest amount that somebody with authority says; `u64::MAX` if nobody does.
    cap: u64,
    course: Option<Course>,
    /// Where it collapsed last.
    ceiling: Option<Ceiling>,
    /// How long a rise takes to double the limit.
    double_nanos: u64,
    /// What taught the amount last, and when.
    lesson: Option<Lesson>,
    tries: Tries,
}

/// Where a limit collapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ceiling {
    amount: u64,
    /// How many calls say so; 0 if that is not known.
    calls: u64,
}

/// What taught a limit, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// When.
    pub at: Time,
    /// What.
    pub from: Teacher,
}

/// What teaches a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teacher {
    /// The provider's headers told it.
    Headers,
    /// The provider refused calls.
    Refusals,
    /// Nothing was refused although it was used.
    Growth,
    /// Calls took longer with more of them at once.
    Latency,
}

/// Why the provider refused, as far as that matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collapse {
    /// What it lets through, if that is known.
    pub(crate) estimate: Option<Estimate>,
    /// How long grants are held back for it, in nanoseconds.
    pub(crate) wait_nanos: u64,
}

/// How a limit stands when a call has been heard of that was not refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Its window in nanoseconds; 0 for one in flight.
    pub(crate) per_nanos: u64,
    /// How much it has when full.
    pub(crate) capacity: u64,
    /// Whether all of it is in use at this moment.
    pub(crate) full: bool,
    /// When that call was granted.
    pub(crate) granted: Time,
    pub(crate) now: Time,
}

impl Pace {
    /// All that is configured.
    pub(crate) fn capped(cap: u64) -> Self {
        Self {
            amount: cap,
            cap,
            course: None,
            ceiling: None,
            double_nanos: DOUBLE_NANOS,
            lesson: None,
            tries: Tries::default(),
        }
    }

    /// Nobody has told the limit: about `amount`, or with `rising` from there up until the first refusal.
    pub(crate) fn unknown(amount: u64, rising: bool, traffic: &Traffic, now: Time) -> Self {
        let ceiling = (!rising).then_some(Ceiling { amount, calls: 0 });
        // What it begins with is nobody's lesson.
        let lesson = (!rising).then_some(Lesson { at: now, from: Teacher::Refusals });
        let mut pace = Self { ceiling, lesson, cap: u64::MAX, ..Self::capped(amount) };
        let (phase, double) =
            if rising { (Phase::Rise, DOUBLE_MIN_NANOS) } else { (Phase::Hold, DOUBLE_NANOS) };
        pace.course = Some(Course::new(phase, amount, amount, HOLD, double, traffic, now));
        pace
    }

    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// What taught the amount; `None` where all that is configured is granted.
    pub(crate) fn lesson(&self) -> Option<Lesson> {
        self.lesson
    }

    /// The provider's headers told the cap.
    pub(crate) fn told(&mut self, now: Time) {
        self.lesson = Some(Lesson { at: now, from: Teacher::Headers });
    }

    pub(crate) fn cap(&self) -> u64 {
        self.cap
    }

    /// Whether nothing is known yet: nobody told the limit, and nothing was refused.
    pub(crate) fn is_guess(&self) -> bool {
        self.cap == u64::MAX && self.ceiling.is_none()
    }

    /// Whether all that is configured is granted.
    pub(crate) fn is_whole(&self) -> bool {
        self.amount == self.cap
    }

    /// Whether more is granted than what is known to work.
    pub(crate) fn is_beyond(&self) -> bool {
        !self.is_whole() && self.course.is_some_and(|course| self.amount > course.good)
    }

    /// Another authority, or another word of the same one. A raise applies at once, and so does a cut.
    pub(crate) fn set_cap(&mut self, cap: u64) {
        if cap > self.cap || cap <= self.amount {
            self.tries.forget();
            *self = Self { double_nanos: self.double_nanos, tries: self.tries, ..Self::capped(cap) };
        }
        self.cap = cap;
    }

    /// The provider refused: that has to be paid for, `calls` after the first one.
    pub(crate) fn pay(&mut self, traffic: &Traffic) {
        self.tries.pay(traffic.calls);
    }

    /// What is granted went through, and for long. Only all that is configured is worth coming back to: anything less was learned, and may
    /// be learned again.
    pub(crate) fn hold(&mut self) {
        if self.is_whole() {
            self.tries.hold();
        }
    }

    /// The provider refused calls that this limit allowed: one event.
    pub(crate) fn collapse(&mut self, why: Collapse, traffic: &Traffic, now: Time) {
        let before = self.amount;
        let floor = (percent(self.cap_or_amount(), FLOOR_PERCENT)).max(1);
        // Of what nobody declared it is all that is known.
        let least = if self.cap == u64::MAX { 1 } else { percent(before, DECREASE_MOST_PERCENT) };
        let found = why.estimate.map_or(Ceiling { amount: before, calls: 0 }, |estimate| Ceiling {
            amount: measured(estimate).clamp(least, self.cap),
            calls: estimate.calls,
        });
        let again = self.ceiling.filter(|last| is_similar(last.amount, found.amount));
        let known = why.estimate.map(|_| found.beside(again));
        let is_ceiling = again.is_some();
        self.ceiling = Some(Ceiling { amount: known.unwrap_or(before), ..found });
        let hold = if is_ceiling { HOLD_AT_CEILING } else { HOLD }.after(why.wait_nanos);
        let (phase, from, good) = match known {
            Some(known) => {
                let from = known.min(percent(before, DECREASE_LEAST_PERCENT));
                (if known > from { Phase::Recover } else { Phase::Hold }, from, known)
            }
            None => {
                let good = self.course.map_or(before, |course| course.good.min(before));
                (Phase::Recover, percent(before, DECREASE_PERCENT).min(before.saturating_sub(1)), good)
            }
        };
        self.amount = from.max(floor).min(before);
        let (from, good) = (self.amount, good.max(self.amount));
        let course = Course::new(phase, from, good, hold, self.double_nanos, traffic, now);
        let course = Course { before, again, ..course };
        self.course = Some(self.tries.fall(course, self.cap, why.wait_nanos));
        self.lesson = Some(Lesson { at: now, from: Teacher::Refusals });
    }

    /// As another refusal of the same event says, it lets through even less. False if that is nothing new.
    pub(crate) fn collapse_more(&mut self, estimate: Estimate) -> bool {
        let Some(course) = &mut self.course else { return false };
        let amount = measured(estimate).max(percent(course.before, DECREASE_MOST_PERCENT));
        let found = Ceiling { amount, calls: estimate.calls };
        let less = found.beside(course.again.filter(|last| is_similar(last.amount, amount)));
        if course.used_nanos > 0 || less >= self.amount {
            return false;
        }
        (self.amount, course.from, course.good, course.phase) = (less, less, less, Phase::Hold);
        self.ceiling = Some(Ceiling { amount: less, ..found });
        true
    }

    /// The provider refused the steepness, not the rate: back to what it let through of late, and up from there more gently; unless the
    /// refusal before, at `last`, was so short a time ago that nothing has been tried since.
    pub(crate) fn soften(&mut self, of_late: Option<u64>, last: Time, traffic: &Traffic, now: Time) {
        self.double_nanos = match self.double_nanos {
            DOUBLE_NANOS => DOUBLE_GENTLY_NANOS,
            gently if now.nanos_since(last) < gently => gently,
            gently => gently.saturating_mul(2).min(DOUBLE_GENTLY_MAX_NANOS),
        };
        let floor = percent(self.cap_or_amount(), FLOOR_PERCENT).max(1);
        let most = percent(self.amount, DECREASE_PERCENT).max(1);
        self.amount = of_late.unwrap_or(most).max(floor).min(most);
        let (from, double) = (self.amount, self.double_nanos);
        self.course = Some(Course::new(Phase::Rise, from, from, HOLD, double, traffic, now));
        self.lesson = Some(Lesson { at: now, from: Teacher::Refusals });
    }

    /// The provider carries `carried` at once: one event. For limits in flight.
    pub(crate) fn carry(&mut self, carried: u64, wait_nanos: u64, traffic: &Traffic, now: Time) {
        self.amount = carried.clamp(1, self.amount.max(1));
        let is_ceiling = self.ceiling.is_some_and(|last| is_similar(last.amount, self.amount));
        self.ceiling = Some(Ceiling { amount: self.amount, calls: 0 });
        let hold = if is_ceiling { HOLD_AT_CEILING } else { HOLD }.after(wait_nanos);
        self.course =
            Some(Course::new(Phase::Hold, self.amount, self.amount, hold, DOUBLE_NANOS, traffic, now));
        self.lesson = Some(Lesson { at: now, from: Teacher::Refusals });
    }

    /// It carries even less, as another refusal of the same event says.
    pub(crate) fn carry_less(&mut self, carried: u64) {
        if let Some(course) = &mut self.course
            && carried < self.amount
        {
            (self.amount, course.good, course.from) = (carried, carried, carried);
            self.ceiling = Some(Ceiling { amount: carried, calls: 0 });
        }
    }

    /// Whether nothing was learned that time could change.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.course.is_none()
    }

    /// A call took so long. Nothing known, the rise goes as fast as refusals would be heard of.
    pub(crate) fn hear_after(&mut self, latency: u64) {
        let is_guess = self.is_guess();
        if let Some(course) = self.course.as_mut().filter(|_| is_guess) {
            let double = latency.saturating_mul(DOUBLE_LATENCIES).min(DOUBLE_NANOS);
            if double > course.double_nanos {
                (course.from, course.used_nanos, course.double_nanos) = (self.amount, 0, double);
            }
        }
    }

    /// Time has passed in which nothing was refused. Says whether the amount is another now.
    pub(crate) fn look(&mut self, traffic: &Traffic, look: &Look) -> bool {
        let Some(course) = &mut self.course else { return false };
        let paid = self.tries.are_paid(course, traffic.calls);
        if !course.look(self.amount, traffic, look, paid) {
            return false;
        }
        let amount = course.amount().clamp(1, self.cap);
        if self.ceiling.is_some_and(|last| amount > last.amount && !is_similar(last.amount, amount)) {
            self.ceiling = None;
        }
        let changed = amount != self.amount;
        if amount == self.cap {
            (self.course, self.lesson) = (None, None);
        } else if changed {
            self.lesson = Some(Lesson { at: look.now, from: Teacher::Growth });
        }
        self.amount = amount;
        changed
    }

    fn cap_or_amount(&self) -> u64 {
        if self.cap == u64::MAX { self.amount } else { self.cap }
    }
}

impl Ceiling {
    /// Two that measured nearly the same know better than either: by how many calls say so, as far as the older may still be right.
    fn beside(self, last: Option<Self>) -> u64 {
        let new = u128::from(self.calls);
        let Some(last) = last.filter(|last| last.calls > 0 && new > 0) else { return self.amount };
        let old = u128::from(last.calls).min(new * OLD_MOST);
        let all = (u128::from(self.amount) * new).saturating_add(u128::from(last.amount).saturating_mul(old));
        u64::try_from(all / (new + old)).unwrap_or(u64::MAX)
    }
}

/// Half a call and half a per cent less than was measured.
fn measured(estimate: Estimate) -> u64 {
    let margin = estimate.amount / 200 + estimate.amount / estimate.calls.max(1).saturating_mul(2);
    estimate.amount.saturating_sub(margin)
}

fn is_similar(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= percent(one, SIMILAR_PERCENT).max(1)
}

/// So many per cent of it, rounded down.
pub(super) fn percent(amount: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: calls that turn out to have been refused are no use of a limit, however many of them were counted before.
    #[test]
    fn refused_calls_are_no_use() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let mut traffic = Traffic::default();
        for _ in 0..10 {
            traffic.grant(1, || 0, Time::ZERO, at(1));
        }
        let mut pace = Pace::capped(100);
        pace.carry(50, 0, &traffic, at(2));
        for _ in 0..10 {
            traffic.uncount(at(1), 1);
        }
        for seconds in (100..1_000).step_by(100) {
            let (granted, now) = (at(seconds), at(seconds));
            let look = Look { per_nanos: 0, capacity: 50, full: true, granted, now };
            assert!(!pace.look(&traffic, &look));
        }
        assert_eq!(pace.amount(), 50);
    }

    /// Goal: what a few calls measured moves what many had measured by a part only, and what is another limit altogether, not at all.
    #[test]
    fn few_calls_do_not_overrule_many() {
        let collapsed = |pace: &mut Pace, amount, calls| {
            let why = Collapse { estimate: Some(Estimate { amount, calls }), wait_nanos: 0 };
            pace.collapse(why, &Traffic::default(), Time::ZERO);
            pace.course.map(|course| course.good)
        };
        let mut pace = Pace::capped(10_000);
        assert_eq!(collapsed(&mut pace, 6_000, 1_000), Some(6_000 - 30 - 3));
        assert_eq!(collapsed(&mut pace, 5_600, 100), Some((4 * 5_967 + 5_544) / 5));
        assert_eq!(collapsed(&mut pace, 3_000, 1_000), Some(3_000 - 15 - 1));
    }

    /// Goal: a limit that had held and fell is tried again after two seconds of use, and is whole again where that works; one that never held
    /// is not.
    #[test]
    fn what_held_returns_at_once() {
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        let returns = |held: bool| {
            let mut traffic = Traffic::default();
            (0..3_000).for_each(|_| traffic.grant(1, || 0, Time::ZERO, at(1)));
            let mut pace = Pace::capped(600);
            if held {
                pace.hold();
            }
            let why =
                Collapse { estimate: Some(Estimate { amount: 300, calls: 100 }), wait_nanos: 1_000_000_000 };
            pace.pay(&traffic);
            pace.collapse(why, &traffic, at(1_000));
            (1_200..10_000).step_by(200).find(|millis| {
                let now = at(*millis);
                traffic.grant(1, || 0, Time::ZERO, now);
                let look = Look { per_nanos: 60_000_000_000, capacity: 600, full: false, granted: now, now };
                pace.look(&traffic, &look) && pace.amount() == 600
            })
        };
        assert_eq!(returns(true), Some(3_000));
        assert_eq!(returns(false), None);
    }

    /// Goal: refusals of one steep start make the next way up gentler once, not once each.
    #[test]
    fn one_steep_start_is_one_lesson() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let (mut pace, traffic) = (Pace::capped(1_000), Traffic::default());
        let mut soften = |last: u64, now: u64| {
            pace.soften(Some(100), at(last), &traffic, at(now));
            pace.double_nanos
        };
        assert_eq!([soften(0, 100), soften(100, 110)], [DOUBLE_GENTLY_NANOS; 2]);
        assert_eq!(soften(110, 140), 2 * DOUBLE_GENTLY_NANOS);
    }
}
