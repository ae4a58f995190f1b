//! The reaction to each class of outcome.

use smallvec::SmallVec;

use super::{
    pace::{Collapse, Look},
    recent::{MINUTE, in_window},
    traffic::{Estimate, Stretch},
};
use crate::{
    budget::{Budget, Permit},
    limit::{Limit, LimitSet, Rule, members},
    meter::{Meter, Moment},
    outcome::{Outcome, Report},
    past::PastAnswer,
    refusal::Reason,
    request::Event,
    time::{Time, nanos},
    usage::Amounts,
};

/// An estimate that is as close to the effective amount as this says that the rate is right.
const RIGHT_PERCENT: u128 = 93;
/// A limit of which no more than this part is left may be the one that refused.
const LITTLE_PART: i128 = 4;

/// What went through tells that a limit held if it was so many bursts: the provider may hold twice as much as declared.
const HELD_BURSTS: u64 = 5;

/// Refusals within this time have the same cause.
const LATELY_NANOS: u64 = 10_000_000_000;
/// A refusal of a limit that is counted in windows says nothing, if it is the first in this time, or in a window, and the rate was right.
const SELDOM_NANOS: u64 = 60_000_000_000;
/// How long the other refusals of a burst take to be heard of.
const BURST_NANOS: u64 = 250_000_000;

/// A call whose outcome is known, and the limits that it touched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) set: LimitSet,
    pub(crate) model: Option<u32>,
    pub(crate) granted: Time,
    /// What it held, if that is known.
    pub(super) charge: Option<&'a Amounts>,
    pub(crate) report: &'a Report,
}

impl<'a> Heard<'a> {
    /// Of a permit that this report ends.
    pub(crate) fn of<W>(ended: &'a Permit<W>, set: LimitSet, report: &'a Report) -> Self {
        let (model, granted, charge) = (Some(ended.model), ended.granted, Some(&ended.charge));
        Self { set, model, granted, charge, report }
    }

    /// Of a permit that had ended by itself.
    pub(crate) fn late(set: LimitSet, model: Option<u32>, now: Time, report: &'a Report) -> Self {
        Self { set, model, granted: now, charge: None, report }
    }

    /// What it took from a limit.
    pub(crate) fn cost(&self, rule: &Rule) -> u64 {
        self.charge.map_or(0, |charge| rule.cost(charge))
    }

    /// What it took of a unit.
    pub(crate) fn units(&self, unit: &str) -> u64 {
        self.charge.map_or(0, |charge| charge.of(unit))
    }
}

impl<W: Clone> Budget<W> {
    /// What the budget makes of an outcome.
    pub(crate) fn learn(&mut self, now: Time, heard: Heard<'_>, events: &mut Vec<Event<W>>) {
        let report = heard.report;
        let heard = Heard { set: self.observe(now, &heard, events), ..heard };
        self.tally.outcomes[report.outcome.index()] += 1;
        self.react(now, heard, events);
        if report.outcome.is_refusal() {
            self.remember_answer(now, &heard);
        }
    }

    fn react(&mut self, now: Time, heard: Heard<'_>, events: &mut Vec<Event<W>>) {
        let report = heard.report;
        match report.outcome {
            Outcome::Success => {
                self.feedback.admissions.let_in(heard.granted, now);
                self.feedback.gate.succeed(heard.granted);
                for at in members(heard.set) {
                    self.limits[at].rule.gate.succeed(heard.granted);
                }
                self.grow(now, &heard);
                self.follow_latency(now, &heard);
            }
            // The provider let it in.
            Outcome::Failed { .. } | Outcome::TooLarge => self.grow(now, &heard),
            Outcome::RateLimited => self.rate_refused(now, heard, events),
            Outcome::AccelerationLimited => self.steepness_refused(now, heard, events),
            Outcome::ConcurrencyLimited => self.slots_refused(now, heard, events),
            Outcome::Overloaded => {
                self.feedback.admissions.turned_away(now);
                let (given, times) = (report.retry_after, (heard.granted, now));
                if given.is_some() || !self.feedback.admissions.are_enough() {
                    self.feedback.gate.refuse(given, true, times, &mut self.feedback.jitter);
                }
            }
            Outcome::QuotaExhausted => {
                self.feedback.exhaust(report.retry_after, now);
                let until = self.feedback.exhausted(now).flatten();
                self.refuse_waiting(Reason::QuotaExhausted, until.map(|until| until.since(now)), events);
            }
            Outcome::Cancelled => {}
        }
    }

    /// For whoever asks later what the provider refused, and what came of it.
    fn remember_answer(&mut self, now: Time, heard: &Heard<'_>) {
        let Self { limits, models, feedback, provider_refusals, .. } = self;
        let model = heard.model.map_or("", |model| models.name(model));
        let frozen = || limits.iter().filter_map(|limit| Some((limit, limit.rule.gate.frozen(now)?)));
        let froze: Vec<String> = frozen().map(|(limit, _)| limit.rule.spec.to_string()).collect();
        let frozen_until = frozen().map(|(_, until)| until).chain(feedback.gate.frozen(now)).max();
        let Report { outcome, retry_after, .. } = *heard.report;
        let is_same = |known: &PastAnswer| {
            (known.outcome, known.model.as_str()) == (outcome, model) && known.froze == froze
        };
        let again =
            |known: &mut PastAnswer| (known.retry_after, known.frozen_until) = (retry_after, frozen_until);
        let new = || PastAnswer {
            outcome,
            model: model.to_owned(),
            retry_after,
            froze: froze.clone(),
            frozen_until,
        };
        provider_refusals.note(now, is_same, again, new);
    }

    /// Nothing was refused: limits that refusals lowered may grow.
    fn grow(&mut self, now: Time, heard: &Heard<'_>) {
        let moment = self.moment(now);
        for at in members(heard.set) {
            self.limits[at].rule.pace.hear_after(now.nanos_since(heard.granted));
            self.limits[at].grow(moment, heard.granted);
        }
    }

    /// Freezes the rates that a refusal is about, and lowers those that explain it.
    fn rate_refused(&mut self, now: Time, heard: Heard<'_>, events: &mut Vec<Event<W>>) {
        let Some(tripped) = self.tripped(now, &heard, events) else { return };
        let suspects = self.suspects(now, tripped);
        let overdrawn = self.feedback.admissions.seem_to_count(now);
        let moment = self.moment(now);
        let Self { limits, feedback, .. } = self;
        for at in members(tripped) {
            let rule = &mut limits[at].rule;
            let news = rule.gate.is_news(heard.granted);
            let (given, times) = (heard.report.retry_after, (heard.granted, now));
            rule.gate.refuse(given, false, times, &mut feedback.jitter);
            if !suspects.contains(&at) {
                continue;
            }
            let cost = heard.cost(rule);
            rule.traffic.uncount(heard.granted, cost);
            if news {
                limits[at].refused(cost, overdrawn, moment);
                feedback.look_back_at = feedback.look_back_at.min(now.plus_nanos(BURST_NANOS));
            }
        }
    }

    /// A moment after a refusal, when the others of its burst have been heard of too.
    pub(crate) fn look_back(&mut self, now: Time) {
        let moment = self.moment(now);
        self.feedback.look_back_at = Time::MAX;
        self.limits.iter_mut().for_each(|limit| limit.look_back(moment));
    }

    /// Freezes the rates that a refusal of too steep a growth is about, and goes back to what went through of late.
    fn steepness_refused(&mut self, now: Time, heard: Heard<'_>, events: &mut Vec<Event<W>>) {
        let Some(tripped) = self.tripped(now, &heard, events) else { return };
        let moment = self.moment(now);
        let Self { limits, feedback, .. } = self;
        for at in members(tripped) {
            let rule = &mut limits[at].rule;
            let news = rule.gate.is_news(heard.granted);
            let (given, times) = (heard.report.retry_after, (heard.granted, now));
            rule.gate.refuse(given, false, times, &mut feedback.jitter);
            if news && rule.is_providers() && !rule.was_refused_lately(now) {
                let last = std::mem::replace(&mut rule.refused_at, now);
                // After a pause, what went through since; else what goes through in a minute.
                let since_pause = rule.traffic.refused(0, now).filter(|stretch| stretch.was_full);
                let per_minute = since_pause.map_or_else(
                    || feedback.recent.per_minute(&rule.spec.unit),
                    |stretch| Some(stretch.carried()),
                );
                let of_late = per_minute.map(|units| in_window(units, rule.spec.per.unwrap_or(MINUTE)));
                rule.pace.soften(of_late, last, &rule.traffic, now);
                limits[at].apply_pace(moment);
                let cost = heard.cost(&limits[at].rule);
                limits[at].drain(cost, now);
            }
        }
    }

    /// The rate limits that a refusal is about: those that it names, else all that the permit touched. One that it names and that
    /// nobody declared is learned. `None` if there is no room for another limit.
    fn tripped(&mut self, now: Time, heard: &Heard<'_>, events: &mut Vec<Event<W>>) -> Option<LimitSet> {
        let rates = self.rates(heard.set);
        if heard.report.tripped.is_empty() && rates != 0 {
            return Some(rates);
        }
        let named = members(rates).filter(|at| {
            let spec = &self.limits[*at].rule.spec;
            let names = |per: Option<_>| per.is_none() || per == spec.per;
            heard.report.tripped.iter().any(|tripped| *tripped.unit == *spec.unit && names(tripped.per))
        });
        match named.fold(0, |set, at| set | 1 << at) {
            0 => self.learn_rate(now, heard, events),
            named => Some(named),
        }
    }

    /// Of these limits, those that are nearly used up; if none is, the one that is nearest to it.
    fn suspects(&mut self, now: Time, set: LimitSet) -> SmallVec<[usize; 4]> {
        // What is left of each, in thousandths of its capacity.
        let mut left: SmallVec<[(usize, i128); 4]> = SmallVec::new();
        for at in members(set) {
            let Limit { rule, meter: Some(meter) } = &mut self.limits[at] else { continue };
            if !rule.is_providers() {
                continue;
            }
            meter.advance(now);
            let free = meter.available() - meter.parts(rule.cushion.units());
            left.push((at, free.saturating_mul(1_000) / meter.capacity().max(1)));
        }
        let least = left.iter().map(|(_, free)| *free).min().unwrap_or(0).max(1_000 / LITTLE_PART);
        left.into_iter().filter(|(_, free)| *free <= least).map(|(at, _)| at).collect()
    }

    /// Lowers the bound on calls in flight to what the provider carries.
    fn slots_refused(&mut self, now: Time, heard: Heard<'_>, events: &mut Vec<Event<W>>) {
        let slots = |budget: &Self| {
            members(heard.set).find(|at| {
                let rule = &budget.limits[*at].rule;
                !rule.is_rate() && rule.is_providers()
            })
        };
        let Some(at) = slots(self).or_else(|| self.learn_slots(now, events)) else { return };
        let moment = self.moment(now);
        let Self { limits, feedback, .. } = self;
        let Limit { rule, meter: Some(meter) } = &mut limits[at] else { return };
        let news = rule.gate.is_news(heard.granted);
        let used = u64::try_from(meter.capacity() - meter.available()).unwrap_or(0);
        let given = heard.report.retry_after;
        let (wait_nanos, before) = (given.map_or(0, nanos), rule.pace.amount());
        if news {
            // One less even if that is what ran: something of ours ended later for the provider than for us.
            rule.traffic.carry(used, now);
            rule.pace.carry(used.min(before - 1).max(1), wait_nanos, &rule.traffic, now);
        } else {
            rule.traffic.uncount(heard.granted, 1);
            let carried = rule.traffic.latest_stretch().map_or(used, Stretch::carried);
            rule.pace.carry_less(carried.max(1));
        }
        // With one at a time there is nothing left but to wait.
        let given = given.or(if rule.pace.amount() > 1 { Some(std::time::Duration::ZERO) } else { None });
        rule.gate.refuse(given, false, (heard.granted, now), &mut feedback.jitter);
        limits[at].apply_pace(moment);
    }

    pub(crate) fn rates(&self, set: LimitSet) -> LimitSet {
        members(set).filter(|at| self.limits[*at].rule.is_rate()).fold(0, |set, at| set | 1 << at)
    }
}

impl Limit {
    /// The provider refused calls for this limit, which allowed them: one event. `overdrawn` if what was given back counted after all: that
    /// says nothing of the rate.
    fn refused(&mut self, cost: u64, overdrawn: bool, moment: Moment) {
        let now = moment.time;
        let Self { rule, meter: Some(meter) } = self else { return };
        meter.advance(now);
        let at_least = rule.traffic.at_least(now, rule.per_nanos());
        let stretch = rule.traffic.refused(cost, now);
        let explained = overdrawn || rule.explains(meter, stretch, cost, now);
        let again = rule.was_refused_lately(now);
        rule.refused_at = now;
        rule.pace.pay(&rule.traffic);
        if !explained {
            // Over a pause less may have gone through than could have.
            let half = rule.pace.amount() / 2;
            let at_least = at_least.filter(|estimate| estimate.amount >= half);
            let estimate = rule.estimate(meter, stretch).or(at_least);
            if let (None, true, Some(stretch)) = (estimate, again, stretch)
                && stretch.less_than(cost, rule.per_nanos()) < u128::from(half)
            {
                // Soon again, and no rate explains it.
                rule.learn_burst(meter, stretch, now);
            }
            let wait_nanos = rule.gate.frozen(now).map_or(0, |until| until.nanos_since(now));
            rule.pace.collapse(Collapse { estimate, wait_nanos }, &rule.traffic, now);
        }
        self.apply_pace(moment);
        self.drain(cost, now);
    }

    /// The other refusals of the same burst have been heard: the provider let through even less.
    fn look_back(&mut self, moment: Moment) {
        let Self { rule, meter: Some(meter) } = self else { return };
        let Some(stretch) = rule.traffic.latest_stretch().filter(|_| rule.is_rate()) else { return };
        let mut less = stretch.was_full && rule.learn_burst(meter, stretch, moment.time);
        if let Some(estimate) = rule.estimate(meter, Some(stretch)) {
            less |= rule.pace.collapse_more(estimate);
        }
        if less {
            self.apply_pace(moment);
        }
    }

    /// The provider has just said that nothing is left. No more is taken for gone than what comes back in a minute, in whole units, or one
    /// refusal could cost a day; and when the wait is over, there is enough for the call that it was for.
    fn drain(&mut self, cost: u64, now: Time) {
        let Self { rule, meter: Some(meter) } = self else { return };
        let kept_back = rule.cushion.units();
        let call = meter.parts(cost.saturating_add(kept_back));
        let until_thawed = rule.gate.frozen(now).map_or(0, |until| meter.gain_until(now, until));
        let a_minute = meter.parts_in(MINUTE.as_nanos());
        let a_minute_less = meter.available() - (a_minute - a_minute % meter.parts(1).max(1));
        meter.lower_to(meter.parts(kept_back).max(call - until_thawed).max(a_minute_less));
    }

    fn grow(&mut self, moment: Moment, granted: Time) {
        let Self { rule, meter: Some(meter) } = self else { return };
        let more = rule.burst.grow(moment.time);
        if rule.pace.is_settled() && !more {
            return;
        }
        meter.advance(moment.time);
        // What slots are used for is not counted in time. Where latency allows less than refusals do, that is what is full.
        let is_lower = rule.amount() < rule.pace.amount();
        let full =
            !rule.is_rate() && !is_lower && meter.available().saturating_mul(LITTLE_PART) < meter.capacity();
        let (per_nanos, capacity) = (rule.per_nanos(), meter.capacity_units());
        let look = Look { per_nanos, capacity, full, granted, now: moment.time };
        if rule.pace.look(&rule.traffic, &look) || more {
            self.apply_pace(moment);
        }
    }

    /// Brings the meter to the effective amount.
    pub(crate) fn apply_pace(&mut self, moment: Moment) {
        let Self { rule, meter: Some(meter) } = self else { return };
        meter.advance(moment.time);
        let mut changed = rule.effective_meter(moment.time);
        changed.take_over(meter, moment);
        *meter = changed;
    }
}

impl Rule {
    /// Whether calls that overtook each other explain a refusal: what went through until then speaks for the rate. Twice within
    /// seconds is no accident. A provider that was full and let through less than our bucket holds less of a burst than we thought.
    fn explains(&mut self, meter: &Meter, stretch: Option<Stretch>, cost: u64, now: Time) -> bool {
        let Some(stretch) = stretch.filter(|_| self.is_rate()) else { return false };
        if stretch.was_full && self.learn_burst(meter, stretch, now) || self.was_refused_lately(now) {
            return false;
        }
        let (paced, is_beyond) = (u128::from(self.pace.amount()), self.pace.is_beyond());
        let is_right = |amount: u128| amount * 100 >= paced * RIGHT_PERCENT;
        let estimate = self.estimate(meter, Some(stretch));
        let is_long = stretch.carried() / HELD_BURSTS >= meter.capacity_units();
        if is_long && estimate.is_some_and(|estimate| is_right(estimate.amount.into())) {
            self.pace.hold();
        }
        let right = match (estimate, meter.window_nanos()) {
            (Some(estimate), _) => !is_beyond && is_right(estimate.amount.into()),
            (None, None) => stretch.was_full,
            // What went through in less than a window is a part of it.
            (None, Some(window)) => {
                stretch.was_full
                    && stretch.nanos() >= window
                    && is_right(stretch.less_than(0, self.per_nanos()))
            }
        };
        // Of a window, a cushion costs its part of the rate: only where it happens often is that less than the freeze.
        let seldom = meter.window_nanos().map(|window| SELDOM_NANOS.max(window));
        let is_seldom = seldom.is_some_and(|seldom| !self.was_refused_within(seldom, now));
        let rate = (self.pace.amount(), self.per_nanos());
        right && (is_seldom || self.cushion.widen(cost, rate, meter.capacity_units(), now))
    }

    fn was_refused_lately(&self, now: Time) -> bool {
        self.was_refused_within(LATELY_NANOS, now)
    }

    fn was_refused_within(&self, nanos: u64, now: Time) -> bool {
        self.refused_at > Time::ZERO && now.nanos_since(self.refused_at) < nanos
    }

    /// The provider was full, and let through less than a full bucket of ours. False if that is nothing new.
    fn learn_burst(&mut self, meter: &Meter, stretch: Stretch, now: Time) -> bool {
        meter.is_bucket() && self.burst.learn(stretch.carried(), meter.capacity_units(), now)
    }

    /// The provider's rate, as far as this stretch tells it.
    fn estimate(&self, meter: &Meter, stretch: Option<Stretch>) -> Option<Estimate> {
        stretch?.estimate(self.per_nanos(), meter.capacity_units())
    }

    /// Whether it is the provider's own limit, which its refusals speak of, and not a share that an administrator gives to tenants.
    pub(crate) fn is_providers(&self) -> bool {
        self.spec.tenants.is_empty()
    }
}
