//! Numbers and spans as people read them in a sentence.

use std::time::Duration;

/// A number with its thousands set apart.
#[must_use]
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A span to two or three digits: `350ms`, `3.2s`, `45s`, `12m`, `5h`, `3d`. Never rounded down to nothing.
#[must_use]
pub fn about(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    let seconds = millis.div_ceil(1_000);
    match millis {
        0 => "0s".to_owned(),
        1..1_000 => format!("{millis}ms"),
        1_000..10_000 if millis % 1_000 < 100 => format!("{}s", millis / 1_000),
        1_000..10_000 => format!("{}.{}s", millis / 1_000, millis % 1_000 / 100),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if seconds < 7_200 => format!("{}m", seconds.div_ceil(60)),
        _ if seconds < 172_800 => format!("{}h", seconds.div_ceil(3_600)),
        _ => format!("{}d", seconds.div_ceil(86_400)),
    }
}

/// `one` for 1, else `many` with its number.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(number)) }
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: large numbers can be read.
    #[test]
    fn groups_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    /// Goal: spans are short, and what takes time never takes none.
    #[test]
    fn spans_are_short() {
        let cases = [
            (0, "0s"),
            (1, "1ms"),
            (350, "350ms"),
            (3_000, "3s"),
            (3_030, "3s"),
            (3_250, "3.2s"),
            (45_001, "46s"),
            (720_000, "12m"),
            (18_000_000, "5h"),
            (259_200_000, "3d"),
        ];
        for (millis, text) in cases {
            assert_eq!(about(Duration::from_millis(millis)), text);
        }
        assert_eq!(about(Duration::from_nanos(1)), "1ms");
    }

    /// Goal: lists read as in a sentence.
    #[test]
    fn lists() {
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([0, 1, 2, 3].map(|count| listed(&items[..count])), ["", "a", "a and b", "a, b and c"]);
        assert_eq!(
            (counted(1, "call", "calls"), counted(2_000, "call", "calls")),
            ("1 call".into(), "2,000 calls".into())
        );
    }
}
