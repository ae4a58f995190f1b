//! `RateLimit` and `RateLimit-Policy` as the IETF drafts them, in both forms that are in use: named policies (draft 8 and later)
//! and plain parameters (draft 7).

use std::collections::BTreeMap;

use permitd_budget::{IN_FLIGHT, Observed, REQUESTS};

use super::{
    Unreadable,
    limits::{believable, nothing, readable_limit, says_something},
    response::Seen,
    values::{amount, seconds},
};
use crate::profile::Profile;

/// Policies in one header; further ones are not looked at.
const POLICIES_MAX: usize = 16;

/// One item of a list: what stands first, and its parameters.
struct Item<'a> {
    name: &'a str,
    parameters: BTreeMap<&'a str, &'a str>,
}

/// The limits that the two headers tell of together.
pub(super) fn observed(profile: &Profile, seen: &Seen<'_>, unreadable: &mut Unreadable) -> Vec<Observed> {
    let policies = seen.value("ratelimit-policy").map(items).unwrap_or_default();
    let Some(state) = seen.value("ratelimit") else {
        return policies.iter().filter_map(|policy| one(profile, policy, None, unreadable)).collect();
    };
    if let Some(plain) = plain(state) {
        return plain_limit(profile, &plain, &policies, unreadable).into_iter().collect();
    }
    let states = items(state);
    let state_of = |policy: &Item<'_>| states.iter().find(|state| state.name == policy.name);
    let mut all: Vec<Observed> =
        policies.iter().filter_map(|policy| one(profile, policy, state_of(policy), unreadable)).collect();
    // What is told of no policy that was announced is told all the same.
    let unannounced = states.iter().filter(|state| !policies.iter().any(|policy| policy.name == state.name));
    all.extend(unannounced.filter_map(|state| one(profile, state, Some(state), unreadable)));
    all
}

/// A named policy, with what is left of it.
fn one(
    profile: &Profile,
    policy: &Item<'_>,
    state: Option<&Item<'_>>,
    unreadable: &mut Unreadable,
) -> Option<Observed> {
    // Draft 7 has the quota itself where later ones have the policy's name.
    let quota = policy.parameters.get("q").copied().or_else(|| amount(policy.name).map(|_| policy.name));
    let unit = match policy.parameters.get("qu").map(|unit| unquoted(unit)) {
        None | Some("requests" | "request") => REQUESTS,
        Some("concurrent-requests") => IN_FLIGHT,
        Some("content-bytes") => "content_bytes",
        Some(_) => return None,
    };
    let per = policy.parameters.get("w").and_then(|window| believable(seconds(window), unreadable));
    let (remaining, reset) = state.map_or((None, None), |state| {
        (state.parameters.get("r").copied(), state.parameters.get("t").copied())
    });
    let per = if unit == IN_FLIGHT { None } else { per.filter(|per| !per.is_zero()) };
    says_something(Observed {
        limit: quota.and_then(|quota| readable_limit(amount(quota), unreadable)),
        remaining: remaining.and_then(|text| left(text, unreadable)),
        reset: reset.and_then(|text| believable(seconds(text), unreadable)),
        ..nothing(profile, unit, per)
    })
}

/// Draft 7: `limit=100, remaining=50, reset=30`.
fn plain(state: &str) -> Option<BTreeMap<&str, &str>> {
    let parameters: BTreeMap<&str, &str> =
        state.split(',').take(POLICIES_MAX).filter_map(|part| part.trim().split_once('=')).collect();
    ["limit", "remaining", "reset"].iter().any(|name| parameters.contains_key(name)).then_some(parameters)
}

fn plain_limit(
    profile: &Profile,
    plain: &BTreeMap<&str, &str>,
    policies: &[Item<'_>],
    unreadable: &mut Unreadable,
) -> Option<Observed> {
    let limit = plain.get("limit").and_then(|text| readable_limit(amount(text), unreadable));
    // The policy with this quota says in how long.
    let policy = policies.iter().find(|policy| limit.is_some() && amount(policy.name) == limit);
    let per = policy.and_then(|policy| policy.parameters.get("w")).and_then(|window| seconds(window));
    says_something(Observed {
        limit,
        remaining: plain.get("remaining").and_then(|text| left(text, unreadable)),
        reset: plain.get("reset").and_then(|text| believable(seconds(text), unreadable)),
        ..nothing(profile, REQUESTS, per.filter(|per| !per.is_zero()))
    })
}

fn left(text: &str, unreadable: &mut Unreadable) -> Option<u64> {
    let read = amount(text);
    unreadable.remainings += u64::from(read.is_none());
    read
}

/// The items of a structured list (RFC 9651) as far as it is used here: names or numbers with parameters.
fn items(text: &str) -> Vec<Item<'_>> {
    split(text, ',')
        .take(POLICIES_MAX)
        .filter_map(|item| {
            let mut parts = split(item, ';');
            let name = unquoted(parts.next()?.trim());
            let parameters = parts.filter_map(|part| part.trim().split_once('=')).collect();
            (!name.is_empty()).then_some(Item { name, parameters })
        })
        .collect()
}

/// Splits at `at`, but not within quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
