//! What the pages ask for: `AdminService` in JSON, of the shape that `--json` of the command line has. Every answer is bounded, and every
//! change says which state of the budget it is a change of.

use std::time::SystemTime;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use permitd_proto::v1::{self, admin_service_server::AdminService as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Console, Problem, described,
    overview::{Asked, Overview},
    visitor::Visitor,
};
use crate::{
    admin::write_limit,
    config::{BudgetName, parse_limit},
    shown::{budget_json, change_json, difference, explained_json, moment, shown},
    status::Fault,
};

/// Bytes of a change: room for as many limits as a budget may have, with the longest names.
const BODY_BYTES: usize = 256 * 1024;
/// Tenants that are told of a budget: the busiest.
const TENANTS: usize = 100;
/// Limits that are told of a budget; more can be declared only by caps of many tenants.
const LIMITS: usize = 256;
/// Changes on a page, and lines of what sets two declarations apart.
const CHANGES: u32 = 20;
const DIFFERENCES: usize = 50;

pub(super) fn routes(console: Console) -> Router {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/budget", get(budget))
        .route("/api/changes", get(changes))
        .route("/api/change", post(change))
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(console)
}

/// An answer, which is of this moment and of nobody else's business.
fn answer(value: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(value)).into_response()
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    let Query(query) = query.map_err(|rejection| Fault::invalid("query", rejection.body_text()))?;
    Ok(query)
}

/// Only JSON: pages of other sites can't send it without being asked for leave first, which they are not given.
fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    let Json(body) = body.map_err(|rejection| Fault::invalid("body", rejection.body_text()))?;
    Ok(body)
}

fn budget_name(text: &str) -> Result<BudgetName, Problem> {
    Ok(text.parse().map_err(Fault::from)?)
}

async fn overview(
    State(console): State<Console>,
    visitor: Visitor,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "ListBudgets")?;
    let overview = Overview::look(&console, &caller, &query(asked)?).await?;
    Ok(answer(json!({ "now": now(), "caller": described(&caller), "overview": overview })))
}

/// By the server's clock, so that what is left until a moment can be told by no other.
fn now() -> String {
    moment(&SystemTime::now().into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    budget: String,
}

async fn budget(
    State(console): State<Console>,
    visitor: Visitor,
    named: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "ExplainBudget")?;
    let name = budget_name(&query(named)?.budget)?;
    let request =
        v1::ExplainBudgetRequest { provider: name.provider().to_owned(), key: name.key().to_owned() };
    let mut explained = console
        .call(&caller, request, |admin, request| async move { admin.explain_budget(request).await })
        .await?;
    let (other_limits, other_tenants) = explained.state.as_mut().map(shorten).unwrap_or_default();
    let mut told = explained_json(&explained);
    told["now"] = now().into();
    told["caller"] = described(&caller);
    told["other_limits"] = other_limits.into();
    told["other_tenants"] = other_tenants.into();
    Ok(answer(told))
}

/// Leaves out all but the first limits and the busiest tenants; how many of each.
fn shorten(state: &mut v1::BudgetState) -> (usize, usize) {
    let busy = |tenant: &v1::TenantState| (tenant.waiting, tenant.in_flight, tenant.granted_total);
    state
        .tenants
        .sort_by(|one, other| busy(other).cmp(&busy(one)).then_with(|| one.tenant.cmp(&other.tenant)));
    let others = (state.limits.len().saturating_sub(LIMITS), state.tenants.len().saturating_sub(TENANTS));
    state.limits.truncate(LIMITS);
    state.tenants.truncate(TENANTS);
    if let Some(declared) = &mut state.budget {
        declared.tenants.retain(|name, _| state.tenants.iter().any(|shown| shown.tenant == *name));
    }
    others
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Page {
    /// Of this budget only; empty for all.
    budget: String,
    page_token: String,
}

async fn changes(
    State(console): State<Console>,
    visitor: Visitor,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "ListChanges")?;
    let Page { budget, page_token } = query(page)?;
    let (provider, key) = match &*budget {
        "" => Default::default(),
        name => {
            let name = budget_name(name)?;
            (name.provider().to_owned(), name.key().to_owned())
        }
    };
    let request = v1::ListChangesRequest { provider, key, page_size: CHANGES, page_token };
    let listed = console
        .call(&caller, request, |admin, request| async move { admin.list_changes(request).await })
        .await?;
    let changes: Vec<Value> = listed.changes.iter().map(in_short).collect();
    Ok(answer(json!({ "changes": changes, "next_page_token": listed.next_page_token })))
}

/// A change without the two declarations that it lies between, which may be long, as may be what sets them apart.
fn in_short(change: &v1::Change) -> Value {
    let mut lines = difference(change.before.as_ref(), change.after.as_ref());
    let others = lines.len().saturating_sub(DIFFERENCES);
    lines.truncate(DIFFERENCES);
    lines.extend((others > 0).then(|| format!("and {others} more")));
    let mut told = change_json(change);
    told["difference"] = lines.into();
    let declarations = ["before", "after"];
    told.as_object_mut().expect("a change is one").retain(|field, _| !declarations.contains(&&**field));
    told
}

/// Other limits for a budget. All else that is declared stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
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

async fn change(
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
struct Steered {
    budget: String,
    #[serde(default)]
    reason: String,
}

async fn pause(
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

async fn resume(
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

    /// Goal: answers are bounded however much is declared, and have what matters.
    #[test]
    fn answers_are_bounded() {
        let tenant = |number: u32| v1::TenantState {
            tenant: number.to_string(),
            waiting: number,
            ..v1::TenantState::default()
        };
        let declared = v1::Budget {
            tenants: (0..1_000).map(|number| (number.to_string(), v1::Tenant::default())).collect(),
            ..v1::Budget::default()
        };
        let mut state = v1::BudgetState {
            budget: Some(declared.clone()),
            limits: vec![v1::LimitState::default(); 1_000],
            tenants: (0..1_000).map(tenant).collect(),
            ..v1::BudgetState::default()
        };
        assert_eq!(shorten(&mut state), (744, 900));
        assert_eq!(
            (state.limits.len(), state.tenants.len(), state.tenants[0].waiting),
            (LIMITS, TENANTS, 999)
        );
        assert_eq!(state.budget.expect("given").tenants.len(), TENANTS);
        let told = in_short(&v1::Change { before: Some(declared), ..v1::Change::default() });
        assert_eq!(told["difference"].as_array().map(Vec::len), Some(DIFFERENCES + 1));
        assert_eq!(told["difference"][DIFFERENCES], "and 950 more");
        assert!(told.get("before").is_none(), "{told}");
    }
}
