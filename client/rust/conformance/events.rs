//! What is said of what happened, one JSON object in a line.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use permitd_client::{Advice, Error, Guard, Source, Usage};
use serde_json::{Map, Value, json};

use crate::fields::outcome_name;

/// Says it at once, whole, and in the order in which things happen.
pub(crate) fn say(event: &Value) {
    let mut out = stdout().lock();
    writeln!(out, "{event}").and_then(|()| out.flush()).expect("the suite reads");
}

pub(crate) fn granted(id: &str, guard: &Guard) -> Value {
    let from = match guard.permit().source() {
        Source::LocalShare => "local_share",
        Source::Unmanaged => "fail_open",
        _ => "server",
    };
    json!({ "event": "granted", "id": id, "from": from, "charged": amounts(guard.charged()) })
}

pub(crate) fn refused(id: &str, error: &Error) -> Value {
    json!({
        "event": "refused",
        "id": id,
        "reason": error.reason(),
        "limit": error.limit().unwrap_or_default(),
        "retry_after_ms": error.retry_after().map(millis),
        "message": error.to_string(),
    })
}

pub(crate) fn reported(id: &str, answer: Result<Advice, Error>) -> Value {
    match answer {
        Ok(advice) => json!({
            "event": "reported",
            "id": id,
            "outcome": outcome_name(advice.outcome),
            "settled": advice.settled,
            "retry": advice.retry,
            "retry_after_ms": advice.retry_after.map(millis),
        }),
        Err(error) => {
            json!({ "event": "failed", "id": id, "reason": error.reason(), "message": error.to_string() })
        }
    }
}

/// Units that are there, as text.
pub(crate) fn amounts(usage: &Usage) -> Value {
    let named = [
        ("requests", usage.requests),
        ("tokens", usage.tokens),
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("max_output_tokens", usage.max_output_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
    ];
    let text = |amount: u64| Value::from(amount.to_string());
    let mut amounts: Map<String, Value> =
        named.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), text(amount?)))).collect();
    if !usage.others.is_empty() {
        let others: Map<String, Value> =
            usage.others.iter().map(|(unit, amount)| (unit.clone(), text(*amount))).collect();
        amounts.insert("other".to_owned(), others.into());
    }
    amounts.into()
}

/// Rounded up: a wait that is cut short is none.
fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
