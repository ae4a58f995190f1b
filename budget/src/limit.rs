//! One limit of a budget: what it bounds, for whom, how much is left, and for how long it is frozen.

use std::fmt;

use crate::{
    glob::Glob,
    meter::{Escrow, Meter, Moment},
    saved::Strangers,
    spec::{LimitSpec, Window},
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
    /// Nothing is granted before then.
    pub(crate) frozen_until: Time,
    cushion: Cushion,
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

/// What is kept back in a bucket against calls that overtake each other on their way to the provider: an amount, not a share of the
/// rate, so that the sustained rate stays whole.
#[derive(Clone, Copy, Debug, Default)]
struct Cushion {
    units: u64,
    widened: Time,
}

/// What calls may overtake each other by at first: 25 ms, half the spread of round trips within a region.
const JITTER_NANOS: u64 = 25_000_000;
/// A cushion is at most a quarter of the burst.
const CUSHION_PART: u64 = 4;
/// How long a cushion stays as it is; then half of it goes.
const CUSHION_HALF_LIFE_NANOS: u64 = 3_600_000_000_000;

impl Cushion {
    fn shrink(&mut self, now: Time) {
        let halves = now.nanos_since(self.widened) / CUSHION_HALF_LIFE_NANOS;
        if self.units > 0 && halves > 0 {
            self.units = self.units.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
            self.widened = self.widened.plus_nanos(halves * CUSHION_HALF_LIFE_NANOS);
        }
    }
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
    pub(crate) fn new(spec: &LimitSpec, now: Time) -> Self {
        let meter = (spec.tenants != EACH).then(|| Meter::new(spec, now));
        Self { rule: Rule::new(spec), meter }
    }

    /// Takes over from the same limit before it was changed.
    pub(crate) fn take_over(&mut self, old: Limit, moment: Moment) {
        self.rule.frozen_until = old.rule.frozen_until;
        self.rule.cushion = old.rule.cushion;
        (self.rule.fresh, self.rule.strangers) = (old.rule.fresh, old.rule.strangers);
        if let (Some(new), Some(mut old)) = (&mut self.meter, old.meter) {
            old.advance(moment.time);
            new.take_over(&mut old, moment);
        }
    }

    /// Whether every tenant has a meter of its own.
    pub(crate) fn is_each(&self) -> bool {
        self.meter.is_none()
    }

    pub(crate) fn matches_model(&self, model: &str) -> bool {
        self.rule.models.matches(model)
    }

    pub(crate) fn matches_tenant(&self, tenant: &str) -> bool {
        self.rule.tenants.matches(tenant)
    }
}

impl Rule {
    fn new(spec: &LimitSpec) -> Self {
        let tenants = if spec.tenants == EACH { "" } else { &spec.tenants };
        let per = spec.per.map_or(0, nanos);
        Self {
            unit: Unit::named(&spec.unit),
            models: Glob::new(&spec.models),
            tenants: Glob::new(tenants),
            frozen_until: Time::ZERO,
            cushion: Cushion::default(),
            reserved: Reserved::default(),
            fresh: Escrow::default(),
            strangers: None,
            capacity: Meter::new(spec, Time::ZERO).capacity_units(),
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

    /// How much of the limit's time `cost` is worth.
    pub(crate) fn ticks(&self, cost: u64) -> Ticks {
        self.ticks_per_unit.of(cost)
    }

    /// The provider refused `charge` although we saw room: calls overtake each other on their way, by more than was thought.
    pub(crate) fn widen_cushion(&mut self, charge: &Amounts, now: Time) {
        if self.is_rate() && self.spec.window == Window::Bucket && self.spec.tenants.is_empty() {
            self.cushion.shrink(now);
            let jitter = self.spec.amount / (self.spec.per.map_or(1, nanos) / JITTER_NANOS).max(1);
            let first = self.cost(charge).max(jitter).max(1);
            let most = self.capacity / CUSHION_PART;
            self.cushion.units = self.cushion.units.saturating_mul(2).max(first).min(most);
            self.cushion.widened = now;
        }
    }

    /// Forgets a part of the cushion for every hour without a refusal.
    pub(crate) fn shrink_cushion(&mut self, now: Time) {
        self.cushion.shrink(now);
    }

    /// Units kept back, and when that was widened last.
    pub(crate) fn cushion(&self) -> (u64, Time) {
        (self.cushion.units, self.cushion.widened)
    }

    pub(crate) fn set_cushion(&mut self, units: u64, widened: Time) {
        self.cushion = Cushion { units, widened };
    }

    /// Parts that have to be there before `cost` is granted: the cost and the cushion, but never more than a full meter, so that the
    /// cushion blocks nothing that is admissible alone.
    pub(crate) fn need(&self, meter: &Meter, cost: u64) -> i128 {
        let need = meter.parts(cost);
        match self.cushion.units {
            0 => need,
            units => (need + meter.parts(units)).min(meter.capacity()).max(need),
        }
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

/// The tenant glob of a limit that every tenant has for itself.
pub(crate) const EACH: &str = "each";

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
        let ticks = |amount, per, cost| Rule::new(&LimitSpec::rate("requests", amount, per)).ticks(cost);
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
    }

    /// Goal: members come back in order.
    #[test]
    fn sets_know_their_members() {
        assert_eq!(members(1 | 1 << 5 | 1 << 127).collect::<Vec<_>>(), [0, 5, 127]);
    }
}
