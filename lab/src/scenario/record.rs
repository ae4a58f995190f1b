//! What a run leaves behind: every attempt at the provider, and what the budget believed over time. Figures, traces and plots are all
//! made from this.

use permitd_budget::{Budget, LimitSpec, Time};

use super::{call::Call, simulated::Why};
use crate::provider::buckets::{MINUTE, Nanos};

/// An instant far from zero for the budget, so that nothing depends on the clock's beginning.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// While nothing happens, the budget is looked at this often.
const LOOK_EVERY: Nanos = 250_000_000;

/// Everything that happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// In the order in which they were sent.
    pub attempts: Vec<Attempt>,
    /// In the order of their times.
    pub samples: Vec<Sample>,
    /// Every limit that the budget had at some time.
    pub limits: Vec<LimitName>,
    /// Calls that the budget refused for good: their work, when, and why.
    pub turned_away: Vec<(usize, Nanos, String)>,
    /// When the run was ended because more happened than can be right.
    pub cut_short: Option<Nanos>,
    /// Calls that still waited at the end: their work, and since when.
    pub unserved: Vec<(usize, Nanos)>,
}

/// One call on its way to the provider and back.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Whose.
    pub work: usize,
    /// When the call first wanted to go.
    pub asked: Nanos,
    /// When this attempt was let go.
    pub sent: Nanos,
    /// When it reached the provider.
    pub arrived: Nanos,
    /// When the provider's answer left.
    pub answered: Nanos,
    /// When the answer was heard of.
    pub heard: Nanos,
    /// How long the provider works on it once it is begun.
    pub service: Nanos,
    /// What became of it.
    pub fate: Fate,
    /// How long it would have had to wait, where it was refused and that is known.
    pub needed: Option<Nanos>,
    /// How long it was told to wait.
    pub told: Option<Nanos>,
    /// Tokens that went in.
    pub input: u64,
    /// Tokens that came out.
    pub output: u64,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not reached the provider.
    Underway,
    /// Let through.
    Started,
    /// Refused.
    Refused(Why),
}

/// A limit, as it is told apart from the others of its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitName {
    /// As people see it.
    pub text: String,
    /// What is counted.
    pub unit: String,
    /// For which models.
    pub models: String,
}

/// The budget at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Nanos,
    /// Requests in the queue.
    pub waiting: u32,
    /// Permits that are neither reported nor expired.
    pub in_flight: u32,
    /// Its limits, in the order of [`Record::limits`]; `None` for one that is not there.
    pub limits: Vec<Option<LimitSample>>,
}

/// A limit at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitSample {
    /// What feedback has taught: per minute, or at once.
    pub effective: f64,
    /// What could be granted.
    pub level: i64,
    /// Nothing is granted before then.
    pub frozen_until: Option<Nanos>,
}

/// An instant of the run as the budget's.
pub(super) fn time(at: Nanos) -> Time {
    Time::from_nanos(EPOCH + at)
}

/// An instant of the budget as the run's.
pub(super) fn nanos(time: Time) -> Nanos {
    time.as_nanos().saturating_sub(EPOCH)
}

impl Attempt {
    /// One that was let go `sent`.
    pub(super) fn new(work: usize, asked: Nanos, sent: Nanos, call: &Call) -> Self {
        let (arrived, answered, heard) = (Nanos::MAX, Nanos::MAX, Nanos::MAX);
        let (fate, needed, told) = (Fate::Underway, None, None);
        let Call { input, output, latency: service, .. } = *call;
        Self { work, asked, sent, arrived, answered, heard, service, fate, needed, told, input, output }
    }

    /// Whether it was refused with a 429 of any kind.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        matches!(self.fate, Fate::Refused(Why::Limit(_) | Why::Ramp))
    }
}

impl Sample {
    /// Whether the two differ in more than levels and counts.
    fn differs(&self, other: &Self) -> bool {
        let taught = |sample: &Self| -> Vec<_> {
            let limits = sample.limits.iter().flatten();
            limits.map(|limit| (limit.effective.to_bits(), limit.frozen_until)).collect()
        };
        taught(self) != taught(other)
    }
}

impl Record {
    /// Looks at the budget, if the last look is some time ago or `closely` is asked for.
    pub(super) fn look(&mut self, now: Nanos, budget: &mut Budget<u32>, closely: bool) {
        let due = self.samples.last().is_none_or(|last| now >= last.at + LOOK_EVERY);
        if !due && !closely {
            return;
        }
        let seen = budget.snapshot(time(now));
        let mut limits = vec![None; self.limits.len()];
        for limit in &seen.limits {
            let at = self.place_of(&limit.configured);
            limits.resize(limits.len().max(at + 1), None);
            limits[at] = Some(LimitSample {
                effective: per_minute(&limit.configured, limit.effective_amount),
                level: limit.level,
                frozen_until: limit.frozen_until.map(nanos),
            });
        }
        let sample = Sample { at: now, waiting: seen.waiting, in_flight: seen.in_flight, limits };
        if due || self.samples.last().is_none_or(|last| sample.differs(last)) {
            self.samples.push(sample);
        }
    }

    fn place_of(&mut self, spec: &LimitSpec) -> usize {
        let known = |name: &LimitName| name.unit == spec.unit && name.text == spec.to_string();
        if let Some(at) = self.limits.iter().position(known) {
            return at;
        }
        self.limits.push(LimitName {
            text: spec.to_string(),
            unit: spec.unit.clone(),
            models: spec.models.clone(),
        });
        self.limits.len() - 1
    }
}

/// An amount per window as one per minute, to be compared with the provider's; as it is where there is no window.
fn per_minute(spec: &LimitSpec, amount: u64) -> f64 {
    match spec.per {
        Some(per) => amount as f64 * MINUTE as f64 / per.as_nanos() as f64,
        None => amount as f64,
    }
}
