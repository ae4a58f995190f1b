//! The way back up: along a cubic to what worked last, a while there, a careful step beyond, and further with everything that is proven.
//!
//! A step beyond says little by itself: a provider that was left alone for a while lets through more than it refills. So the
//! level is followed that a provider would have which has hardly more than what is known to work. Once that would have
//! refused and the real one has not, there is more.

use super::{super::traffic::Traffic, Ceiling, Look, percent};
use crate::time::Time;

/// Time of use until the cubic is back at what worked last.
const CUBIC_NANOS: u64 = 30_000_000_000;
/// How long the limit stays there at least: time of use, and calls. Past a ceiling, a step beyond costs a refusal, and those are to be
/// fewer than one call in 200.
pub(super) const HOLD: Hold = Hold { nanos: 10_000_000_000, calls: 50 };
pub(super) const HOLD_AT_CEILING: Hold = Hold { nanos: 15_000_000_000, calls: 175 };
/// A refusal that froze for long is dear: it may cost a 15th of the time.
const HOLD_PER_WAIT: u64 = 15;
/// The step beyond what worked, in percent. What one proof allows may be no more than the error of what was measured; from the second
/// on, each doubles the step.
const PROBE_PERCENT: u64 = 8;
const PROOFS: u32 = 2;
/// After a step of this much there is no end in sight.
const PROBE_MOST_PERCENT: u64 = 100;
/// A provider of this share of what worked would have refused by now: that proves that there is more.
const PROOF_PERCENT: u64 = 102;
/// What is then known to work.
const PROVEN_PERCENT: u64 = 101;
/// By so many calls it would have been late: they are not all of one size, and some overtake others.
const PROOF_CALLS: i128 = 3;
/// In such parts of a unit its level is followed: few units refill between two looks.
const FINE: u64 = 1_000;
/// Where nothing can be proven, so much use without a refusal does.
const PROBE: Hold = Hold { nanos: 5_000_000_000, calls: 20 };
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
pub(super) struct Hold {
    pub(super) nanos: u64,
    pub(super) calls: u64,
}

impl Hold {
    /// A refusal that froze for so long.
    pub(super) fn after(self, wait_nanos: u64) -> Self {
        Self { nanos: self.nanos.max(wait_nanos.saturating_mul(HOLD_PER_WAIT)), ..self }
    }
}

/// On the way back up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) phase: Phase,
    /// What works, as far as known.
    pub(super) good: u64,
    /// What was granted before the event.
    pub(super) before: u64,
    /// Where it had collapsed before, at nearly the same.
    pub(super) again: Option<Ceiling>,
    /// What had held before, and is to be tried after the hold.
    pub(super) back_to: Option<u64>,
    /// Where this phase began, and after how much use and how many calls.
    pub(super) from: u64,
    /// Time in which the limit was really used, since the phase began.
    pub(super) used_nanos: u64,
    pub(super) calls: u64,
    pub(super) hold: Hold,
    /// How long a rise takes to double the limit.
    pub(super) double_nanos: u64,
    /// While probing, what a provider would have left that has no more than is known to work; `None` if that is not known.
    pub(super) left: Option<i128>,
    /// What a call takes on average.
    pub(super) call: i128,
    /// When that provider would have refused. It is proven that the real one did not once a call of after that is heard of: until
    /// then its refusal may be on the way.
    pub(super) proven_from: Option<Time>,
    /// The step beyond what works, in percent, and how often more has been proven to work.
    pub(super) step: u64,
    pub(super) proofs: u32,
    /// The latest look.
    pub(super) looked: Time,
    pub(super) looked_net: i128,
    pub(super) looked_calls: u64,
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

impl Course {
    pub(super) fn new(
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
            again: None,
            back_to: None,
            from,
            used_nanos: 0,
            calls: 0,
            hold,
            double_nanos,
            left: None,
            call: 1,
            proven_from: None,
            step: PROBE_PERCENT,
            proofs: 0,
            looked: now,
            looked_net,
            looked_calls,
        }
    }

    /// Time has passed in which nothing was refused, and a refusal is `paid` for or not. False if there is nothing to be said yet, or if it
    /// was hardly used.
    pub(super) fn look(&mut self, amount: u64, traffic: &Traffic, look: &Look, paid: bool) -> bool {
        let Look { per_nanos: per, capacity, full, granted, now } = *look;
        if self.proven_from.is_some_and(|from| granted > from) {
            let next = self.proven();
            self.go_on(next, amount);
            self.begin_proof(traffic, look);
            return true;
        }
        let (span, calls) = (now.nanos_since(self.looked), traffic.calls.saturating_sub(self.looked_calls));
        if span < LOOK_NANOS || calls < LOOK_CALLS {
            return false;
        }
        let net = traffic.net - self.looked_net;
        (self.looked, self.looked_net, self.looked_calls) = (now, traffic.net, traffic.calls);
        self.follow(net, capacity, per, span);
        let offered = u128::from(amount) * u128::from(span) / u128::from(per.max(1));
        let used = u128::try_from(net).unwrap_or(0);
        let enough = if self.phase == Phase::Rise { USED_RISING_PERCENT } else { USED_PERCENT };
        if !full && used * 100 < offered * u128::from(enough) {
            return false;
        }
        self.used_nanos = self.used_nanos.saturating_add(span.min(LOOK_MAX_NANOS));
        self.calls = self.calls.saturating_add(calls);
        if self.turn(amount, paid, now) {
            self.begin_proof(traffic, look);
        }
        true
    }

    /// Begins to follow what a provider would have left that has no more than is known to work, if that can be known.
    fn begin_proof(&mut self, traffic: &Traffic, look: &Look) {
        let per = look.per_nanos;
        let can_be_proven = self.phase == Phase::Probe && per > 0;
        let left = || traffic.left(FINE.into(), fine(look.capacity), |span| self.refill(per, span), look.now);
        self.left = if can_be_proven { left() } else { None };
        self.call = traffic.net / i128::from(traffic.calls.max(1));
    }

    /// Goes on to the next phase when this one is over, and says so.
    fn turn(&mut self, amount: u64, paid: bool, now: Time) -> bool {
        let over = |hold: Hold| self.used_nanos >= hold.nanos && self.calls >= hold.calls;
        let next = match (self.phase, self.left) {
            (Phase::Recover, _) if self.used_nanos >= CUBIC_NANOS => Phase::Hold,
            (Phase::Hold, _) if over(self.hold) && paid => match self.back_to.take() {
                Some(held) => {
                    (self.good, self.hold) = (held, HOLD);
                    self.go_on(Phase::Hold, held);
                    return true;
                }
                None => Phase::Probe,
            },
            (Phase::Probe, Some(left)) => {
                if left < -self.call.saturating_mul(PROOF_CALLS * i128::from(FINE)) {
                    self.proven_from.get_or_insert(now);
                }
                return false;
            }
            (Phase::Probe, None) if over(PROBE) => Phase::Rise,
            _ => return false,
        };
        self.go_on(next, amount);
        true
    }

    fn go_on(&mut self, next: Phase, amount: u64) {
        (self.phase, self.from, self.used_nanos, self.calls, self.proven_from) = (next, amount, 0, 0, None);
    }

    /// More works than was known. What comes next?
    fn proven(&mut self) -> Phase {
        self.good = percent(self.good, PROVEN_PERCENT).max(self.good.saturating_add(1));
        self.proofs += 1;
        if self.proofs >= PROOFS {
            self.step *= 2;
        }
        if self.step < PROBE_MOST_PERCENT { Phase::Probe } else { Phase::Rise }
    }

    /// Follows the level of a provider that has hardly more than what is known to work, over `span` in which `net` units were used.
    fn follow(&mut self, net: i128, capacity: u64, per: u64, span: u64) {
        let refill = self.refill(per, span);
        if let Some(left) = &mut self.left {
            let used = net.saturating_mul(FINE.into());
            *left = left.saturating_add(refill).min(fine(capacity)).saturating_sub(used);
        }
    }

    /// What such a provider refills in `span`.
    fn refill(&self, per: u64, span: u64) -> i128 {
        let whole = u128::from(self.good) * u128::from(FINE * PROOF_PERCENT / 100);
        i128::try_from(whole.saturating_mul(span.into()) / u128::from(per.max(1))).unwrap_or(i128::MAX)
    }

    pub(super) fn amount(&self) -> u64 {
        match self.phase {
            Phase::Recover => {
                // good - (good - from) x ((K - t) / K)^3, in thousandths of K.
                let left = u128::from(CUBIC_NANOS.saturating_sub(self.used_nanos) / (CUBIC_NANOS / 1_000));
                let missing = u128::from(self.good - self.from) * left.pow(3) / 1_000_000_000;
                self.good - missing as u64
            }
            Phase::Hold => self.good,
            Phase::Probe => percent(self.good, 100 + self.step).max(self.good.saturating_add(1)),
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

fn fine(units: u64) -> i128 {
    i128::from(units) * i128::from(FINE)
}
