//! The rules of a profile by themselves, and how each is read from its table. What can never match is refused.

use std::{fmt, str::FromStr, time::Duration};

use permitd_budget::{Counting, CountingSpec, Held, Settled};

use super::when::{Pointer, When, header_name};
use crate::config::{
    read::{Table, duration, flag, number, text, texts},
    unknown,
};

/// What stands for limit, remaining and reset in the name of a header.
const PLACEHOLDER: &str = "{}";

/// Three headers that tell of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderRule {
    /// With `{}` for `limit`, `remaining` and `reset`; in lower case.
    pub(crate) names: String,
    pub(crate) unit: String,
    pub(crate) per: Option<Duration>,
    pub(crate) reset: Reset,
    pub(crate) rounded_to: u64,
    /// Values that mean nothing.
    pub(crate) ignore: Vec<String>,
    /// The models that share it, as a glob; empty means those that share the model of the call.
    pub(crate) models: String,
    /// Counts only where this header is absent or has this value.
    pub(crate) when: Option<(String, String)>,
}

/// What a header says of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Limit,
    Remaining,
    Reset,
}

/// How a reset is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reset {
    /// By its looks: `2026-01-01T00:00:00Z`, `6m0s`, seconds, or seconds or milliseconds since 1970.
    #[default]
    Any,
    /// RFC 3339.
    Rfc3339,
    /// `6m0s`, `370ms`, or seconds.
    Span,
    /// Seconds or milliseconds since 1970.
    Epoch,
    /// Milliseconds from now.
    Milliseconds,
}

/// Places in a JSON body that tell of one limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BodyLimitRule {
    pub(crate) unit: String,
    pub(crate) per: Option<Duration>,
    pub(crate) limit: Option<Pointer>,
    pub(crate) remaining: Option<Pointer>,
}

/// What a response is that looks like this.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefusalRule {
    pub(crate) when: When,
    pub(crate) class: Class,
    /// Where the provider gives no wait.
    pub(crate) wait: Option<Duration>,
}

/// A class of refusal, as profiles call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    RateLimited,
    ConcurrencyLimited,
    Overloaded,
    AccelerationLimited,
    QuotaExhausted,
    TooLarge,
    Failed { retryable: bool },
}

/// The dimension that a refusal is about if it looks like this.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DimensionRule {
    pub(crate) when: When,
    pub(crate) unit: String,
    pub(crate) per: Option<Duration>,
}

impl HeaderRule {
    pub(super) fn read(mut table: Table<'_>, units: &Units<'_>) -> Option<Self> {
        let names = table.need("names", |value| header_names(&text(value)?));
        let unit = table.need("unit", |value| units.check(&text(value)?));
        let per = table.read("per", duration);
        let reset = table.read("reset", |value| text(value)?.parse::<Reset>());
        let rounded_to = table.read("rounded_to", number);
        let ignore = table.read("ignore", texts);
        let models = table.read("models", text);
        let when_header = table.read("when_header", |value| header_name(&text(value)?));
        let when_is = table.read("when_is", text);
        if when_header.is_some() != when_is.is_some() {
            table.problem("when_header and when_is go together".to_owned());
        }
        table.finish();
        Some(Self {
            names: names?,
            unit: unit?,
            per,
            reset: reset.unwrap_or_default(),
            rounded_to: rounded_to.unwrap_or(0),
            ignore: ignore.unwrap_or_default(),
            models: models.unwrap_or_default(),
            when: when_header.zip(when_is),
        })
    }

    /// The name of the header that says `field`.
    pub(crate) fn name(&self, field: Field) -> String {
        self.names.replace(PLACEHOLDER, field.name())
    }
}

impl Field {
    /// As headers have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Field::Limit => "limit",
            Field::Remaining => "remaining",
            Field::Reset => "reset",
        }
    }
}

impl FromStr for Reset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = ["any", "rfc3339", "span", "epoch", "milliseconds"];
        Ok(match choice("form", text, &forms)? {
            "rfc3339" => Reset::Rfc3339,
            "span" => Reset::Span,
            "epoch" => Reset::Epoch,
            "milliseconds" => Reset::Milliseconds,
            _ => Reset::Any,
        })
    }
}

impl BodyLimitRule {
    pub(super) fn read(mut table: Table<'_>, units: &Units<'_>) -> Option<Self> {
        let unit = table.need("unit", |value| units.check(&text(value)?));
        let per = table.read("per", duration);
        let limit = table.read("limit", |value| Pointer::parse(&text(value)?));
        let remaining = table.read("remaining", |value| Pointer::parse(&text(value)?));
        if limit.is_none() && remaining.is_none() {
            table.problem("says nothing; give limit, remaining or both".to_owned());
        }
        table.finish();
        Some(Self { unit: unit?, per, limit, remaining })
    }
}

impl RefusalRule {
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let class = table.need("class", |value| text(value)?.parse::<Class>());
        let retry = table.read("retry", flag);
        let wait = table.read("wait", duration);
        let when = When::read(&mut table, true);
        let class = match (class, retry) {
            (Some(Class::Failed { .. }), Some(retryable)) => Some(Class::Failed { retryable }),
            (Some(class), Some(_)) => {
                table.problem(format!(
                    "retry goes with class = \"failed\" only; {class} decides it by itself"
                ));
                None
            }
            (class, _) => class,
        };
        if wait.is_some() && matches!(class, Some(Class::TooLarge | Class::Failed { .. })) {
            table.problem("wait goes with refusals only that hold others back".to_owned());
        }
        table.finish();
        Some(Self { when, class: class?, wait })
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known: Vec<String> = Class::ALL.iter().map(Class::to_string).collect();
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let found = names.iter().position(|name| *name == text);
        found.map(|at| Class::ALL[at]).ok_or_else(|| unknown("class", text, &names))
    }
}

impl Class {
    const ALL: [Class; 7] = [
        Class::RateLimited,
        Class::ConcurrencyLimited,
        Class::Overloaded,
        Class::AccelerationLimited,
        Class::QuotaExhausted,
        Class::TooLarge,
        Class::Failed { retryable: false },
    ];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::RateLimited => "rate_limited",
            Class::ConcurrencyLimited => "concurrency_limited",
            Class::Overloaded => "overloaded",
            Class::AccelerationLimited => "acceleration_limited",
            Class::QuotaExhausted => "quota_exhausted",
            Class::TooLarge => "too_large",
            Class::Failed { .. } => "failed",
        })
    }
}

impl DimensionRule {
    pub(super) fn read(mut table: Table<'_>, units: &Units<'_>) -> Option<Self> {
        let unit = table.need("unit", |value| units.check(&text(value)?));
        let per = table.read("per", duration);
        let when = When::read(&mut table, false);
        if when.is_bare() {
            table.problem("matches every refusal; give header, body or text".to_owned());
        }
        table.finish();
        Some(Self { when, unit: unit?, per })
    }
}

/// `[[counting]]`
pub(super) fn read_counting(mut table: Table<'_>) -> Option<CountingSpec> {
    let percent = |value: &_| u32::try_from(number(value)?).map_err(|_| "is too large".to_owned());
    let base = Counting::default();
    let counting = Counting {
        cached_input_percent: table
            .read("cached_input_percent", percent)
            .unwrap_or(base.cached_input_percent),
        output_default: table.read("output_default", number).unwrap_or(base.output_default),
        held: match table
            .read("held", |value| choice("rule", &text(value)?, &["expected", "bound", "larger"]))
        {
            Some("bound") => Held::Bound,
            Some("larger") => Held::Larger,
            _ => Held::Expected,
        },
        settled: match table.read("settled", |value| choice("rule", &text(value)?, &["used", "as_held"])) {
            Some("as_held") => Settled::AsHeld,
            _ => base.settled,
        },
    };
    let output_percent = table.read("output_percent", percent);
    let settled = match (counting.settled, output_percent) {
        (Settled::Used { .. }, Some(output_percent)) => Settled::Used { output_percent },
        (Settled::AsHeld, Some(_)) => {
            table.problem("output_percent goes with settled = \"used\" only".to_owned());
            Settled::AsHeld
        }
        (settled, None) => settled,
    };
    let models = table.read("models", text).unwrap_or_default();
    table.finish();
    Some(CountingSpec { models, counting: Counting { settled, ..counting } })
}

/// The units that rules may name.
pub(super) struct Units<'a> {
    /// Those besides the ones that every budget knows.
    pub(super) further: &'a [String],
}

impl Units<'_> {
    /// One that is known.
    pub(super) fn check(&self, unit: &str) -> Result<String, String> {
        use permitd_budget::{IN_FLIGHT, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOKENS};
        let mut known = vec![REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, IN_FLIGHT];
        known.extend(self.further.iter().map(String::as_str));
        if known.contains(&unit) { Ok(unit.to_owned()) } else { Err(unknown("unit", unit, &known)) }
    }
}

pub(super) fn choice<'a>(kind: &str, text: &str, known: &[&'a str]) -> Result<&'a str, String> {
    known.iter().find(|word| **word == text).copied().ok_or_else(|| unknown(kind, text, known))
}

fn header_names(text: &str) -> Result<String, String> {
    if text.matches(PLACEHOLDER).count() != 1 {
        return Err(format!("{text:?} needs one {{}}, which stands for limit, remaining and reset"));
    }
    header_name(&text.replace(PLACEHOLDER, "limit"))?;
    Ok(text.to_owned())
}
