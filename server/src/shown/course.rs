//! Limits by the hours: of what is in force at some time, those that the schedule names.

use permitd_budget::{CheckedSpec, LimitSpec};
use serde_json::{Value, json};

use crate::{config::LimitText, schedule::InForce};

/// Of what is in force, the limits that the schedule names.
pub fn scheduled<'a>(spec: &'a CheckedSpec, in_force: &'a InForce) -> impl Iterator<Item = &'a LimitSpec> {
    let named = |limit: &&LimitSpec| spec.schedule.iter().any(|entry| entry.limit.same_identity(limit));
    in_force.spec.limits.iter().filter(named)
}

/// What is in force, and from when to when, as JSON.
#[must_use]
pub fn in_force_json(spec: &CheckedSpec, in_force: &InForce) -> Value {
    json!({
        "from": in_force.from.to_string(),
        "until": in_force.until.to_string(),
        "limits": scheduled(spec, in_force).map(|limit| LimitText(limit).to_string()).collect::<Vec<_>>(),
    })
}
