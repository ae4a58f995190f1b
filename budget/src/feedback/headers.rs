//! Limits and levels that responses tell. A limit that is told is authoritative: the lower of it and the declared one holds. What is told to
//! remain is as old as the call, so it only ever lowers a level.

use crate::{
    budget::Budget,
    glob::Glob,
    limit::{Limit, LimitSet, Source, members},
    meter::Moment,
    observed::{OBSERVED_MAX, Observed},
    outcome::Outcome,
    request::Event,
    spec::{LimitSpec, Window, bounds},
    time::Time,
    usage::IN_FLIGHT,
};

use super::{learn::Heard, pace::Pace, recent::MINUTE};

use std::time::Duration;

impl<W: Clone> Budget<W> {
    /// Takes in what a response tells. Says which limits the call touched, since there may be new ones.
    pub(crate) fn observe(&mut self, now: Time, heard: &Heard<'_>, events: &mut Vec<Event<W>>) -> LimitSet {
        if heard.report.outcome == Outcome::Cancelled || heard.report.observed.is_empty() {
            return heard.set;
        }
        let mut set = heard.set;
        for observed in heard.report.observed.iter().take(OBSERVED_MAX) {
            let limits = self.told_of(set, heard.model, observed);
            let limits = match (limits, observed.limit) {
                (0, Some(amount)) if amount > 0 => {
                    let Some(new) = self.add_told(now, observed, amount, events) else { continue };
                    set |= new & heard.model.map_or(0, |model| self.models[model].limits);
                    new
                }
                (limits, _) => limits,
            };
            for at in members(limits) {
                self.take_in(now, at, observed, heard, events);
            }
        }
        set
    }

    /// The limits of those that the call touched which a response speaks of.
    fn told_of(&self, set: LimitSet, model: Option<u32>, observed: &Observed) -> LimitSet {
        let speaks_of = |at: &usize| {
            let rule = &self.limits[*at].rule;
            *rule.spec.unit == *observed.unit
                && rule.is_providers()
                && (*rule.spec.models == *observed.models
                    || observed.models.is_empty()
                    || self.is_only(&observed.models, model))
        };
        let of_unit: Vec<usize> = members(set).filter(speaks_of).collect();
        let per =
            observed.per.or_else(|| of_unit.iter().filter_map(|at| self.limits[*at].rule.spec.per).min());
        let of_window = of_unit.into_iter().filter(|at| self.limits[*at].rule.spec.per == per);
        of_window.fold(0, |set, at| set | 1 << at)
    }

    /// Whether no model but those of the glob is in use, so that a limit of theirs is one of all.
    fn is_only(&self, models: &str, model: Option<u32>) -> bool {
        let glob = Glob::new(models);
        self.models.iter().all(|(name, entry)| entry.uses == 0 || glob.matches(name))
            && model.is_some_and(|model| glob.matches(self.models.name(model)))
    }

    fn add_told(
        &mut self,
        now: Time,
        observed: &Observed,
        amount: u64,
        events: &mut Vec<Event<W>>,
    ) -> Option<LimitSet> {
        let spec = if *observed.unit == *IN_FLIGHT {
            LimitSpec { models: observed.models.to_string(), ..LimitSpec::in_flight(amount) }
        } else {
            let per = observed.per.unwrap_or(MINUTE).clamp(bounds::PER_MIN, bounds::PER_MAX);
            LimitSpec {
                window: observed.window,
                models: observed.models.to_string(),
                ..LimitSpec::rate(&observed.unit, amount, per)
            }
        };
        if !spec.is_sound() {
            return None;
        }
        self.forget_guess(now, events);
        self.add_undeclared(now, &[spec], Source::Header, events)
    }

    /// The limit that a budget without any started with has done its work once the provider tells its own.
    fn forget_guess(&mut self, now: Time, events: &mut Vec<Event<W>>) {
        let is_guess = |limit: &Limit| limit.rule.source == Source::Learned && limit.rule.pace.is_guess();
        if self.limits.iter().any(is_guess) {
            let kept = self.limits.iter().filter(|limit| !is_guess(limit));
            let kept = kept.map(|limit| limit.anew(now)).collect();
            self.relimit(now, kept, events);
        }
    }

    /// What a response tells of one limit.
    fn take_in(
        &mut self,
        now: Time,
        at: usize,
        observed: &Observed,
        heard: &Heard<'_>,
        events: &mut Vec<Event<W>>,
    ) {
        let moment = self.moment(now);
        let limit = &mut self.limits[at];
        let mut lowered = false;
        if let Some(amount) = observed.limit.filter(|amount| *amount > 0) {
            lowered = limit.set_told(amount, moment);
        }
        if let (Window::Fixed { phase: None }, Some(reset)) = (limit.rule.spec.window, observed.reset) {
            limit.learn_phase(reset, moment);
        }
        if let Some(remaining) = observed.remaining {
            // What is rounded may have been anything up to the next step.
            let most = remaining.saturating_add(observed.rounded_to.saturating_sub(1));
            let cost = heard.cost(&limit.rule);
            limit.lower_level(most, cost, heard.granted, moment);
        }
        if lowered {
            self.refuse_impossible(events);
        }
    }
}

impl Limit {
    /// The provider says what the limit is. True if it is lower than what was thought, so that requests may have become impossible.
    fn set_told(&mut self, amount: u64, moment: Moment) -> bool {
        let rule = &mut self.rule;
        if rule.told == Some(amount) {
            return false;
        }
        let before = rule.cap();
        rule.told = Some(amount);
        if rule.source == Source::Learned {
            rule.source = Source::Header;
            rule.pace = Pace::capped(amount);
        }
        let cap = rule.cap();
        if cap != before || rule.pace.cap() != cap {
            rule.pace.set_cap(cap);
            rule.pace.told(moment.time);
            rule.measure_capacity();
            self.apply_pace(moment);
        }
        cap < before
    }

    /// The provider says when its window begins anew.
    fn learn_phase(&mut self, reset: Duration, moment: Moment) {
        self.rule.spec.window = Window::Fixed { phase: Some(moment.time + reset) };
        self.apply_pace(moment);
    }

    /// The provider says that at most `most` were left, some time between `granted`, when it may have taken in the call of `cost`, and now,
    /// when it has answered. Nobody tells when, so the one holds that leaves more: what was granted meanwhile is in our own level, and taking
    /// it off again would be quota that nobody gets.
    fn lower_level(&mut self, most: u64, cost: u64, granted: Time, moment: Moment) {
        let Self { rule, meter: Some(meter) } = self else { return };
        let history = rule.history.get_or_insert_default();
        let Some(since) = history.granted_since(granted, rule.traffic.net) else { return };
        meter.advance(moment.time);
        let refilled = if meter.is_bucket() { meter.gain_until(granted, moment.time) } else { 0 };
        let used = meter.parts(u64::try_from(since - i128::from(cost)).unwrap_or(0));
        if meter.counts_since(granted) {
            let most = meter.parts(most);
            meter.lower_to(most.max(most.saturating_add(refilled).saturating_sub(used)));
        }
    }
}
