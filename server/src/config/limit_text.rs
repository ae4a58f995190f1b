//! One limit in one line, the same everywhere people write limits:
//!
//! ```text
//! unit=amount[/per][,burst=AMOUNT][,models=GLOB][,tenants=GLOB|each][,window=bucket|sliding|fixed|quantised]
//!                  [,quantum=DURATION][,phase=TIMESTAMP][,adapt=refusals|latency]
//! requests=60/1m   tokens=100k/min   in_flight=5   input_tokens=2M/1m,models=claude-opus-*   requests=1000/1d,window=fixed
//! ```
//!
//! Only the form is read here; whether the limit makes sense is for [`permitd_budget::BudgetSpec::check`] to say.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use permitd_budget::{Adapt, DEFAULT_QUANTUM, LimitSpec, Time, Window};

use super::duration::{DurationText, parse_duration};

/// The options that may follow `unit=amount/per`.
const OPTIONS: [&str; 7] = ["burst", "models", "tenants", "window", "quantum", "phase", "adapt"];
/// The ways to count, as written.
pub(super) const WINDOWS: [&str; 4] = ["bucket", "sliding", "fixed", "quantised"];
/// What a limit follows, as written.
const ADAPTS: [&str; 2] = ["refusals", "latency"];

/// What is wrong with the text of a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct LimitTextError {
    /// The part that is wrong: `unit`, `amount`, `per`, or an option's name.
    pub part: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl LimitTextError {
    fn new(part: &str, problem: impl Into<String>) -> Self {
        Self { part: part.to_owned(), problem: problem.into() }
    }
}

/// Reads one limit from text.
///
/// # Errors
/// The first part that can't be read.
pub fn parse_limit(text: &str) -> Result<LimitSpec, LimitTextError> {
    let mut parts = text.split(',').map(str::trim);
    let head = parts.next().unwrap_or_default();
    let Some((unit, rate)) = head.split_once('=') else {
        return Err(LimitTextError::new(
            "unit",
            format!("{head:?} has no amount; write it like requests=60/1m"),
        ));
    };
    let (amount, per) = match rate.split_once('/') {
        Some((amount, per)) => (amount, Some(per)),
        None => (rate, None),
    };
    let mut fields = LimitFields {
        unit: unit.trim().to_owned(),
        amount: parse_amount(amount).map_err(|problem| LimitTextError::new("amount", problem))?,
        per: per.map(parse_per).transpose().map_err(|problem| LimitTextError::new("per", problem))?,
        ..LimitFields::default()
    };
    for option in parts {
        fields.read_option(option)?;
    }
    fields.finish()
}

/// The parts of a limit as written, whether in one line or as a table.
#[derive(Debug, Default)]
pub(super) struct LimitFields {
    pub(super) unit: String,
    pub(super) amount: u64,
    pub(super) per: Option<Duration>,
    pub(super) burst: Option<u64>,
    pub(super) models: String,
    pub(super) tenants: String,
    pub(super) window: Option<String>,
    pub(super) quantum: Option<Duration>,
    pub(super) phase: Option<Time>,
    pub(super) adapt: Option<String>,
}

impl LimitFields {
    fn read_option(&mut self, option: &str) -> Result<(), LimitTextError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let (name, value) = (name.trim(), value.trim());
        let wrong = |problem: String| LimitTextError::new(name, problem);
        if value.is_empty() {
            return Err(wrong(format!("has no value; write {name}=...")));
        }
        match name {
            "burst" => self.burst = Some(parse_amount(value).map_err(wrong)?),
            "models" => self.models = value.to_owned(),
            "tenants" => self.tenants = value.to_owned(),
            "window" => self.window = Some(value.to_owned()),
            "quantum" => self.quantum = Some(parse_duration(value).map_err(wrong)?),
            "phase" => self.phase = Some(parse_time(value).map_err(wrong)?),
            "adapt" => self.adapt = Some(value.to_owned()),
            _ => return Err(wrong(unknown("option", name, &OPTIONS))),
        }
        Ok(())
    }

    /// Puts the parts together.
    pub(super) fn finish(self) -> Result<LimitSpec, LimitTextError> {
        let given = self.window.as_deref();
        let window = match given {
            None if self.quantum.is_some() => quantised(self.quantum),
            None if self.phase.is_some() => Window::Fixed { phase: self.phase },
            None | Some("bucket") => Window::Bucket,
            Some("sliding") => Window::Sliding,
            Some("fixed") => Window::Fixed { phase: self.phase },
            Some("quantised" | "quantized") => quantised(self.quantum),
            Some(other) => return Err(LimitTextError::new("window", unknown("window", other, &WINDOWS))),
        };
        if self.quantum.is_some() && !matches!(window, Window::Quantised { .. }) {
            return Err(LimitTextError::new("quantum", "goes with window=quantised only"));
        }
        if self.phase.is_some() && !matches!(window, Window::Fixed { .. }) {
            return Err(LimitTextError::new("phase", "goes with window=fixed only"));
        }
        let adapt = match self.adapt.as_deref() {
            None | Some("refusals") => Adapt::Refusals,
            Some("latency") => Adapt::Latency,
            Some(other) => {
                return Err(LimitTextError::new("adapt", unknown("thing to adapt to", other, &ADAPTS)));
            }
        };
        Ok(LimitSpec {
            unit: self.unit,
            amount: self.amount,
            per: self.per,
            burst: self.burst.unwrap_or(0),
            window,
            models: self.models,
            tenants: self.tenants,
            adapt,
        })
    }
}

fn quantised(quantum: Option<Duration>) -> Window {
    Window::Quantised { quantum: quantum.unwrap_or(DEFAULT_QUANTUM) }
}

/// An amount, as people write it: digits, `_` between them, and `k` or `M` behind them for thousands and millions.
///
/// # Errors
/// Says what is wrong and gives an example.
pub fn parse_amount(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1_u64),
    };
    let digits: String = digits.chars().filter(|character| *character != '_').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is not a whole number; write it like 60, 100_000, 100k or 2M"));
    }
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| format!("{text:?} is too large; at most {}", u64::MAX))
}

/// Reads a window; `60/min` and `60/s` say what `60/1m` and `60/1s` do.
fn parse_per(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.starts_with(|first: char| first.is_ascii_lowercase()) {
        return parse_duration(&format!("1{text}"));
    }
    parse_duration(text)
}

/// Reads an instant since 1970, as in RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<Time, String> {
    let example = "write it like 2026-01-01T00:00:00Z";
    let instant: Timestamp = text.parse().map_err(|_| format!("{text:?} is not a time; {example}"))?;
    let nanos = u64::try_from(instant.as_nanosecond());
    nanos.map(Time::from_nanos).map_err(|_| format!("{text:?} is before 1970 or after 2554"))
}

/// The inverse of [`parse_time`].
pub(super) fn time_text(time: Time) -> String {
    let nanos = i128::from(time.as_nanos());
    Timestamp::from_nanosecond(nanos).expect("every u64 of nanoseconds is before the year 9999").to_string()
}

/// Says that `word` is not known, and which known one is nearest.
pub(crate) fn unknown(kind: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown {kind} {word:?}; did you mean {near}?"),
        None => format!("unknown {kind} {word:?}; known: {}", known.join(", ")),
    }
}

/// The known word that somebody probably meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    const SIMILAR: f64 = 0.7;
    let word = word.to_lowercase();
    let scored = known.iter().map(|candidate| (strsim::jaro_winkler(&word, candidate), *candidate));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= SIMILAR).then_some(best.1)
}

/// Writes a limit so that [`parse_limit`] reads it back. Globs with a comma can't be written in one line; they need a table.
#[derive(Clone, Copy, Debug)]
pub struct LimitText<'a>(pub &'a LimitSpec);

impl fmt::Display for LimitText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.0;
        let mut text = format!("{}={}", limit.unit, limit.amount);
        if let Some(per) = limit.per {
            text += &format!("/{}", DurationText(per));
        }
        if limit.burst != 0 {
            text += &format!(",burst={}", limit.burst);
        }
        for (name, glob) in [("models", &limit.models), ("tenants", &limit.tenants)] {
            if !glob.is_empty() {
                text += &format!(",{name}={glob}");
            }
        }
        match limit.window {
            Window::Bucket => {}
            Window::Sliding => text += ",window=sliding",
            Window::Fixed { phase: None } => text += ",window=fixed",
            Window::Fixed { phase: Some(phase) } => {
                text += &format!(",window=fixed,phase={}", time_text(phase));
            }
            Window::Quantised { quantum } => {
                text += &format!(",window=quantised,quantum={}", DurationText(quantum));
            }
        }
        if limit.adapt == Adapt::Latency {
            text += ",adapt=latency";
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{Adapt, LimitSpec, Window};

    use super::{LimitText, parse_limit};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Goal: what people write, and that writing it again gives the same limit.
    #[test]
    fn reads_and_writes() {
        for (text, expected, written) in [
            ("requests=60/1m", LimitSpec::rate("requests", 60, MINUTE), "requests=60/1m"),
            ("requests = 60 / min", LimitSpec::rate("requests", 60, MINUTE), "requests=60/1m"),
            ("tokens=100k/60s", LimitSpec::rate("tokens", 100_000, MINUTE), "tokens=100000/1m"),
            ("in_flight=5", LimitSpec::in_flight(5), "in_flight=5"),
            (
                "in_flight=5,models=gpt-*,adapt=latency",
                LimitSpec { models: "gpt-*".to_owned(), adapt: Adapt::Latency, ..LimitSpec::in_flight(5) },
                "in_flight=5,models=gpt-*,adapt=latency",
            ),
            ("in_flight=5,adapt=refusals", LimitSpec::in_flight(5), "in_flight=5"),
            (
                "input_tokens=2M/1m,burst=1_000,models=claude-opus-*,tenants=each",
                LimitSpec {
                    burst: 1_000,
                    models: "claude-opus-*".to_owned(),
                    tenants: "each".to_owned(),
                    ..LimitSpec::rate("input_tokens", 2_000_000, MINUTE)
                },
                "input_tokens=2000000/1m,burst=1000,models=claude-opus-*,tenants=each",
            ),
            (
                "requests=600/1m,quantum=500ms",
                LimitSpec {
                    window: Window::Quantised { quantum: Duration::from_millis(500) },
                    ..LimitSpec::rate("requests", 600, MINUTE)
                },
                "requests=600/1m,window=quantised,quantum=500ms",
            ),
        ] {
            let read = parse_limit(text).expect(text);
            assert_eq!(read, expected, "{text}");
            assert_eq!(LimitText(&read).to_string(), written);
            assert_eq!(parse_limit(written), Ok(expected), "{written}");
        }
    }

    /// Goal: a phase survives the way to text and back.
    #[test]
    fn keeps_a_phase() {
        let text = "requests=10/1d,window=fixed,phase=2026-01-01T00:00:00Z";
        let read = parse_limit(text).expect("a limit");
        assert!(matches!(read.window, Window::Fixed { phase: Some(_) }));
        assert_eq!(LimitText(&read).to_string(), text);
    }

    /// Goal: the part that can't be read is named, with what would be right.
    #[test]
    fn names_the_wrong_part() {
        for (text, part, hint) in [
            ("", "unit", "requests=60/1m"),
            ("requests", "unit", "requests=60/1m"),
            ("requests=/1m", "amount", "100k"),
            ("requests=-5/1m", "amount", "whole number"),
            ("requests=99999999999999999999/1m", "amount", "too large"),
            ("requests=18446744073709551615k/1m", "amount", "too large"),
            ("requests=60/", "per", "5m"),
            ("requests=60/5", "per", "\"5s\""),
            ("requests=60/1m,brust=5", "brust", "did you mean burst?"),
            ("requests=60/1m,burst", "burst", "no value"),
            ("requests=60/1m,", "", "no value"),
            ("requests=60/1m,window=slidng", "window", "did you mean sliding?"),
            ("requests=60/1m,window=sliding,quantum=1s", "quantum", "window=quantised"),
            ("in_flight=5,adapt=latencey", "adapt", "did you mean latency?"),
            ("in_flight=5,adapt", "adapt", "no value"),
            ("requests=60/1m,window=fixed,phase=noon", "phase", "2026-01-01T00:00:00Z"),
        ] {
            let error = parse_limit(text).expect_err(text);
            assert_eq!(error.part, part, "{text}: {error}");
            assert!(error.problem.contains(hint), "{text}: {error}");
        }
    }
}
