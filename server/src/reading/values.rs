//! Numbers, spans and moments as providers write them, without floats. Garbage is `None`: whoever reads counts it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use permitd_budget::Time;

use crate::profile::Reset;

/// A longer header is not looked at.
pub(super) const VALUE_BYTES_MAX: usize = 1_024;
/// Spans up to this are from now, longer ones are seconds since 1970: 1 September 2001, or 31 years ahead.
const EPOCH_SECONDS_MIN: u64 = 1_000_000_000;
/// From here on milliseconds since 1970: in seconds it would be the year 5138.
const EPOCH_MILLIS_MIN: u64 = 100_000_000_000;
/// A moment that has passed by no more is now: answers take a while, and clocks differ.
const PASSED_MAX: Duration = Duration::from_secs(60);

/// A whole number. Fractions are cut off: some providers write `4999.0`.
pub(super) fn amount(text: &str) -> Option<u64> {
    let (whole, fraction) = split_decimal(text)?;
    let _ = fraction;
    whole.parse().ok()
}

/// A decimal number of seconds, such as `7` or `0.25`: digits beyond the nanosecond do not count.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = split_decimal(text)?;
    // More digits than u64 holds are a long wait all the same.
    Some(Duration::new(whole.parse().unwrap_or(u64::MAX), nanos(fraction)))
}

/// A decimal number of milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<Duration> {
    seconds(text).map(|thousandfold| thousandfold / 1_000)
}

/// Parts with units, the largest first: `6m0s`, `370ms`, `45.8s`, `1h2m3.5s`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    let mut last_unit = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(number_ends);
        let unit_ends = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_ends);
        let unit_nanos: u64 = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        if unit_nanos >= last_unit {
            return None;
        }
        last_unit = unit_nanos;
        sum = sum.saturating_add(times(seconds(number)?, unit_nanos));
        rest = behind;
    }
    Some(sum)
}

/// What a wait in a header says: seconds, or an HTTP date. `there` is what the provider's clock showed.
pub(super) fn seconds_or_date(text: &str, there: Time) -> Option<Duration> {
    seconds(text).or_else(|| until(http_date(text)?, there))
}

/// A date of HTTP, in any of its three forms (RFC 9110, 5.6.7).
pub(super) fn http_date(text: &str) -> Option<Time> {
    let date: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    time(date.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}

/// How long until a limit is whole again.
pub(super) fn reset(text: &str, form: Reset, there: Time) -> Option<Duration> {
    let text = text.trim();
    match form {
        Reset::Rfc3339 => until(rfc3339(text)?, there),
        Reset::Span => span(text).or_else(|| seconds(text)),
        Reset::Epoch => epoch(text, there),
        Reset::Milliseconds => milliseconds(text),
        Reset::Any => match seconds(text) {
            Some(number) if number.as_secs() >= EPOCH_SECONDS_MIN => epoch(text, there),
            Some(number) => Some(number),
            None => span(text).or_else(|| until(rfc3339(text).or_else(|| http_date(text))?, there)),
        },
    }
}

/// Seconds since 1970, or milliseconds where that many seconds are too far away.
fn epoch(text: &str, there: Time) -> Option<Duration> {
    let since = seconds(text)?;
    let since = if since.as_secs() >= EPOCH_MILLIS_MIN { since / 1_000 } else { since };
    until(time(since.as_nanos())?, there)
}

fn rfc3339(text: &str) -> Option<Time> {
    let instant: Timestamp = text.parse().ok()?;
    time(u128::try_from(instant.as_nanosecond()).ok()?)
}

fn until(moment: Time, now: Time) -> Option<Duration> {
    if moment >= now {
        return Some(moment.since(now));
    }
    (now.since(moment) <= PASSED_MAX).then_some(Duration::ZERO)
}

fn time(nanos: u128) -> Option<Time> {
    u64::try_from(nanos).ok().map(Time::from_nanos)
}

/// The digits before and behind the point; at least one before it, and nothing else.
fn split_decimal(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && digits(whole) && digits(fraction)).then_some((whole, fraction))
}

fn nanos(fraction: &str) -> u32 {
    let digits = fraction.bytes().chain(*b"000000000").take(9);
    digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// `number` seconds' worth of a unit.
fn times(number: Duration, unit_nanos: u64) -> Duration {
    let nanos = number.as_nanos().saturating_mul(u128::from(unit_nanos)) / 1_000_000_000;
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_700_000_000_000_000_000);

    /// Goal: every form that a provider is known to write.
    #[test]
    fn spans() {
        for (text, millis) in [
            ("1s", 1_000),
            ("6m0s", 360_000),
            ("370ms", 370),
            ("45.8s", 45_800),
            ("2m59.56s", 179_560),
            ("1h2m3.5s", 3_723_500),
            ("1d", 86_400_000),
            (" 7.66s ", 7_660),
            ("1m47.5854s", 107_585),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), Some(millis), "{text}");
        }
        for garbage in ["", "s", "-1s", "5", "1s1m", "1s1s", "1x", "NaNs", "1.2.3s", "1e9s", "٣s", "5 s"] {
            assert_eq!(span(garbage), None, "{garbage:?}");
        }
        assert!(span("99999999999999999999999d").expect("long") > Duration::from_secs(1 << 32));
    }

    /// Goal: resets are told by their looks, and moments that make no sense are garbage.
    #[test]
    fn resets() {
        let cases = [
            ("30", 30_000),
            ("0.5", 500),
            ("6m0s", 360_000),
            ("1700000060", 60_000),
            ("1700000060000", 60_000),
            ("1700000060.5", 60_500),
            ("2023-11-14T22:14:20Z", 60_000),
            ("2023-11-14T22:14:20.250+00:00", 60_250),
            ("Tue, 14 Nov 2023 22:14:20 GMT", 60_000),
            ("1699999990", 0),
        ];
        for (text, millis) in cases {
            let read = reset(text, Reset::Any, NOW).map(|span| span.as_millis());
            assert_eq!(read, Some(millis), "{text}");
        }
        for garbage in ["", "-5", "soon", "2023-11-14", "1600000000", "2020-01-01T00:00:00Z"] {
            assert_eq!(reset(garbage, Reset::Any, NOW), None, "{garbage:?}");
        }
        assert_eq!(reset("30", Reset::Rfc3339, NOW), None, "a form that is told is kept to");
        assert_eq!(reset("30", Reset::Milliseconds, NOW), Some(Duration::from_millis(30)));
        assert_eq!(reset("30", Reset::Span, NOW), Some(Duration::from_secs(30)));
    }

    /// Goal: the three forms of an HTTP date, by the provider's own clock.
    #[test]
    fn dates() {
        for text in
            ["Tue, 14 Nov 2023 22:14:20 GMT", "Tuesday, 14-Nov-23 22:14:20 GMT", "Tue Nov 14 22:14:20 2023"]
        {
            assert_eq!(seconds_or_date(text, NOW), Some(Duration::from_secs(60)), "{text}");
        }
        assert_eq!(seconds_or_date("Wed, 21 Oct 2015 07:28:00 GMT", NOW), None, "long gone");
    }

    /// Goal: amounts are whole numbers, and nothing else.
    #[test]
    fn amounts() {
        assert_eq!(amount("4999"), Some(4_999));
        assert_eq!(amount("4999.0"), Some(4_999));
        for garbage in ["-1", "", "many", "1e3", "99999999999999999999", "0x5", "+5"] {
            assert_eq!(amount(garbage), None, "{garbage:?}");
        }
    }
}
