//! What a budget makes of the provider's refusals. A burst of refusals of calls that were under way together is one event.

use std::time::Duration;

use crate::{outcome::Outcome, time::Time};

/// Longer waits are not believed.
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// The wait for the n-th refusal in a row where the provider gives none: 1, 2, 4 ... 60 s.
const LADDER_SECONDS: [u64; 7] = [1, 2, 4, 8, 16, 32, 60];

#[derive(Debug, Default)]
pub(crate) struct Feedback {
    /// Nothing is granted before then, on any limit.
    frozen_until: Time,
    /// Quota used up, until then if a reset is known.
    exhausted: Option<Option<Time>>,
    /// Refusals in a row, each of a call that was sent after the one before it was heard of.
    in_a_row: usize,
    /// When the latest event was heard of.
    heard: Time,
    /// State of the jitter (Steele et al., "Fast splittable pseudorandom number generators", 2014).
    jitter: u64,
}

/// What a refusal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    Nothing,
    /// Grant nothing on the rates that the permit touched until then.
    FreezeTouched {
        until: Time,
        /// Whether this is an event of its own: the call was sent after the last refusal was heard of.
        news: bool,
    },
    /// Tell everyone that waits.
    Exhausted,
}

impl Feedback {
    /// Until when nothing at all is granted.
    pub(crate) fn frozen(&self, now: Time) -> Option<Time> {
        (self.frozen_until > now).then_some(self.frozen_until)
    }

    /// Whether the quota is used up, and until when if that is known.
    pub(crate) fn exhausted(&self, now: Time) -> Option<Option<Time>> {
        self.exhausted.filter(|until| until.is_none_or(|until| until > now))
    }

    /// Goes on from what was written down.
    pub(crate) fn restore(&mut self, frozen_until: Time, exhausted: Option<Option<Time>>) {
        (self.frozen_until, self.exhausted) = (frozen_until, exhausted);
    }

    /// An administrator says that the quota is there again.
    pub(crate) fn resume(&mut self) {
        self.exhausted = None;
    }

    /// A call that was granted at `granted` went like this.
    pub(crate) fn heard(
        &mut self,
        outcome: Outcome,
        retry_after: Option<Duration>,
        granted: Time,
        now: Time,
    ) -> Reaction {
        match outcome {
            Outcome::Success => {
                if granted > self.heard {
                    self.in_a_row = 0;
                }
                Reaction::Nothing
            }
            Outcome::RateLimited => {
                let news = self.is_news(granted);
                match self.wait(retry_after, granted, now) {
                    Some(wait) => Reaction::FreezeTouched { until: now + wait, news },
                    None => Reaction::Nothing,
                }
            }
            Outcome::Overloaded | Outcome::ConcurrencyLimited | Outcome::AccelerationLimited => {
                if let Some(wait) = self.wait(retry_after, granted, now) {
                    self.frozen_until = self.frozen_until.max(now + wait);
                }
                Reaction::Nothing
            }
            Outcome::QuotaExhausted => {
                self.exhausted = Some(retry_after.map(|wait| now + wait.min(WAIT_MAX)));
                Reaction::Exhausted
            }
            Outcome::TooLarge | Outcome::Failed { .. } | Outcome::Cancelled => Reaction::Nothing,
        }
    }

    /// How long to hold back; `None` if this call was under way when the last refusal was heard of, and says no more than that.
    fn wait(&mut self, given: Option<Duration>, granted: Time, now: Time) -> Option<Duration> {
        let news = self.is_news(granted);
        if news {
            self.heard = now;
            self.in_a_row += 1;
        }
        match given {
            Some(given) => Some(given.min(WAIT_MAX)),
            None if news => {
                let rung = LADDER_SECONDS[(self.in_a_row - 1).min(LADDER_SECONDS.len() - 1)];
                // 80 % to 120 %.
                let percent = 80 + self.random() % 41;
                Some(Duration::from_millis(rung * 10 * percent))
            }
            None => None,
        }
    }

    fn is_news(&self, granted: Time) -> bool {
        self.in_a_row == 0 || granted > self.heard
    }

    fn random(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// Goal: fifty refusals of calls that were under way together climb one rung.
    #[test]
    fn a_burst_is_one_event() {
        let mut feedback = Feedback::default();
        let Reaction::FreezeTouched { until: first, news: true } =
            feedback.heard(Outcome::RateLimited, None, at(0), at(1))
        else {
            panic!("a refusal freezes");
        };
        assert!((Duration::from_millis(800)..=Duration::from_millis(1200)).contains(&first.since(at(1))));
        for _ in 0..50 {
            assert_eq!(feedback.heard(Outcome::RateLimited, None, at(0), at(1)), Reaction::Nothing);
        }
        let Reaction::FreezeTouched { until: second, news: true } =
            feedback.heard(Outcome::RateLimited, None, at(3), at(4))
        else {
            panic!("a refusal of a later call is news");
        };
        assert!((Duration::from_millis(1600)..=Duration::from_millis(2400)).contains(&second.since(at(4))));
    }

    /// Goal: a success of a later call starts the ladder anew; one of a call that was under way does not.
    #[test]
    fn success_ends_the_row() {
        let mut feedback = Feedback::default();
        feedback.heard(Outcome::Overloaded, None, at(0), at(1));
        feedback.heard(Outcome::Success, None, at(0), at(2));
        assert_eq!(feedback.in_a_row, 1);
        feedback.heard(Outcome::Success, None, at(3), at(4));
        assert_eq!(feedback.in_a_row, 0);
        assert!(feedback.frozen(at(1)).is_some());
    }

    /// Goal: a wait that was given is kept, up to a day.
    #[test]
    fn given_waits_are_kept_up_to_a_day() {
        let mut feedback = Feedback::default();
        let wait = Some(Duration::from_secs(7));
        let frozen = |until, news| Reaction::FreezeTouched { until, news };
        assert_eq!(feedback.heard(Outcome::RateLimited, wait, at(0), at(1)), frozen(at(8), true));
        assert_eq!(
            feedback.heard(Outcome::RateLimited, Some(Duration::MAX), at(0), at(1)),
            frozen(at(86_401), false)
        );
    }
}
