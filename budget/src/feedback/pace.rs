//! How much of a limit is really there, as refusals have taught: one decrease for every event, then back along a cubic to what worked
//! last, a while there, a careful step beyond, and if that holds, quickly up. Never beyond what the administrator or the
//! provider's headers say.
//!
//! The cubic is that of Ha, Rhee and Xu, "CUBIC: a new TCP-friendly high-speed TCP variant", 2008, made unit-free. Where two refusals have
//! told the provider's rate ([`Estimate`]), that is the decrease; else it is [`DECREASE_PERCENT`].

mod saved;

use super::traffic::{Estimate, Traffic};
use crate::time::Time;

/// What a decrease leaves where nothing better is known.
const DECREASE_PERCENT: u64 = 85;
/// What an estimate leaves at the least: it may be off.
const DECREASE_MOST_PERCENT: u64 = 50;
/// And at the most, or nothing would be learned.
const DECREASE_LEAST_PERCENT: u64 = 97;
/// The least share of the cap that is ever granted.
const FLOOR_PERCENT: u64 = 5;
/// Time of use until the cubic is back at what worked last.
const CUBIC_NANOS: u64 = 30_000_000_000;
/// How long the limit stays there at least: time of use, and calls. Past a ceiling, a step beyond costs a refusal, and those are to be
/// fewer than one call in 200.
const HOLD: Hold = Hold { nanos: 10_000_000_000, calls: 50 };
const HOLD_AT_CEILING: Hold = Hold { nanos: 15_000_000_000, calls: 200 };
/// A refusal that froze for long is dear: it may cost a 25th of the time.
const HOLD_PER_WAIT: u64 = 25;
/// The step beyond what worked.
const PROBE_PERCENT: u64 = 108;
/// More than this share of what worked, let through since the provider was empty, proves that there is more.
const PROOF_PERCENT: u64 = 101;
/// Where nothing can be proven, so much use without a refusal does.
const PROBE: Hold = Hold { nanos: 5_000_000_000, calls: 20 };
/// And where it could be and is not, so much.
const PROBE_NANOS: u64 = 20_000_000_000;
/// How long a rise takes to double the limit.
const DOUBLE_NANOS: u64 = 8_000_000_000;
/// The same for a provider that does not like steep rises: at first, and at the most (OpenAI: half as much again in 15 minutes). With
/// every such refusal it takes twice as long.
const DOUBLE_GENTLY_NANOS: u64 = 20_000_000_000;
const DOUBLE_GENTLY_MAX_NANOS: u64 = 1_500_000_000_000;
/// Two collapses as close as this mark a ceiling.
const SIMILAR_PERCENT: u64 = 10;
/// Between two looks at how much is used.
const LOOK_NANOS: u64 = 1_000_000_000;
const LOOK_CALLS: u64 = 4;
/// A longer time without a look may have been spent idle.
const LOOK_MAX_NANOS: u64 = 120_000_000_000;
/// A limit of which this much is used is really used.
const USED_PERCENT: u64 = 80;
/// A rise goes no further beyond what is used than this.
const USED_RISING_PERCENT: u64 = 92;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    nanos: u64,
    calls: u64,
}

impl Hold {
    /// A refusal that froze for so long.
    fn after(self, wait_nanos: u64) -> Self {
        Self { nanos: self.nanos.max(wait_nanos.saturating_mul(HOLD_PER_WAIT)), ..self }
    }
}

/// The effective amount of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    amount: u64,
    /// The lowest amount that somebody with authority says; `u64::MAX` if nobody does.
    cap: u64,
    course: Option<Course>,
    /// Where it collapsed last.
    ceiling: Option<u64>,
    /// How long a rise takes to double the limit.
    double_nanos: u64,
    /// What taught the amount last, and when.
    lesson: Option<Lesson>,
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
}

/// On the way back up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    phase: Phase,
    /// What works, as far as known.
    good: u64,
    /// What was granted before the event.
    before: u64,
    /// Where this phase began, and after how much use and how many calls.
    from: u64,
    /// Time in which the limit was really used, since the phase began.
    used_nanos: u64,
    calls: u64,
    hold: Hold,
    /// How long a rise takes to double the limit.
    double_nanos: u64,
    /// The latest look.
    looked: Time,
    looked_net: i128,
    looked_calls: u64,
}

/// How far a limit has come on its way back up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Along the cubic, back to what worked last.
    Recover,
    /// A while there.
    Hold,
    /// A careful step beyond.
    Probe,
    /// Quickly up.
    Rise,
}

/// Why the provider refused, as far as that matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collapse {
    /// What it lets through, if that is known.
    pub(crate) estimate: Option<Estimate>,
    /// How long grants are held back for it, in nanoseconds.
    pub(crate) wait_nanos: u64,
}

impl Pace {
    /// All that is configured.
    pub(crate) fn capped(cap: u64) -> Self {
        Self { amount: cap, cap, course: None, ceiling: None, double_nanos: DOUBLE_NANOS, lesson: None }
    }

    /// Nobody has told the limit: about `amount`, or with `rising` from there up until the first refusal.
    pub(crate) fn unknown(amount: u64, rising: bool, traffic: &Traffic, now: Time) -> Self {
        let ceiling = (!rising).then_some(amount);
        let from = if rising { Teacher::Growth } else { Teacher::Refusals };
        let lesson = Some(Lesson { at: now, from });
        let mut pace = Self { ceiling, lesson, cap: u64::MAX, ..Self::capped(amount) };
        let phase = if rising { Phase::Rise } else { Phase::Hold };
        pace.course = Some(Course::new(phase, amount, amount, HOLD, DOUBLE_NANOS, traffic, now));
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
            *self = Self { double_nanos: self.double_nanos, ..Self::capped(cap) };
        }
        self.cap = cap;
    }

    /// The provider refused calls that this limit allowed: one event.
    pub(crate) fn collapse(&mut self, why: Collapse, traffic: &Traffic, now: Time) {
        let before = self.amount;
        let floor = (percent(self.cap_or_amount(), FLOOR_PERCENT)).max(1);
        let known = why
            .estimate
            .map(|estimate| measured(estimate).clamp(percent(before, DECREASE_MOST_PERCENT), self.cap));
        let collapsed = known.unwrap_or(before);
        let is_ceiling = self.ceiling.is_some_and(|last| is_similar(last, collapsed));
        self.ceiling = Some(collapsed);
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
        self.course = Some(Course { before, ..course });
        self.lesson = Some(Lesson { at: now, from: Teacher::Refusals });
    }

    /// As another refusal of the same event says, it lets through even less. False if that is nothing new.
    pub(crate) fn collapse_more(&mut self, estimate: Estimate) -> bool {
        let Some(course) = &mut self.course else { return false };
        let less = measured(estimate).max(percent(course.before, DECREASE_MOST_PERCENT));
        if course.used_nanos > 0 || less >= self.amount {
            return false;
        }
        (self.amount, course.from, course.good, course.phase) = (less, less, less, Phase::Hold);
        self.ceiling = Some(less);
        true
    }

    /// The provider refused the steepness, not the rate: back to what it let through of late, and up from there more gently.
    pub(crate) fn soften(&mut self, of_late: Option<u64>, traffic: &Traffic, now: Time) {
        self.double_nanos = match self.double_nanos {
            DOUBLE_NANOS => DOUBLE_GENTLY_NANOS,
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
        let is_ceiling = self.ceiling.is_some_and(|last| is_similar(last, self.amount));
        self.ceiling = Some(self.amount);
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
            self.ceiling = Some(carried);
        }
    }

    /// Whether nothing was learned that time could change.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.course.is_none()
    }

    /// Time has passed in which nothing was refused. Says whether the amount is another now; `full` says whether
    /// all of it is in use at this moment.
    pub(crate) fn look(&mut self, traffic: &Traffic, per: u64, full: bool, now: Time) -> bool {
        let Some(course) = &mut self.course else { return false };
        let (span, calls) =
            (now.nanos_since(course.looked), traffic.calls.saturating_sub(course.looked_calls));
        if span < LOOK_NANOS || calls < LOOK_CALLS {
            return false;
        }
        let offered = u128::from(self.amount) * u128::from(span) / u128::from(per.max(1));
        let used = u128::try_from(traffic.net - course.looked_net).unwrap_or(0);
        let enough = if course.phase == Phase::Rise { USED_RISING_PERCENT } else { USED_PERCENT };
        let is_used = full || used * 100 >= offered * u128::from(enough);
        (course.looked, course.looked_net, course.looked_calls) = (now, traffic.net, traffic.calls);
        if !is_used {
            return false;
        }
        course.used_nanos = course.used_nanos.saturating_add(span.min(LOOK_MAX_NANOS));
        course.calls = course.calls.saturating_add(calls);
        let good = course.good;
        course.turn(self.amount, || is_proven(traffic, good, per, now));
        let amount = course.amount().clamp(1, self.cap);
        if self.ceiling.is_some_and(|ceiling| amount > ceiling && !is_similar(ceiling, amount)) {
            self.ceiling = None;
        }
        let changed = amount != self.amount;
        if amount == self.cap {
            (self.course, self.lesson) = (None, None);
        } else if changed {
            self.lesson = Some(Lesson { at: now, from: Teacher::Growth });
        }
        self.amount = amount;
        changed
    }

    fn cap_or_amount(&self) -> u64 {
        if self.cap == u64::MAX { self.amount } else { self.cap }
    }
}

impl Course {
    fn new(
        phase: Phase,
        from: u64,
        good: u64,
        hold: Hold,
        double_nanos: u64,
        traffic: &Traffic,
        now: Time,
    ) -> Self {
        let (looked_net, looked_calls) = (traffic.net, traffic.calls);
        Self {
            phase,
            good,
            before: good,
            from,
            used_nanos: 0,
            calls: 0,
            hold,
            double_nanos,
            looked: now,
            looked_net,
            looked_calls,
        }
    }

    /// Goes on to the next phase when this one is over.
    fn turn(&mut self, amount: u64, is_proven: impl FnOnce() -> Option<bool>) {
        let over = |hold: Hold| self.used_nanos >= hold.nanos && self.calls >= hold.calls;
        let is_over = match self.phase {
            Phase::Recover => self.used_nanos >= CUBIC_NANOS,
            Phase::Hold => over(self.hold),
            Phase::Probe => match is_proven() {
                Some(proven) => proven || self.used_nanos >= PROBE_NANOS.max(self.hold.nanos),
                None => over(PROBE),
            },
            Phase::Rise => false,
        };
        if !is_over {
            return;
        }
        let next = match self.phase {
            Phase::Recover => Phase::Hold,
            Phase::Hold => Phase::Probe,
            _ => Phase::Rise,
        };
        (self.phase, self.from, self.used_nanos, self.calls) = (next, amount, 0, 0);
    }

    fn amount(&self) -> u64 {
        match self.phase {
            Phase::Recover => {
                // good - (good - from) x ((K - t) / K)^3, in thousandths of K.
                let left = u128::from(CUBIC_NANOS.saturating_sub(self.used_nanos) / (CUBIC_NANOS / 1_000));
                let missing = u128::from(self.good - self.from) * left.pow(3) / 1_000_000_000;
                self.good - missing as u64
            }
            Phase::Hold => self.good,
            Phase::Probe => percent(self.good, PROBE_PERCENT).max(self.good.saturating_add(1)),
            Phase::Rise => {
                let double = self.double_nanos;
                // 2^t, straight between two powers.
                let doublings = u32::try_from(self.used_nanos / double).unwrap_or(u32::MAX).min(63);
                let whole = u128::from(self.from) << doublings;
                let part = whole * u128::from(self.used_nanos % double) / u128::from(double);
                u64::try_from(whole + part).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Half a call and half a per cent less than was measured.
fn measured(estimate: Estimate) -> u64 {
    let margin = estimate.amount / 200 + estimate.amount / estimate.calls.max(1).saturating_mul(2);
    estimate.amount.saturating_sub(margin)
}

/// Whether more than `good` was let through since the provider was empty; `None` where that is not known.
fn is_proven(traffic: &Traffic, good: u64, per: u64, now: Time) -> Option<bool> {
    traffic.is_since_empty().then_some(())?;
    Some(traffic.at_least(now, per).is_some_and(|estimate| estimate.amount > percent(good, PROOF_PERCENT)))
}

fn is_similar(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= percent(one, SIMILAR_PERCENT).max(1)
}

fn percent(amount: u64, percent: u64) -> u64 {
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
            traffic.grant(1, || 0, at(1));
        }
        let mut pace = Pace::capped(100);
        pace.carry(50, 0, &traffic, at(2));
        for _ in 0..10 {
            traffic.uncount(at(1), 1);
        }
        for seconds in (100..1_000).step_by(100) {
            assert!(!pace.look(&traffic, 0, true, at(seconds)));
        }
        assert_eq!(pace.amount(), 50);
    }
}
