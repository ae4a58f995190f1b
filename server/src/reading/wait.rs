//! How long the provider asks to wait, in this order: `retry-after-ms`, `retry-after`, what the body says, the reset of the
//! dimension that is used up, the end of its window. What was learned, and the ladder, come behind these, in the heart.

use std::time::Duration;

use permitd_budget::{Observed, Outcome, Time, Tripped};
use serde_json::Value;

use super::{
    Unreadable,
    response::Seen,
    values::{milliseconds, seconds, seconds_or_date, span},
};
use crate::profile::{Profile, Response as _};

/// The longest wait that is believed.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// Where a `google.rpc.RetryInfo` stands in a body of JSON: lists of details, themselves perhaps in an error or in a list.
const DETAILS: [&[&str]; 3] = [&["error", "details"], &["details"], &["0", "error", "details"]];
/// Bytes behind a profile's words for a wait in which the wait has to end.
const WAIT_TEXT_MAX: usize = 32;

/// What the response asks for in so many words.
pub(super) fn asked(profile: &Profile, seen: &Seen<'_>, unreadable: &mut Unreadable) -> Option<Duration> {
    let mut believe = |wait: Option<Duration>| {
        // Longer ones are cut to what is believed, and counted.
        unreadable.waits += u64::from(wait.is_none_or(|wait| wait > WAIT_MAX));
        wait
    };
    if let Some(wait) = seen.value("retry-after-ms").and_then(|text| believe(milliseconds(text))) {
        return Some(wait);
    }
    if let Some(wait) = seen.value("retry-after").and_then(|text| believe(seconds_or_date(text, seen.there)))
    {
        return Some(wait);
    }
    let told = seen.json().and_then(retry_info);
    told.and_then(|text| believe(span(text))).or_else(|| in_prose(profile, seen))
}

/// Until the dimensions that refused are whole again: those that were named, else those of which nothing is left.
pub(super) fn reset(outcome: Outcome, tripped: &[Tripped], observed: &[Observed]) -> Option<Duration> {
    if !matches!(outcome, Outcome::RateLimited | Outcome::QuotaExhausted) {
        return None;
    }
    let is = |one: &Tripped, limit: &Observed| {
        one.unit == limit.unit && (one.per == limit.per || one.per.is_none())
    };
    let named = |limit: &Observed| tripped.iter().any(|one| is(one, limit));
    let used_up = |limit: &Observed| limit.remaining == Some(0);
    observed.iter().filter(|limit| used_up(limit) || named(limit)).filter_map(|limit| limit.reset).max()
}

/// The end of the window of what refused, where the provider's windows follow a clock.
pub(super) fn boundary(profile: &Profile, tripped: &[Tripped], now: Time) -> Option<Duration> {
    let windows = tripped.iter().filter_map(|one| profile.window(&one.unit, one.per));
    windows.filter_map(|window| window.ends_in(now)).max()
}

fn retry_info(json: &Value) -> Option<&str> {
    let lists = DETAILS.iter().filter_map(|path| {
        let mut at = json;
        for name in *path {
            at = match at {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                other => other.get(name)?,
            };
        }
        at.as_array()
    });
    lists.flatten().find_map(|detail| detail.get("retryDelay")?.as_str())
}

/// A wait behind words that the profile knows: "please try again in 7.66s".
fn in_prose(profile: &Profile, seen: &Seen<'_>) -> Option<Duration> {
    profile.wait_after.iter().find_map(|words| {
        let (_, behind) = seen.text().split_once(words.as_str())?;
        let ends = behind
            .char_indices()
            .find(|(at, c)| *at >= WAIT_TEXT_MAX || !(c.is_ascii_alphanumeric() || *c == '.'))
            .map_or(behind.len(), |(at, _)| at);
        let text = behind[..ends].trim_end_matches('.');
        span(text).or_else(|| seconds(text))
    })
}
