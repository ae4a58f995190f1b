//! Durations as people write them: `500ms`, `5m`, `1h30m`, `7 days`. A number alone is refused, since nobody can tell its unit.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// Reads a duration. Days have 24 hours and weeks 7 days; months and years are refused, since their length varies.
///
/// # Errors
/// Says what is wrong and gives an example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        return Err(format!("{text:?} has no unit; write \"{text}s\" or \"{text}m\""));
    }
    let example = "write it like \"500ms\", \"5m\", \"1h30m\" or \"7 days\"";
    let span: Span = text.parse().map_err(|_| format!("{text:?} is not a duration; {example}"))?;
    let length: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("{text:?} has no fixed length; count in days, hours, minutes or less"))?;
    Duration::try_from(length).map_err(|_| format!("{text:?} is negative"))
}

/// Writes a duration so that [`parse_duration`] reads it back exactly, in the units people expect: `1m`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 6] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
        ];
        let mut rest = self.0.as_nanos();
        let mut text = String::new();
        for (nanos, unit) in UNITS {
            if rest >= nanos {
                text += &format!("{}{unit}", rest / nanos);
                rest %= nanos;
            }
        }
        if rest > 0 {
            text += &format!("{rest}ns");
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DurationText, parse_duration};

    /// Goal: the ways in which people write durations, and one way back.
    #[test]
    fn reads_what_people_write() {
        for (text, seconds, written) in [
            ("5m", 300, "5m"),
            ("1h30m", 5_400, "1h30m"),
            ("90m", 5_400, "1h30m"),
            ("1 hour 30 minutes", 5_400, "1h30m"),
            ("7 days", 604_800, "7d"),
            ("1w", 604_800, "7d"),
            ("PT1M", 60, "1m"),
            ("0s", 0, "0s"),
            ("0", 0, "0s"),
        ] {
            let read = parse_duration(text).expect(text);
            assert_eq!(read, Duration::from_secs(seconds), "{text}");
            assert_eq!(DurationText(read).to_string(), written);
        }
        assert_eq!(parse_duration("1.5s").expect("a fraction"), Duration::from_millis(1_500));
    }

    /// Goal: what is written is read back exactly, down to the nanosecond.
    #[test]
    fn written_is_read_back() {
        for nanos in [1, 999, 1_000, 1_500_000, 1_000_000_001, 366 * 86_400_000_000_000, 86_400_000_000_001] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&DurationText(duration).to_string()), Ok(duration));
        }
    }

    /// Goal: what can't be meant is refused with a hint.
    #[test]
    fn refuses_with_a_hint() {
        for (text, hint) in [
            ("5", "\"5s\""),
            ("", "like \"500ms\""),
            ("soon", "like \"500ms\""),
            ("-5s", "negative"),
            ("5s ago", "negative"),
            ("1 month", "no fixed length"),
        ] {
            let problem = parse_duration(text).expect_err(text);
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }
}
