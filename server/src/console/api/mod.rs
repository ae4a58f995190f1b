//! What the pages ask for: `AdminService` in JSON, of the shape that `--json` of the command line has. Every answer is bounded, and every
//! change says which state of the budget it is a change of.

mod deeds;
mod looks;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Query,
        rejection::{JsonRejection, QueryRejection},
    },
    http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Console, Problem};
use crate::{config::BudgetName, status::Fault};

/// Bytes of a change: room for as many limits as a budget may have, with the longest names.
const BODY_BYTES: usize = 256 * 1024;

pub(super) fn routes(console: Console) -> Router {
    Router::new()
        .route("/api/overview", get(looks::overview))
        .route("/api/budget", get(looks::budget))
        .route("/api/pool", get(looks::pool))
        .route("/api/schedule", get(looks::schedule))
        .route("/api/changes", get(looks::changes))
        .route("/api/change", post(deeds::change))
        .route("/api/pause", post(deeds::pause))
        .route("/api/resume", post(deeds::resume))
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

/// A budget, by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    budget: String,
}
