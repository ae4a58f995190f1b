//! What a response says about how the call went, read by the rules of its provider's profile. Pure: the same response at the same
//! moment always reads the same. Nothing in it is believed that makes no sense, and nothing makes it panic.

mod drafts;
mod limits;
mod response;
#[cfg(test)]
mod tests;
mod values;
mod wait;

use std::time::Duration;

use permitd_budget::{Observed, Outcome, Time, Tripped};

pub(crate) use response::Parts;
use response::Seen;
pub(crate) use wait::WAIT_MAX;

use crate::profile::{Class, Profile, RefusalRule};

/// Dimensions that one refusal may name; further ones are not looked at.
const TRIPPED_MAX: usize = 8;

/// What a response came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) outcome: Outcome,
    /// What the provider asks for, or what is known of refusals like this; at most [`WAIT_MAX`].
    pub(crate) wait: Option<Duration>,
    /// What a refusal for a rate is about; empty where nothing tells.
    pub(crate) tripped: Vec<Tripped>,
    /// What is told of the limits.
    pub(crate) observed: Vec<Observed>,
    pub(crate) unreadable: Unreadable,
}

/// How many values made no sense, by what they would have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) waits: u64,
    pub(crate) limits: u64,
    pub(crate) remainings: u64,
    pub(crate) resets: u64,
    /// Bodies that begin like JSON and are none.
    pub(crate) bodies: u64,
}

/// Reads a response. An outcome that the caller gives is believed, whatever the response says.
pub(crate) fn read(profile: &Profile, told: Option<Outcome>, parts: &Parts<'_>, now: Time) -> Reading {
    let mut unreadable = Unreadable::default();
    let seen = Seen::new(parts, now, &mut unreadable);
    let asked = wait::asked(profile, &seen, &mut unreadable);
    let rule = told.is_none().then(|| refusal(profile, &seen, asked.is_some())).flatten();
    let outcome = match (told, rule) {
        (Some(told), _) => told,
        (None, Some(rule)) => rule.class.outcome(),
        (None, None) => by_status(parts.status),
    };
    let observed = limits::observed(profile, &seen, &mut unreadable);
    let tripped = match outcome {
        Outcome::RateLimited => tripped(profile, &seen, &observed),
        _ => Vec::new(),
    };
    let wait = match outcome {
        Outcome::Success | Outcome::TooLarge | Outcome::Cancelled => None,
        Outcome::Failed { .. } => asked,
        _ => asked
            .or_else(|| wait::reset(outcome, &tripped, &observed))
            .or_else(|| wait::boundary(profile, &tripped, now))
            .or_else(|| rule.or_else(|| refusal_like(profile, outcome, &seen)).and_then(|rule| rule.wait)),
    };
    Reading { outcome, wait: wait.map(|wait| wait.min(WAIT_MAX)), tripped, observed, unreadable }
}

/// A failure, whatever class the status is of. Every 4xx would fail again, but for a timeout; without a status it was a timeout
/// or a connection that broke.
pub(crate) fn failed(status: u32) -> Outcome {
    Outcome::Failed { retryable: status == 408 || !(400..=499).contains(&status) }
}

/// What a status says for every provider alike; 0 means that there was none.
fn by_status(status: u32) -> Outcome {
    match status {
        0 | 200..=399 => Outcome::Success,
        429 => Outcome::RateLimited,
        503 | 529 => Outcome::Overloaded,
        413 => Outcome::TooLarge,
        _ => failed(status),
    }
}

/// The first rule that the response is like. A wait beats prose about quotas: what comes back by itself is not used up.
fn refusal<'a>(profile: &'a Profile, seen: &Seen<'_>, waits: bool) -> Option<&'a RefusalRule> {
    let believed =
        |rule: &RefusalRule| !(waits && rule.class == Class::QuotaExhausted && rule.when.is_prose());
    profile.refusals.iter().find(|rule| believed(rule) && rule.when.holds(seen))
}

/// The first rule of that outcome, for a caller who says the outcome itself.
fn refusal_like<'a>(profile: &'a Profile, outcome: Outcome, seen: &Seen<'_>) -> Option<&'a RefusalRule> {
    profile.refusals.iter().find(|rule| rule.class.outcome() == outcome && rule.when.holds(seen))
}

/// The dimensions that the refusal names, else those of which nothing is left.
fn tripped(profile: &Profile, seen: &Seen<'_>, observed: &[Observed]) -> Vec<Tripped> {
    let mut tripped: Vec<Tripped> = Vec::new();
    let mut add = |unit: &str, per: Option<Duration>| {
        let new = Tripped { unit: unit.into(), per };
        if tripped.len() < TRIPPED_MAX && !tripped.contains(&new) {
            tripped.push(new);
        }
    };
    let named = profile.dimensions.iter().filter(|rule| rule.when.holds_whatever_the_status(seen));
    named.for_each(|rule| add(&rule.unit, rule.per));
    if tripped.is_empty() {
        let mut add = |limit: &Observed| tripped.push(Tripped { unit: limit.unit.clone(), per: limit.per });
        observed.iter().filter(|limit| limit.remaining == Some(0)).take(TRIPPED_MAX).for_each(&mut add);
    }
    tripped
}

impl Class {
    /// As the heart has it.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Class::RateLimited => Outcome::RateLimited,
            Class::ConcurrencyLimited => Outcome::ConcurrencyLimited,
            Class::Overloaded => Outcome::Overloaded,
            Class::AccelerationLimited => Outcome::AccelerationLimited,
            Class::QuotaExhausted => Outcome::QuotaExhausted,
            Class::TooLarge => Outcome::TooLarge,
            Class::Failed { retryable } => Outcome::Failed { retryable },
        }
    }
}
