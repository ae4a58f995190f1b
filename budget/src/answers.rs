//! How the last 1,024 permits of a budget ended, so that a report which is repeated is answered as the first one was.

use std::time::Duration;

use crate::{
    outcome::{Outcome, Reported},
    time::nanos,
};

const REMEMBERED: usize = 1024;
const NO_WAIT: u32 = u32::MAX;

/// By the permit's serial, modulo the length: a power of two, which grows as permits are granted.
#[derive(Debug, Default)]
pub(crate) struct Answers(Vec<Answer>);

#[derive(Clone, Copy, Debug)]
struct Answer {
    serial: u64,
    outcome: Outcome,
    settled: bool,
    retry: bool,
    retry_after_ms: u32,
    /// Tenant and model of a permit that expired and whose report may still come and teach.
    late: Option<(u32, u32)>,
}

impl Answers {
    pub(crate) fn remember(&mut self, serial: u64, reported: &Reported) {
        self.insert(serial, reported, None);
    }

    /// A permit of this tenant and model expired; a report may come late.
    pub(crate) fn expect_late(&mut self, serial: u64, tenant: u32, model: u32) {
        let expired = Reported {
            outcome: Outcome::Failed { retryable: true },
            settled: false,
            retry: false,
            retry_after: None,
        };
        self.insert(serial, &expired, Some((tenant, model)));
    }

    /// Tenant and model of an expired permit, once.
    pub(crate) fn take_late(&mut self, serial: u64) -> Option<(u32, u32)> {
        let at = self.place(serial);
        self.0.get_mut(at).filter(|answer| answer.serial == serial)?.late.take()
    }

    fn insert(&mut self, serial: u64, reported: &Reported, late: Option<(u32, u32)>) {
        if self.0.len() < REMEMBERED && serial >= self.0.len() as u64 {
            self.grow(serial);
        }
        let ms = |wait: Duration| u32::try_from(nanos(wait) / 1_000_000).unwrap_or(NO_WAIT - 1);
        let at = self.place(serial);
        self.0[at] = Answer {
            serial,
            outcome: reported.outcome,
            settled: reported.settled,
            retry: reported.retry,
            retry_after_ms: reported.retry_after.map_or(NO_WAIT, ms),
            late,
        };
    }

    pub(crate) fn recall(&self, serial: u64) -> Option<Reported> {
        let answer = self.0.get(self.place(serial))?;
        let wait = Duration::from_millis(u64::from(answer.retry_after_ms));
        (answer.serial == serial).then_some(Reported {
            outcome: answer.outcome,
            settled: answer.settled,
            retry: answer.retry,
            retry_after: (answer.retry_after_ms != NO_WAIT).then_some(wait),
        })
    }

    fn place(&self, serial: u64) -> usize {
        serial as usize & self.0.len().saturating_sub(1)
    }

    fn grow(&mut self, serial: u64) {
        const EMPTY: Answer = Answer {
            serial: 0,
            outcome: Outcome::Success,
            settled: false,
            retry: false,
            retry_after_ms: NO_WAIT,
            late: None,
        };
        let wanted =
            usize::try_from(serial + 1).unwrap_or(REMEMBERED).next_power_of_two().clamp(4, REMEMBERED);
        let before = std::mem::replace(&mut self.0, vec![EMPTY; wanted]);
        for answer in before {
            // No permit has serial 0.
            if answer.serial != 0 {
                let at = self.place(answer.serial);
                self.0[at] = answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the last permits are remembered, older ones and unknown ones are not.
    #[test]
    fn remembers_the_last_ones() {
        let mut answers = Answers::default();
        assert_eq!(answers.recall(7), None);
        let reported = |ms| Reported {
            outcome: Outcome::RateLimited,
            settled: true,
            retry: true,
            retry_after: Some(Duration::from_millis(ms)),
        };
        for serial in 1..=5_000 {
            answers.remember(serial, &reported(serial));
        }
        assert_eq!(answers.recall(5_000), Some(reported(5_000)));
        assert_eq!(answers.recall(3_977), Some(reported(3_977)));
        assert_eq!(answers.recall(3_976), None);
        assert_eq!(answers.recall(5_001), None);
        assert_eq!(answers.0.len(), REMEMBERED);
    }
}
