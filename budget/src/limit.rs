//! One limit of a budget: what it bounds, for whom, how much is left, and for how long it is frozen.

use std::fmt;

use crate::{
    feedback::{Burst, Cushion, Gate, Gradient, History, Lesson, Pace, Traffic},
    glob::Glob,
    meter::{Escrow, Meter, Moment},
    saved::Strangers,
    spec::{Adapt, LimitSpec, Window},
    tally::LimitTally,
    time::{Time, nanos},
    usage::{self, Amounts},
};

/// A set of limits, one bit each, in the order of the budget.
pub(crate) type LimitSet = u128;

/// The members of a set, ascending.
pub(crate) fn members(mut set: LimitSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let at = set.trailing_zeros() as usize;
            set &= set - 1;
            at
        })
    })
}

/// Fair queueing measures service in seconds of the bottleneck limit. A tick is 2^-10 ns of it, so that one token at a thousand
/// million a second still counts.
pub(crate) type Ticks = u128;

pub(crate) const TICKS_PER_NANO_BITS: u32 = 10;

#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) rule: Rule,
    /// What is left for all who share it; `None` if every tenant has a meter of its own.
    pub(crate) meter: Option<Meter>,
}

/// Everything about a limit but what is left of it.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) spec: LimitSpec,
    unit: Unit,
    models: Glob,
    tenants: Glob,
    pub(crate) source: Source,
    /// What the provider's headers say the limit is.
    pub(crate) told: Option<u64>,
    pub(crate) gate: Gate,
    pub(crate) pace: Pace,
    /// Where the limit follows how long calls take; the lower of it and the pace is granted.
    pub(crate) gradient: Option<Box<Gradient>>,
    pub(crate) cushion: Cushion,
    pub(crate) burst: Burst,
    /// When the provider last refused for it; zero if it never did.
    pub(crate) refused_at: Time,
    pub(crate) traffic: Traffic,
    pub(crate) tally: LimitTally,
    /// Kept once headers have told what remains.
    pub(crate) history: Option<Box<History>>,
    /// What requests ahead in the order keep others from; good within one dispatch.
    pub(crate) reserved: Reserved,
    /// What a tenant that was not known may take before the next write.
    pub(crate) fresh: Escrow,
    /// What such tenants may have taken before a crash.
    pub(crate) strangers: Option<Strangers>,
    /// The most that can ever be granted at once.
    pub(crate) capacity: u64,
    /// Service that one unit is worth.
    ticks_per_unit: Ratio,
}

/// Who says that there is such a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Somebody declared it.
    Declared,
    /// The provider's headers tell of it.
    Header,
    /// Refusals taught it, or the absence of any limit.
    Learned,
}

/// What requests that wait keep of a limit until they can go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reserved {
    /// Parts that have to be there now. The rest of what they need comes back by itself until they go, and so what they leave to others
    /// is the same at every moment until then.
    pub(crate) now: i128,
    /// Parts that they will have taken once they have gone.
    pub(crate) then: i128,
    /// When they can go, as far as that is known.
    pub(crate) until: Time,
}

/// A unit, resolved once instead of compared by name for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unit {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
    InFlight,
    Other(Box<str>),
}

impl Limit {
    /// One that starts full.
    pub(crate) fn of(spec: &LimitSpec, source: Source, now: Time) -> Self {
        let mut rule = Rule::new(spec, source);
        if spec.adapt == Adapt::Latency {
            rule.gradient = Some(Box::new(Gradient::start(spec.amount, now)));
        }
        let meter = (spec.tenants != EACH).then(|| rule.effective_meter(now));
        Self { rule, meter }
    }

    /// One that somebody declared.
    pub(crate) fn declared(spec: &LimitSpec, now: Time) -> Self {
        Self::of(spec, Source::Declared, now)
    }

    /// The same limit as if it were new, to take over from this one.
    pub(crate) fn anew(&self, now: Time) -> Self {
        Self::of(&self.rule.spec, self.rule.source, now)
    }

    /// Takes over from the same limit before it was changed.
    pub(crate) fn take_over(&mut self, old: Limit, moment: Moment) {
        (self.rule.fresh, self.rule.strangers) = (old.rule.fresh, old.rule.strangers);
        let Rule {
            spec,
            source,
            told,
            gate,
            pace,
            gradient,
            cushion,
            burst,
            refused_at,
            traffic,
            tally,
            history,
            ..
        } = old.rule;
        let rule = &mut self.rule;
        (rule.told, rule.gate, rule.cushion, rule.burst) = (told, gate, cushion, burst);
        (rule.refused_at, rule.traffic, rule.tally, rule.history) = (refused_at, traffic, tally, history);
        if source == Source::Header {
            // What was told stands beside what is declared now.
            rule.told = rule.told.or(Some(spec.amount));
        }
        // One that nobody says any more has to be found out anew.
        if rule.cap() != u64::MAX || pace.cap() == u64::MAX {
            rule.pace = pace;
        }
        if rule.cap() != rule.pace.cap() {
            rule.pace.set_cap(rule.cap());
        }
        if let (Some(new), Some(mut old)) = (&mut rule.gradient, gradient) {
            old.set_cap(rule.spec.amount);
            *new = old;
        }
        rule.measure_capacity();
        if let (Some(new), Some(mut old)) = (&mut self.meter, old.meter) {
            old.advance(moment.time);
            *new = rule.effective_meter(moment.time);
            new.take_over(&mut old, moment);
        }
    }

    /// Whether every tenant has a meter of its own.
    pub(crate) fn is_each(&self) -> bool {
        self.meter.is_none()
    }

    /// Whether it bounds tenants one by one, so that whoever it holds back holds up nobody else.
    pub(crate) fn is_own(&self) -> bool {
        self.is_each() || self.rule.tenants.is_one_name()
    }

    pub(crate) fn matches_model(&self, model: &str) -> bool {
        self.rule.models.matches(model)
    }

    pub(crate) fn matches_tenant(&self, tenant: &str) -> bool {
        self.rule.tenants.matches(tenant)
    }
}

impl Rule {
    fn new(spec: &LimitSpec, source: Source) -> Self {
        let tenants = if spec.tenants == EACH { "" } else { &spec.tenants };
        let per = spec.per.map_or(0, nanos);
        Self {
            unit: Unit::named(&spec.unit),
            models: Glob::new(&spec.models),
            tenants: Glob::new(tenants),
            source,
            told: None,
            gate: Gate::default(),
            pace: Pace::capped(spec.amount),
            gradient: None,
            cushion: Cushion::default(),
            burst: Burst::default(),
            refused_at: Time::ZERO,
            traffic: Traffic::default(),
            tally: LimitTally::default(),
            history: None,
            reserved: Reserved::default(),
            fresh: Escrow::default(),
            strangers: None,
            capacity: match source {
                Source::Learned => u64::MAX,
                _ => Meter::new(spec, Time::ZERO).capacity_units(),
            },
            ticks_per_unit: Ratio::new(u128::from(per) << TICKS_PER_NANO_BITS, spec.amount),
            spec: spec.clone(),
        }
    }

    pub(crate) fn is_rate(&self) -> bool {
        self.unit != Unit::InFlight
    }

    /// What a permit takes from this limit.
    pub(crate) fn cost(&self, amounts: &Amounts) -> u64 {
        match &self.unit {
            Unit::Requests => amounts.requests,
            Unit::Tokens => amounts.tokens,
            Unit::InputTokens => amounts.input_tokens,
            Unit::OutputTokens => amounts.output_tokens,
            Unit::InFlight => 1,
            Unit::Other(name) => amounts.of(name),
        }
    }

    /// Parts that so much service (nanoseconds of the limit as it was declared) takes.
    pub(crate) fn parts_in(&self, meter: &Meter, service_nanos: u128) -> i128 {
        if !self.is_rate() {
            return 0;
        }
        let per = if meter.is_bucket() { 1 } else { self.per_nanos() };
        let parts = service_nanos.saturating_mul(u128::from(self.spec.amount)) / u128::from(per.max(1));
        i128::try_from(parts).unwrap_or(i128::MAX / 2)
    }

    /// How much of the limit's time `cost` is worth.
    #[inline]
    pub(crate) fn ticks(&self, cost: u64) -> Ticks {
        self.ticks_per_unit.of(self.weighed(cost))
    }

    /// As much of `cost` as counts between those who share the limit: a call takes a full meter at the most, and a debt of one window, so
    /// a report of more puts nobody further back than that.
    #[inline]
    pub(crate) fn weighed(&self, cost: u64) -> u64 {
        let amount = self.pace.amount().max(self.spec.amount);
        cost.min(amount.saturating_mul(2).saturating_add(self.spec.burst))
    }

    /// The same as time, however slowly the limit is granted now.
    pub(crate) fn worth_most_nanos(&self) -> u128 {
        let burst = u128::from(burst_of(&self.spec)) * u128::from(self.per_nanos())
            / u128::from(self.spec.amount.max(1));
        burst + 2 * u128::from(self.per_nanos())
    }

    /// What the administrator and the provider's headers allow; `u64::MAX` if neither says anything.
    pub(crate) fn cap(&self) -> u64 {
        let declared = if self.source == Source::Declared { self.spec.amount } else { u64::MAX };
        declared.min(self.told.unwrap_or(u64::MAX))
    }

    /// What is granted of it: the lowest of what is configured and what was learned.
    pub(crate) fn amount(&self) -> u64 {
        let by_latency = self.gradient.as_ref().map_or(u64::MAX, |gradient| gradient.limit());
        self.pace.amount().min(by_latency)
    }

    /// What taught the amount; `None` where all that is configured is granted.
    pub(crate) fn lesson(&self) -> Option<Lesson> {
        let lower = self.gradient.as_ref().filter(|gradient| gradient.limit() < self.pace.amount());
        lower.map(|gradient| gradient.lesson()).or_else(|| self.pace.lesson())
    }

    /// Nanoseconds of its window; 0 for limits in flight.
    pub(crate) fn per_nanos(&self) -> u64 {
        self.spec.per.map_or(0, nanos)
    }

    /// A full meter of the effective amount.
    pub(crate) fn effective_meter(&self, now: Time) -> Meter {
        let amount = self.amount();
        if amount == self.spec.amount && self.burst.units() == u64::MAX {
            return Meter::new(&self.spec, now);
        }
        let mut spec = self.spec_of(amount);
        if spec.window == Window::Bucket && self.is_rate() {
            spec.burst = burst_of(&spec).min(self.burst.units());
        }
        Meter::new(&spec, now).with_debt_of(self.spec.amount)
    }

    /// Units that are kept back of a burst.
    pub(crate) fn kept_back(&self) -> u64 {
        burst_of(&self.spec_of(self.amount()))
            .saturating_sub(self.burst.units())
            .saturating_add(self.cushion.units())
    }

    /// What can ever be granted at once is for those with authority to say; what refusals teach may pass.
    pub(crate) fn measure_capacity(&mut self) {
        self.capacity = match self.cap() {
            u64::MAX => u64::MAX,
            cap => Meter::new(&self.spec_of(cap), Time::ZERO).capacity_units(),
        };
    }

    /// A permit takes `cost`, besides what the meter takes.
    #[inline]
    pub(crate) fn note_grant(&mut self, meter: &Meter, cost: u64, now: Time) {
        self.gate.pass();
        self.tally.charge(cost);
        if let Some(history) = &mut self.history {
            history.note(self.traffic.net, now);
        }
        let (cushion, amount, per) = (self.cushion.units(), self.amount(), self.per_nanos());
        let refill = || {
            let burst = u128::from(meter.capacity_units().saturating_sub(cushion).max(1));
            u64::try_from(burst * u128::from(per) / u128::from(amount.max(1))).unwrap_or(u64::MAX)
        };
        self.traffic.grant(cost, refill, self.gate.thawed(), now);
    }

    /// The limit as its authority has it. Where there is none, as it is now.
    pub(crate) fn configured(&self) -> LimitSpec {
        if self.cap() == u64::MAX { self.spec_of(self.pace.amount()) } else { self.spec.clone() }
    }

    /// The limit, had it this amount; the burst is in proportion.
    fn spec_of(&self, amount: u64) -> LimitSpec {
        let burst = u128::from(self.spec.burst) * u128::from(amount) / u128::from(self.spec.amount);
        let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(u64::from(self.spec.burst > 0));
        LimitSpec { amount, burst, ..self.spec.clone() }
    }

    /// Parts that have to be there before `cost` is granted: the cost and the cushion, but never more than a full meter, so that the
    /// cushion blocks nothing that is admissible alone. Nor does an effective limit that is lower than the declared one: what is larger than
    /// a full meter goes when it is full, and leaves a debt.
    pub(crate) fn need(&self, meter: &Meter, cost: u64) -> i128 {
        let need = meter.parts(cost);
        if cost > self.capacity {
            return need;
        }
        (need + meter.parts(self.cushion.units())).min(meter.capacity())
    }
}

/// A ratio as 64 significant bits and a power of two, so that applying it takes one multiplication and no division.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    bits: u64,
    /// Bits of `bits` behind the point; negative: zeros that are missing at its end.
    fraction: i32,
}

impl Ratio {
    fn new(numerator: u128, denominator: u64) -> Self {
        let spare = numerator.leading_zeros().min(127);
        let ratio = (numerator << spare) / u128::from(denominator);
        let excess = 64_u32.saturating_sub(ratio.leading_zeros());
        Self { bits: (ratio >> excess) as u64, fraction: spare as i32 - excess as i32 }
    }

    fn of(self, amount: u64) -> u128 {
        let product = u128::from(self.bits) * u128::from(amount);
        match u32::try_from(self.fraction) {
            Ok(fraction) => product.checked_shr(fraction).unwrap_or(0),
            Err(_) => product.saturating_mul(1 << (-self.fraction).min(127)),
        }
    }
}

/// The burst of a token bucket.
fn burst_of(spec: &LimitSpec) -> u64 {
    if spec.burst == 0 { spec.amount } else { spec.burst }
}

/// The tenant glob of a limit that every tenant has for itself.
pub const EACH: &str = "each";

impl Unit {
    fn named(name: &str) -> Self {
        match name {
            usage::REQUESTS => Self::Requests,
            usage::TOKENS => Self::Tokens,
            usage::INPUT_TOKENS => Self::InputTokens,
            usage::OUTPUT_TOKENS => Self::OutputTokens,
            usage::IN_FLIGHT => Self::InFlight,
            other => Self::Other(other.into()),
        }
    }
}

/// As people see it: `input_tokens/1m model=claude-* tenant=each`, `in_flight`.
impl fmt::Display for LimitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.unit)?;
        if let Some(per) = self.per {
            f.write_str("/")?;
            write_span(f, nanos(per))?;
        }
        if !self.models.is_empty() {
            write!(f, " model={}", self.models)?;
        }
        if !self.tenants.is_empty() {
            write!(f, " tenant={}", self.tenants)?;
        }
        Ok(())
    }
}

/// The largest unit that divides the span: `1m`, `90s`, `500ms`.
fn write_span(f: &mut fmt::Formatter<'_>, nanos: u64) -> fmt::Result {
    const UNITS: [(u64, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let (length, name) =
        UNITS.iter().find(|(length, _)| nanos.is_multiple_of(*length)).expect("1 divides everything");
    write!(f, "{}{name}", nanos / length)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: a limit is named the way SEMANTICS says.
    #[test]
    fn is_named_by_unit_and_window() {
        let minute = LimitSpec::rate("input_tokens", 5, Duration::from_secs(60));
        assert_eq!(minute.to_string(), "input_tokens/1m");
        assert_eq!(LimitSpec::in_flight(5).to_string(), "in_flight");
        let opus = LimitSpec { models: "claude-opus-*".into(), tenants: "each".into(), ..minute };
        assert_eq!(opus.to_string(), "input_tokens/1m model=claude-opus-* tenant=each");
        let odd = LimitSpec::rate("requests", 5, Duration::from_millis(1500));
        assert_eq!(odd.to_string(), "requests/1500ms");
    }

    /// Goal: service is measured alike from one a year to the largest rates.
    #[test]
    fn service_is_cost_over_rate() {
        let rule = |amount, per| Rule::new(&LimitSpec::rate("requests", amount, per), Source::Declared);
        let ticks = |amount, per, cost| rule(amount, per).ticks_per_unit.of(cost);
        let second = 1_000_000_000_u128 << TICKS_PER_NANO_BITS;
        let day = Duration::from_secs(86_400);
        assert_eq!(ticks(1, day, 1), second * 86_400);
        assert_eq!(ticks(1, day * 100, u64::MAX) / second, 86_400 * 100 * u128::from(u64::MAX));
        assert_eq!(ticks(1, day * 366, u64::MAX), u128::MAX);
        let minute = Duration::from_secs(60);
        for (amount, cost, expected) in
            [(60, 1, second), (60, 90, second * 90), (10_000_000, 500_000, second * 3)]
        {
            let found = ticks(amount, minute, cost);
            assert!(expected - found <= expected >> 60, "{cost} of {amount}/1m is {found}, not {expected}");
        }
        assert!(ticks(u64::MAX, Duration::from_millis(1), u64::MAX) <= second);
        assert_eq!(
            rule(60, minute).ticks(u64::MAX),
            second * 120,
            "no more than a full meter and a debt of one window"
        );
    }

    /// Goal: members come back in order.
    #[test]
    fn sets_know_their_members() {
        assert_eq!(members(1 | 1 << 5 | 1 << 127).collect::<Vec<_>>(), [0, 5, 127]);
    }
}
