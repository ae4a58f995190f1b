//! What an HTTP status and headers say about how a call went, for every provider alike. Garbage counts as absent.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::Outcome;

/// The longest wait that is believed.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Reads a status; 0 means that there was none.
pub(crate) fn outcome(http_status: u32) -> Outcome {
    match http_status {
        0 | 200..=399 => Outcome::Success,
        429 => Outcome::RateLimited,
        503 | 529 => Outcome::Overloaded,
        413 => Outcome::TooLarge,
        _ => failed(http_status),
    }
}

/// A failure, whatever class the status is of. Every 4xx would fail again, but for a timeout; without a status it was a timeout
/// or a connection that broke.
pub(crate) fn failed(http_status: u32) -> Outcome {
    Outcome::Failed { retryable: http_status == 408 || !(400..=499).contains(&http_status) }
}

/// Reads the wait that the provider asks for: `retry-after-ms`, else `retry-after` in seconds.
pub(crate) fn retry_after(headers: &BTreeMap<String, String>) -> Option<Duration> {
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| seconds(value))
    };
    let wait = header("retry-after-ms").map(|millis| millis / 1_000).or_else(|| header("retry-after"))?;
    Some(wait.min(RETRY_AFTER_MAX))
}

/// A decimal number of seconds, such as `7` or `0.25`, without floats: digits beyond the nanosecond do not count.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // More digits than u64 holds are a long wait all the same.
    let whole = whole.parse().unwrap_or(u64::MAX);
    let nanos = fraction
        .bytes()
        .chain(*b"000000000")
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(Duration::new(whole, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&str, &str)]) -> Option<Duration> {
        retry_after(&headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Goal: statuses fall into the classes that the contract names.
    #[test]
    fn statuses() {
        assert_eq!(outcome(0), Outcome::Success);
        assert_eq!(outcome(204), Outcome::Success);
        assert_eq!(outcome(429), Outcome::RateLimited);
        assert_eq!(outcome(529), Outcome::Overloaded);
        assert_eq!(outcome(503), Outcome::Overloaded);
        assert_eq!(outcome(413), Outcome::TooLarge);
        assert_eq!(outcome(400), Outcome::Failed { retryable: false });
        assert_eq!(outcome(500), Outcome::Failed { retryable: true });
        assert_eq!(outcome(408), Outcome::Failed { retryable: true });
        assert_eq!(outcome(u32::MAX), Outcome::Failed { retryable: true });
    }

    /// Goal: milliseconds win, fractions count, garbage is absent, absurd waits are capped.
    #[test]
    fn waits() {
        assert_eq!(wait(&[("Retry-After", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "0.25")]), Some(Duration::from_millis(250)));
        assert_eq!(
            wait(&[("retry-after", "9"), ("Retry-After-Ms", "1500")]),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(wait(&[("retry-after-ms", "soon"), ("retry-after", "2")]), Some(Duration::from_secs(2)));
        for garbage in ["", ".", "-1", "1e9", "NaN", "Wed, 21 Oct 2015 07:28:00 GMT", "1.5.2", "٣"] {
            assert_eq!(wait(&[("retry-after", garbage)]), None, "{garbage:?}");
        }
        assert_eq!(wait(&[("retry-after", "99999999999999999999999999")]), Some(RETRY_AFTER_MAX));
        assert_eq!(wait(&[]), None);
    }
}
