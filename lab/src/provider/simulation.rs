//! The paths under `/sim/`, which no real provider has: to steer the simulator and to read what it counted.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Shared,
    config::{Behaviour, Changeable, ConfigError, Limits},
    stats::Stats,
};

pub(crate) async fn limits(State(shared): State<Arc<Shared>>) -> Json<Limits> {
    Json(shared.world.lock().limits())
}

pub(crate) async fn set_limits(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let now = shared.now();
    let changed = {
        let mut world = shared.world.lock();
        patched(&world.limits(), &body).inspect(|limits| world.set_limits(now, *limits))
    };
    shared.turns.look_again();
    answer(changed)
}

pub(crate) async fn behaviour(State(shared): State<Arc<Shared>>) -> Json<Behaviour> {
    Json(shared.world.lock().behaviour())
}

pub(crate) async fn set_behaviour(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let mut world = shared.world.lock();
    let changed = patched(&world.behaviour(), &body);
    answer(changed.inspect(|behaviour| world.set_behaviour(*behaviour)))
}

pub(crate) async fn stats(State(shared): State<Arc<Shared>>) -> Json<Stats> {
    let now = shared.now();
    Json(shared.world.lock().stats(now))
}

pub(crate) async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    let now = shared.now();
    shared.world.lock().reset(now);
    shared.turns.look_again();
    StatusCode::NO_CONTENT
}

fn patched<T: Changeable>(current: &T, body: &[u8]) -> Result<T, String> {
    let patch: Value = serde_json::from_slice(body).map_err(|error| format!("not valid JSON: {error}"))?;
    current.patched(&patch).map_err(|error: ConfigError| error.to_string())
}

fn answer<T: Changeable>(changed: Result<T, String>) -> Response {
    match changed {
        Ok(now_valid) => Json(now_valid).into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, Json(json!({"error": problem}))).into_response(),
    }
}
