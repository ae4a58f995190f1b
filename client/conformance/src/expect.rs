//! Whether something is as a case expects it. An expectation is a value that has to be equal, a list of which one has to be, a table of
//! expectations for an object's fields, or one of these:
//!
//! - `{ contains = "text" }`: a text with that in it, in capitals or not
//! - `{ at_least = 1, at_most = 9 }`: a number, or an amount as text, in that range
//! - `{ known = true }`: anything but null; `false`: null or absent

use serde_json::Value;

use crate::case::Fields;

/// What is not as expected, in words; `None` if all is well.
pub(crate) fn mismatch(expected: &Fields, found: &Fields) -> Option<String> {
    expected.iter().find_map(|(name, expected)| {
        let found = found.get(name).unwrap_or(&Value::Null);
        (!holds(expected, found)).then(|| format!("{name} has to be {expected}, and is {found}"))
    })
}

fn holds(expected: &Value, found: &Value) -> bool {
    match expected {
        Value::Array(any) => any.iter().any(|one| holds(one, found)),
        Value::Object(fields) => match fields.keys().next().map(String::as_str) {
            Some("contains") => contains(&fields["contains"], found),
            Some("known") => fields["known"] == Value::Bool(!found.is_null()),
            Some("at_least" | "at_most") => in_range(fields, found),
            _ => found.as_object().is_some_and(|found| mismatch(fields, found).is_none()),
        },
        plain => plain == found,
    }
}

fn contains(part: &Value, found: &Value) -> bool {
    part.as_str()
        .zip(found.as_str())
        .is_some_and(|(part, found)| found.to_lowercase().contains(&part.to_lowercase()))
}

fn in_range(range: &Fields, found: &Value) -> bool {
    let Some(found) = number(found) else { return false };
    let bound = |name: &str| range.get(name).and_then(number);
    bound("at_least").is_none_or(|least| least <= found) && bound("at_most").is_none_or(|most| found <= most)
}

/// Exact for amounts of 64 bits.
fn number(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64().map(i128::from).or(other.as_u64().map(i128::from)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(expected: Value, found: Value) -> Option<String> {
        let (Value::Object(expected), Value::Object(found)) = (expected, found) else { panic!("objects") };
        mismatch(&expected, &found)
    }

    /// Goal: what differs is told, and nothing that a case does not name matters.
    #[test]
    fn tells_what_differs() {
        let found =
            json!({ "a": "x", "n": "18446744073709551615", "o": { "in": 3, "out": 4 }, "none": null });
        for good in [
            json!({}),
            json!({ "a": "x" }),
            json!({ "a": ["y", "x"] }),
            json!({ "n": { "at_least": "18446744073709551615", "at_most": "18446744073709551615" } }),
            json!({ "o": { "in": 3 } }),
            json!({ "none": null, "absent": null }),
            json!({ "none": { "known": false }, "a": { "known": true } }),
            json!({ "a": { "contains": "x" } }),
        ] {
            assert_eq!(says(good.clone(), found.clone()), None, "{good}");
        }
        for bad in [
            json!({ "a": "y" }),
            json!({ "a": ["y", "z"] }),
            json!({ "n": { "at_most": "18446744073709551614" } }),
            json!({ "n": { "at_least": 1, "at_most": 5 } }),
            json!({ "o": { "in": 4 } }),
            json!({ "absent": { "known": true } }),
            json!({ "a": { "contains": "z" } }),
        ] {
            assert!(says(bad.clone(), found.clone()).is_some(), "{bad}");
        }
    }
}
