//! What a response tells of the provider's limits: by the profile's header rules, by the headers that the IETF drafts, and by the
//! profile's places in the body.

use std::time::Duration;

use permitd_budget::{OBSERVED_MAX, Observed, Window};
use serde_json::Value;

use super::{
    Unreadable, drafts,
    response::Seen,
    values::{amount, reset},
};
use crate::profile::{BodyLimitRule, Field, HeaderRule, Pointer, Profile, Response as _};

/// A reset further away is not believed: the longest window of a provider is a month.
const RESET_MAX: Duration = Duration::from_secs(32 * 86_400);

/// At most [`OBSERVED_MAX`] limits, the profile's own first.
pub(super) fn observed(profile: &Profile, seen: &Seen<'_>, unreadable: &mut Unreadable) -> Vec<Observed> {
    let mut all = Vec::new();
    if seen.has_headers() {
        let mut read: Vec<&str> = Vec::new();
        for rule in profile.headers.iter().filter(|rule| applies(rule, seen)) {
            // Of rules for the same headers, one counts.
            if !read.contains(&rule.names.as_str()) {
                read.push(&rule.names);
                by_headers(profile, rule, seen, unreadable).into_iter().for_each(|new| add(&mut all, new));
            }
        }
        if all.is_empty() {
            all.extend(drafts::observed(profile, seen, unreadable));
        }
    }
    if let Some(json) = seen.json() {
        profile
            .bodies
            .iter()
            .filter_map(|rule| by_body(profile, rule, json))
            .for_each(|new| add(&mut all, new));
    }
    all.truncate(OBSERVED_MAX);
    all
}

/// Adds a limit; of two on the same, as for a project within an organisation, the nearer one counts.
fn add(all: &mut Vec<Observed>, new: Observed) {
    let same = |one: &&mut Observed| one.unit == new.unit && one.per == new.per && one.models == new.models;
    let Some(known) = all.iter_mut().find(same) else { return all.push(new) };
    let nearer = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    if new.remaining.is_some() && new.remaining <= known.remaining {
        known.reset = new.reset;
    }
    known.limit = nearer(known.limit, new.limit);
    known.remaining = nearer(known.remaining, new.remaining);
}

/// One limit of which nothing is told yet.
pub(super) fn nothing(profile: &Profile, unit: &str, per: Option<Duration>) -> Observed {
    let window = profile.window(unit, per).map_or(Window::Bucket, |rule| rule.window);
    Observed {
        unit: unit.into(),
        per,
        models: "".into(),
        window,
        limit: None,
        remaining: None,
        rounded_to: 0,
        reset: None,
    }
}

/// A reset that is near enough to be believed.
pub(super) fn believable(read: Option<Duration>, unreadable: &mut Unreadable) -> Option<Duration> {
    let reset = read.filter(|reset| *reset <= RESET_MAX);
    unreadable.resets += u64::from(reset.is_none());
    reset
}

/// The limit, if it can be read.
pub(super) fn readable_limit(read: Option<u64>, unreadable: &mut Unreadable) -> Option<u64> {
    unreadable.limits += u64::from(read.is_none());
    read
}

fn applies(rule: &HeaderRule, seen: &Seen<'_>) -> bool {
    let told = |(name, wanted): &(String, String)| {
        seen.value(name).is_none_or(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    rule.when.as_ref().is_none_or(told)
}

fn by_headers(
    profile: &Profile,
    rule: &HeaderRule,
    seen: &Seen<'_>,
    unreadable: &mut Unreadable,
) -> Option<Observed> {
    let value = |field: Field| {
        let value = seen.value(&rule.name(field))?.trim();
        (!rule.ignore.iter().any(|ignored| ignored == value)).then_some(value)
    };
    let [limit, remaining, until] = [Field::Limit, Field::Remaining, Field::Reset].map(value);
    let remaining = remaining.and_then(|text| {
        let read = amount(text);
        unreadable.remainings += u64::from(read.is_none());
        read
    });
    let found = Observed {
        limit: limit.and_then(|text| readable_limit(amount(text), unreadable)),
        remaining,
        rounded_to: rule.rounded_to,
        reset: until.and_then(|text| believable(reset(text, rule.reset, seen.there), unreadable)),
        models: rule.models.as_str().into(),
        ..nothing(profile, &rule.unit, rule.per)
    };
    says_something(found)
}

fn by_body(profile: &Profile, rule: &BodyLimitRule, json: &Value) -> Option<Observed> {
    let whole = |pointer: &Option<Pointer>| {
        let mut found = None;
        pointer.as_ref()?.find(json, &mut |value| {
            found = value.as_number().and_then(|number| amount(&number.to_string()));
            found.is_some()
        });
        found
    };
    says_something(Observed {
        limit: whole(&rule.limit),
        remaining: whole(&rule.remaining),
        ..nothing(profile, &rule.unit, rule.per)
    })
}

/// A limit of 0 is none: it is said of what an account may not use at all, and what is left of it says nothing.
pub(super) fn says_something(found: Observed) -> Option<Observed> {
    let told = found.limit.is_some() || found.remaining.is_some();
    (told && found.limit != Some(0)).then_some(found)
}
