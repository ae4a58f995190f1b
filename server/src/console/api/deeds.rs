//! What is done: other limits, a pause and its end.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    response::Response,
};
use permitd_proto::v1::{self, admin_service_server::AdminService as _};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{Console, Problem, visitor::Visitor},
    Named, answer, body, budget_name,
};
use crate::{
    admin::write_limit,
    config::parse_limit,
    shown::{budget_json, difference, shown},
    status::Fault,
};

/// Other limits for a budget. All else that is declared stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    budget: String,
    /// Of the state that was looked at: if it is another one by now, nothing is changed.
    etag: String,
    /// As `--limit` takes them.
    limits: Vec<String>,
    #[serde(default)]
    reason: String,
    /// Says what the change would be, and changes nothing.
    #[serde(default)]
    validate_only: bool,
}

pub(super) async fn change(
    State(console): State<Console>,
    visitor: Visitor,
    change: Result<Json<Change>, JsonRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "SetBudget")?;
    let Change { budget, etag, limits, reason, validate_only } = body(change)?;
    if etag.is_empty() {
        return Err(Fault::invalid("etag", "is missing; give the one of the state that you looked at").into());
    }
    let name = budget_name(&budget)?;
    let request = v1::GetBudgetRequest { provider: name.provider().to_owned(), key: name.key().to_owned() };
    let found = console
        .call(&caller, request, |admin, request| async move { admin.get_budget(request).await })
        .await?;
    let before = found.state.and_then(|state| state.budget).unwrap_or_default();
    let limits = read_limits(&limits, &before.limits)?;
    let request = v1::SetBudgetRequest {
        budget: Some(v1::Budget { limits, etag, ..before.clone() }),
        validate_only,
        reason,
    };
    let set = console
        .call(&caller, request, |admin, request| async move { admin.set_budget(request).await })
        .await?;
    let after = set.budget.unwrap_or_default();
    let difference = difference(Some(&before), Some(&after));
    Ok(answer(json!({ "declared": budget_json(&after), "difference": difference })))
}

/// What is written as it stands is kept as it stands, since not every limit can be written in one line.
fn read_limits(written: &[String], declared: &[v1::Limit]) -> Result<Vec<v1::Limit>, Fault> {
    let read = |(at, text): (usize, &String)| {
        if let Some(limit) = declared.iter().find(|limit| shown(limit).text == *text) {
            return Ok(limit.clone());
        }
        let limit = parse_limit(text);
        let limit = limit.map_err(|error| Fault::invalid(format!("limits[{at}]"), error.to_string()))?;
        Ok(write_limit(&limit))
    };
    written.iter().enumerate().map(read).collect()
}

/// A budget to pause or to resume.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steered {
    budget: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn pause(
    State(console): State<Console>,
    visitor: Visitor,
    steered: Result<Json<Steered>, JsonRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "PauseBudget")?;
    let Steered { budget, reason } = body(steered)?;
    let name = budget_name(&budget)?;
    let (provider, key) = (name.provider().to_owned(), name.key().to_owned());
    let request = v1::PauseBudgetRequest { provider, key, reason };
    console.call(&caller, request, |admin, request| async move { admin.pause_budget(request).await }).await?;
    Ok(answer(json!({ "done": "paused" })))
}

pub(super) async fn resume(
    State(console): State<Console>,
    visitor: Visitor,
    named: Result<Json<Named>, JsonRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "ResumeBudget")?;
    let name = budget_name(&body(named)?.budget)?;
    let request =
        v1::ResumeBudgetRequest { provider: name.provider().to_owned(), key: name.key().to_owned() };
    console
        .call(&caller, request, |admin, request| async move { admin.resume_budget(request).await })
        .await?;
    Ok(answer(json!({ "done": "resumed" })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a limit that can't be written in one line stays as it is while others change, and what is wrong is named.
    #[test]
    fn keeps_what_stands() {
        let comma =
            v1::Limit { unit: "requests".to_owned(), amount: 5, models: "a,b".to_owned(), ..minute() };
        let written = [shown(&comma).text, "tokens=2k/1m".to_owned()];
        let read = read_limits(&written, &[minute(), comma.clone()]).expect("limits");
        assert_eq!(read[0], comma);
        assert_eq!((&*read[1].unit, read[1].amount), ("tokens", 2_000));
        let wrong = read_limits(&["in_flight=1".to_owned(), "requests=many/1m".to_owned()], &[]);
        assert!(wrong.expect_err("no amount").message().starts_with("limits[1]: amount: "));
    }

    fn minute() -> v1::Limit {
        let per = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        v1::Limit { unit: "requests".to_owned(), amount: 60, per, ..v1::Limit::default() }
    }
}
