//! Figures of a run, each as its name in [`What`] says.

use std::ops::Range;

use super::{
    expect::{Expectation, What, unit},
    file::Scenario,
    record::{Attempt, Fate, Record, Sample},
};
use crate::provider::{Limits, Rate, account::Dimension, buckets::Nanos};

/// An effective limit is adapted to a lower true one when it is at most so much of it.
const ADAPTED: f64 = 1.1;
/// An effective limit has recovered when it is at least so much of the true one.
const RECOVERED: f64 = 0.95;

/// One run, seen with one expectation's eyes.
pub(super) struct Figures<'a> {
    scenario: &'a Scenario,
    expectation: &'a Expectation,
    record: &'a Record,
}

impl<'a> Figures<'a> {
    pub(super) fn new(scenario: &'a Scenario, expectation: &'a Expectation, record: &'a Record) -> Self {
        Self { scenario, expectation, record }
    }

    /// The figure that the expectation is about; for one that compares runs, what this run adds to the comparison.
    /// Not a number where there is nothing to tell, so also for a run that was cut short.
    pub(super) fn figure(&self) -> f64 {
        if self.record.cut_short.is_some() {
            return f64::NAN;
        }
        match self.expectation.what {
            What::Share | What::Speedup => self.work_done(),
            What::Refusals => self.refusals(),
            What::RefusalsPerSuccess => self.refusals_per_success(),
            What::Decreases => self.decreases(),
            What::AdaptationSeconds => self.adaptation_seconds(),
            What::RecoverySeconds => self.recovery_seconds(),
            What::RecoveryResponses => self.recovery_responses(),
            What::Oscillation => self.oscillation(),
            What::Effective => self.effective_part(),
            What::Slowdown => self.slowdown(),
            What::WaitSecondsMax => self.wait_seconds(100),
            What::WaitSecondsP99 => self.wait_seconds(99),
        }
    }

    fn stretch(&self) -> Range<Nanos> {
        self.expectation.from.0..self.expectation.until(self.scenario.lasts)
    }

    /// Attempts that reached the provider in the stretch, of the tenant and models asked for.
    fn attempts(&self) -> impl Iterator<Item = &'a Attempt> {
        let stretch = self.stretch();
        self.all_attempts().filter(move |attempt| stretch.contains(&attempt.arrived))
    }

    /// Attempts that reached the provider, of the tenant and models asked for.
    pub(super) fn all_attempts(&self) -> impl Iterator<Item = &'a Attempt> {
        let attempts = self.record.attempts.iter();
        attempts.filter(|attempt| attempt.fate != Fate::Underway && self.is_meant(attempt.work))
    }

    /// What an attempt takes of the dimension asked for.
    pub(super) fn amount(&self, attempt: &Attempt) -> f64 {
        let amount = match self.expectation.of {
            Dimension::Requests | Dimension::Concurrency => 1,
            Dimension::InputTokens => attempt.input,
            Dimension::OutputTokens => attempt.output,
            Dimension::Tokens => attempt.input + attempt.output,
        };
        amount as f64
    }

    /// The effective limit over the whole run, as it was seen.
    pub(super) fn believed(&self) -> Vec<(Nanos, f64)> {
        let samples = self.record.samples.iter();
        samples.filter_map(|sample| Some((sample.at, self.effective(sample)?))).collect()
    }

    /// The true limit over the whole run: its changes, and the end.
    pub(super) fn truths(&self) -> Vec<(Nanos, f64)> {
        let changes = self.scenario.pools.iter().flat_map(|pool| pool.truth.iter().map(|(at, _)| *at));
        let mut times: Vec<Nanos> = changes.chain([self.scenario.lasts]).collect();
        times.sort_unstable();
        times.dedup();
        let truth = |at: Nanos| true_limit(self.scenario, &self.expectation.models, self.expectation.of, at);
        times.into_iter().filter_map(|at| Some((at, truth(at)?))).collect()
    }

    fn is_meant(&self, work: usize) -> bool {
        let work = &self.scenario.work[work];
        self.expectation.tenant.as_ref().is_none_or(|tenant| *tenant == work.tenant)
            && work.model.starts_with(&self.expectation.models)
    }

    /// What was let through, in the dimension asked for.
    fn work_done(&self) -> f64 {
        self.attempts()
            .filter(|attempt| attempt.fate == Fate::Started)
            .map(|attempt| self.amount(attempt))
            .sum()
    }

    /// 429s.
    fn refusals(&self) -> f64 {
        self.attempts().filter(|attempt| attempt.is_limited()).count() as f64
    }

    /// 429s per call let through.
    fn refusals_per_success(&self) -> f64 {
        let started = self.attempts().filter(|attempt| attempt.fate == Fate::Started).count();
        self.refusals() / started.max(1) as f64
    }

    /// How often a limit was lowered.
    fn decreases(&self) -> f64 {
        let places: Vec<usize> = self.places().collect();
        let mut last: Vec<Option<f64>> = vec![None; places.len()];
        let mut decreases = 0_u32;
        for sample in self.record.samples.iter().take_while(|sample| sample.at < self.stretch().end) {
            for (last, place) in last.iter_mut().zip(&places) {
                let now = sample.limits.get(*place).copied().flatten().map(|limit| limit.effective);
                if let (Some(before), Some(now)) = (*last, now)
                    && now < before
                    && sample.at >= self.stretch().start
                {
                    decreases += 1;
                }
                *last = now;
            }
        }
        f64::from(decreases)
    }

    /// From the first refusal until the limit fits the new truth.
    fn adaptation_seconds(&self) -> f64 {
        let Some(refused) = self.attempts().find(|attempt| attempt.is_limited()) else { return 0.0 };
        let fits = |(at, sample): &(Nanos, &Sample)| {
            self.effective(sample).is_some_and(|effective| effective <= self.truth(*at) * ADAPTED)
        };
        let adapted = self.beliefs(refused.arrived).find(fits).map_or(self.stretch().end, |(at, _)| at);
        seconds(adapted - refused.arrived)
    }

    /// From the change until the limit is the true one, or nearly.
    fn recovery_seconds(&self) -> f64 {
        let recovered = self.recovered(RECOVERED).unwrap_or(self.stretch().end);
        seconds(recovered - self.stretch().start)
    }

    /// Responses until the limit is the true one.
    fn recovery_responses(&self) -> f64 {
        let Some(recovered) = self.recovered(1.0) else { return f64::INFINITY };
        let told =
            |attempt: &&Attempt| attempt.answered >= self.stretch().start && attempt.heard <= recovered;
        self.record.attempts.iter().filter(told).count() as f64
    }

    fn recovered(&self, part: f64) -> Option<Nanos> {
        let reached = |(at, sample): &(Nanos, &Sample)| {
            self.effective(sample).is_some_and(|effective| effective >= self.truth(*at) * part)
        };
        self.beliefs(self.stretch().start).find(reached).map(|(at, _)| at)
    }

    /// The highest less the lowest.
    fn oscillation(&self) -> f64 {
        let seen = || self.beliefs(self.stretch().start).filter_map(|(_, sample)| self.effective(sample));
        let (least, most) = (seen().fold(f64::INFINITY, f64::min), seen().fold(0.0, f64::max));
        if least > most { f64::INFINITY } else { (most - least) / self.truth(self.stretch().start) }
    }

    /// The time-average of the limit, as a part of the true one.
    fn effective_part(&self) -> f64 {
        let stretch = self.stretch();
        let (mut sum, mut time) = (0.0, 0.0);
        let beliefs: Vec<(Nanos, &Sample)> = self.beliefs(stretch.start).collect();
        for (place, (at, sample)) in beliefs.iter().enumerate() {
            let until = beliefs.get(place + 1).map_or(stretch.end, |(next, _)| *next);
            if let Some(effective) = self.effective(sample) {
                let span = seconds(until - at);
                (sum, time) = (sum + span * effective / self.truth(*at), time + span);
            }
        }
        if time > 0.0 { sum / time } else { f64::NAN }
    }

    /// What calls took at the provider, all together, by what it worked on them.
    fn slowdown(&self) -> f64 {
        let ended = self.attempts().filter(|attempt| attempt.fate == Fate::Started);
        let ended = ended.filter(|attempt| attempt.answered != Nanos::MAX);
        let (took, work) = ended.fold((0.0, 0.0), |(took, work), attempt| {
            (took + seconds(attempt.answered - attempt.arrived), work + seconds(attempt.service))
        });
        if work > 0.0 { took / work } else { f64::NAN }
    }

    /// How long calls waited for leave to go, in ascending order, in seconds.
    fn waits(&self) -> Vec<f64> {
        let stretch = self.stretch();
        let served = self.record.attempts.iter().filter(|attempt| attempt.fate == Fate::Started);
        let served = served.map(|attempt| (attempt.work, attempt.asked, attempt.sent));
        let unserved = self.record.unserved.iter().map(|(work, asked)| (*work, *asked, self.scenario.lasts));
        let mut waits: Vec<f64> = served
            .chain(unserved)
            .filter(|(work, asked, _)| self.is_meant(*work) && stretch.contains(asked))
            .map(|(_, asked, until)| seconds(until - asked))
            .collect();
        waits.sort_by(f64::total_cmp);
        waits
    }

    /// The wait that so many of a hundred calls do not exceed.
    fn wait_seconds(&self, percent: usize) -> f64 {
        let waits = self.waits();
        let last = waits.len().saturating_sub(1);
        waits.get((last * percent).div_ceil(100)).copied().unwrap_or(f64::NAN)
    }

    /// What the budget believed from then on, and since when, beginning with what it believed at that moment.
    fn beliefs(&self, from: Nanos) -> impl Iterator<Item = (Nanos, &'a Sample)> {
        let until = self.stretch().end;
        let samples = &self.record.samples;
        let first = samples.partition_point(|sample| sample.at <= from).saturating_sub(1);
        let beliefs = samples[first..].iter().map(move |sample| (sample.at.max(from), sample));
        beliefs.take_while(move |(at, _)| *at < until)
    }

    /// The limits in question, by their place in the record.
    fn places(&self) -> impl Iterator<Item = usize> {
        let unit = unit(self.expectation.of);
        let meant = move |models: &str| models.is_empty() || models.starts_with(&self.expectation.models);
        let limits = self.record.limits.iter().enumerate();
        limits.filter(move |(_, limit)| limit.unit == unit && meant(&limit.models)).map(|(at, _)| at)
    }

    /// The lowest of the effective limits in question.
    fn effective(&self, sample: &Sample) -> Option<f64> {
        let limits = self.places().filter_map(|at| sample.limits.get(at).copied().flatten());
        limits.map(|limit| limit.effective).min_by(f64::total_cmp)
    }

    fn truth(&self, at: Nanos) -> f64 {
        true_limit(self.scenario, &self.expectation.models, self.expectation.of, at).unwrap_or(f64::INFINITY)
    }
}

/// The true limit of a dimension for models that begin so: per minute, or at once. `None` where there is none.
pub(super) fn true_limit(scenario: &Scenario, models: &str, of: Dimension, at: Nanos) -> Option<f64> {
    let pool =
        scenario.pools.iter().find(|pool| models.starts_with(&pool.models) || pool.models.is_empty())?;
    let step = pool.truth.partition_point(|(from, _)| *from <= at) - 1;
    let Limits { requests, input_tokens, output_tokens, tokens, concurrency, capacity } = pool.truth[step].1;
    let rate = |rate: Option<Rate>| rate.map(|rate| rate.per_minute as f64);
    match of {
        Dimension::Requests => rate(requests),
        Dimension::InputTokens => rate(input_tokens),
        Dimension::OutputTokens => rate(output_tokens),
        Dimension::Tokens => rate(tokens),
        Dimension::Concurrency => concurrency.or(capacity).map(f64::from),
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}
