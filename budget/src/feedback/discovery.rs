//! Limits that nobody declared: guessed where there are none at all, and learned from the first refusal that speaks of one.

use smallvec::SmallVec;

use super::{
    learn::Heard,
    pace::Pace,
    recent::{MINUTE, in_window},
    traffic::Traffic,
};
use crate::{
    budget::Budget,
    limit::{Limit, LimitSet, Source},
    observed::Tripped,
    request::Event,
    spec::{LimitSpec, bounds},
    time::Time,
    usage::{IN_FLIGHT, REQUESTS},
};

/// Limits of one budget that nobody declared.
pub(crate) const UNDECLARED_MAX: usize = 16;
/// What a budget without any limit starts with, a minute, and at once: it doubles until the first refusal.
const START: u64 = 60;
const START_BURST: u64 = 10;

impl<W: Clone> Budget<W> {
    /// The limit that a budget starts with when nobody has declared any: it rises until the provider refuses or tells.
    pub(crate) fn unknown_limit(now: Time) -> Limit {
        let spec = LimitSpec { burst: START_BURST, ..LimitSpec::rate(REQUESTS, START, MINUTE) };
        let mut limit = Limit::of(&spec, Source::Learned, now);
        limit.rule.pace = Pace::unknown(START, true, &limit.rule.traffic, now);
        limit
    }

    /// The provider refused for a rate that nobody declared. From now on it is a limit, of about what went through in the last minute.
    /// `None` if there is no room for another.
    pub(crate) fn learn_rate(
        &mut self,
        now: Time,
        heard: &Heard<'_>,
        events: &mut Vec<Event<W>>,
    ) -> Option<LimitSet> {
        let requests = [Tripped { unit: REQUESTS.into(), per: None }];
        let tripped = if heard.report.tripped.is_empty() { &requests[..] } else { &heard.report.tripped };
        let mut learned = SmallVec::<[LimitSpec; 2]>::new();
        // No other model's: it may have one of its own.
        let model = heard.model.map_or("", |model| self.models.name(model)).to_owned();
        for Tripped { unit, per } in tripped.iter().take(UNDECLARED_MAX) {
            let per = per.unwrap_or(MINUTE).clamp(bounds::PER_MIN, bounds::PER_MAX);
            let call = heard.units(unit).max(1);
            let recently = self.feedback.recent.per_minute(unit).unwrap_or(0).max(call.saturating_mul(START));
            let amount = in_window(recently, per).max(1);
            let models = model.clone();
            let spec = LimitSpec { models, ..LimitSpec::rate(unit, amount, per) };
            if **unit != *IN_FLIGHT && spec.is_sound() {
                learned.push(spec);
            }
        }
        let set = self.add_undeclared(now, &learned, Source::Learned, events)?;
        for at in crate::limit::members(set) {
            let rule = &mut self.limits[at].rule;
            rule.traffic = Traffic::of_empty(now);
            rule.pace = Pace::unknown(rule.spec.amount, false, &rule.traffic, now);
        }
        Some(set)
    }

    /// The provider refused for too many calls at once, and nobody declared how many there may be.
    pub(crate) fn learn_slots(&mut self, now: Time, events: &mut Vec<Event<W>>) -> Option<usize> {
        let running = u64::from(self.in_flight()).saturating_add(1);
        let set = self.add_undeclared(now, &[LimitSpec::in_flight(running)], Source::Learned, events)?;
        let at = crate::limit::members(set).next()?;
        let rule = &mut self.limits[at].rule;
        rule.pace = Pace::unknown(running, false, &rule.traffic, now);
        Some(at)
    }

    /// Adds limits that nobody declared, full less what is in flight. The set of them; `None` if nothing was added.
    pub(crate) fn add_undeclared(
        &mut self,
        now: Time,
        specs: &[LimitSpec],
        source: Source,
        events: &mut Vec<Event<W>>,
    ) -> Option<LimitSet> {
        let undeclared = self.limits.iter().filter(|limit| limit.rule.source != Source::Declared).count();
        let room = (UNDECLARED_MAX - undeclared.min(UNDECLARED_MAX)).min(bounds::LIMITS - self.limits.len());
        let specs = &specs[..specs.len().min(room)];
        if specs.is_empty() {
            return None;
        }
        let mut limits: Vec<Limit> = self.limits.iter().map(|limit| limit.anew(now)).collect();
        let first = limits.len();
        limits.extend(specs.iter().map(|spec| Limit::of(spec, source, now)));
        let set = (first..limits.len()).fold(0, |set, at| set | 1 << at);
        self.relimit(now, limits, events);
        Some(set)
    }
}
