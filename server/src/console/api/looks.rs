//! What is seen: all budgets and pools, one of them, and who changed what.

use std::{collections::HashSet, time::SystemTime};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use permitd_budget::CheckedSpec;
use permitd_proto::v1::{self, admin_service_server::AdminService as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task;

use super::{
    super::{
        Console, Problem, described,
        overview::{Asked, Overview},
        visitor::Visitor,
    },
    Named, answer, budget_name, query,
};
use crate::{
    admin::read_budget,
    schedule::{course, wall},
    shown::{change_json, changed, command, explained_json, in_force_json, moment, pool_json},
    status::Fault,
};

/// Tenants that are told of a budget: the busiest.
const TENANTS: usize = 100;
/// Limits that are told of a budget; more can be declared only by caps of many tenants.
const LIMITS: usize = 256;
/// Changes on a page, and lines of what sets two declarations apart.
const CHANGES: u32 = 20;
const DIFFERENCES: usize = 50;
/// How far a schedule is told ahead, and in how many stretches at most.
const AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
const STRETCHES: usize = 12;

pub(super) async fn overview(
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

pub(super) async fn budget(
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
    let declared = explained.state.as_ref().and_then(|state| state.budget.as_ref());
    let command = declared.filter(|declared| declared.tenants.len() <= TENANTS).map(command);
    let (other_limits, other_tenants) = explained.state.as_mut().map(shorten).unwrap_or_default();
    let mut told = explained_json(&explained);
    told["now"] = now().into();
    told["caller"] = described(&caller);
    // Of more tenants than are told of it would be too long to be read.
    told["command"] = command.into();
    told["other_limits"] = other_limits.into();
    told["other_tenants"] = other_tenants.into();
    Ok(answer(told))
}

/// A pool, by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolNamed {
    pool: String,
}

pub(super) async fn pool(
    State(console): State<Console>,
    visitor: Visitor,
    named: Result<Query<PoolNamed>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "GetPool")?;
    let name = budget_name(&query(named)?.pool)?;
    let request = v1::GetPoolRequest { provider: name.provider().to_owned(), key: name.key().to_owned() };
    let found =
        console.call(&caller, request, |admin, request| async move { admin.get_pool(request).await }).await?;
    let mut told = pool_json(&found.pool.unwrap_or_default());
    told["now"] = now().into();
    told["caller"] = described(&caller);
    Ok(answer(told))
}

/// Leaves out all but the first limits and the busiest tenants; how many of each. Whoever is declared is told of, busy or not.
fn shorten(state: &mut v1::BudgetState) -> (usize, usize) {
    let known: HashSet<&str> = state.tenants.iter().map(|tenant| &*tenant.tenant).collect();
    let declared = state.budget.iter().flat_map(|declared| declared.tenants.keys());
    let idle = declared.filter(|name| !known.contains(&***name)).cloned();
    let idle: Vec<_> = idle.map(|tenant| v1::TenantState { tenant, ..v1::TenantState::default() }).collect();
    state.tenants.extend(idle);
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

/// Which limits are in force by the hours, from now on.
pub(super) async fn schedule(
    State(console): State<Console>,
    visitor: Visitor,
    named: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = console.admit(&visitor, "GetBudget")?;
    let name = budget_name(&query(named)?.budget)?;
    let request = v1::GetBudgetRequest { provider: name.provider().to_owned(), key: name.key().to_owned() };
    let found = console
        .call(&caller, request, |admin, request| async move { admin.get_budget(request).await })
        .await?;
    let (_, spec) = read_budget(&found.state.and_then(|state| state.budget).unwrap_or_default())?;
    // Many hours of many places take their time: off the threads that hand out permits. It fails only where the server stops.
    let told = task::spawn_blocking(move || course_json(spec)).await;
    Ok(answer(told.map_err(|_| Fault::draining())?))
}

fn course_json(spec: CheckedSpec) -> Value {
    let (from, zone) = (wall(), spec.schedule.first().map(|entry| &*entry.hours.zone));
    let until = from.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    let told = course(&spec, from, until, STRETCHES);
    let told: Vec<Value> = told.iter().map(|in_force| in_force_json(&spec, in_force)).collect();
    json!({ "zone": zone, "course": told })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Page {
    /// Of this budget only; empty for all.
    budget: String,
    page_token: String,
}

pub(super) async fn changes(
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
    let caller = described(&caller);
    Ok(answer(json!({ "caller": caller, "changes": changes, "next_page_token": listed.next_page_token })))
}

/// A change without the two declarations that it lies between, which may be long, as may be what sets them apart.
fn in_short(change: &v1::Change) -> Value {
    let mut lines = changed(change);
    let others = lines.len().saturating_sub(DIFFERENCES);
    lines.truncate(DIFFERENCES);
    lines.extend((others > 0).then(|| format!("and {others} more")));
    let mut told = change_json(change);
    told["difference"] = lines.into();
    let declarations = ["before", "after"];
    told.as_object_mut().expect("a change is one").retain(|field, _| !declarations.contains(&&**field));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut idle = v1::BudgetState {
            budget: Some(declared.clone()),
            tenants: vec![tenant(7)],
            ..v1::BudgetState::default()
        };
        assert_eq!(shorten(&mut idle), (0, 900), "whoever is declared is told of without having asked");
        assert_eq!(
            (&*idle.tenants[0].tenant, idle.tenants.len()),
            ("7", TENANTS),
            "and behind those who have"
        );
        let told = in_short(&v1::Change { before: Some(declared), ..v1::Change::default() });
        assert_eq!(told["difference"].as_array().map(Vec::len), Some(DIFFERENCES + 1));
        assert_eq!(told["difference"][DIFFERENCES], "and 950 more");
        assert!(told.get("before").is_none(), "{told}");
    }
}
