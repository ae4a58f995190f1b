//! A call from its request to its answer: read, admitted or refused, waited for, settled, answered.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

use super::{
    Shared,
    account::Levels,
    buckets::Nanos,
    shape::{Answer, Fault, Shape, Wanted},
    turns,
    world::{Admitted, Ask, Refusal},
};

/// Names the client in the counters.
pub(crate) const CLIENT_HEADER: &str = "x-sim-client";
/// Which of the client's calls this is, so that a repeat of a refused call has the same latency and output.
pub(crate) const CALL_HEADER: &str = "x-sim-call";
/// What the input really counts for; without it, a quarter of the body's bytes.
pub(crate) const INPUT_TOKENS_HEADER: &str = "x-sim-input-tokens";

/// Asks to wait in the provider until the call fits, `fair` or `urgent`.
pub(crate) const TURN_HEADER: &str = "x-sim-turn";

/// The longest key or client name.
const NAME_BYTES: usize = 256;
/// The most tokens that one call can claim to send.
const INPUT_TOKENS_MAX: u64 = 100_000_000;
/// Pieces of output in a stream.
const PIECES: usize = 12;

/// Answers one call.
pub(crate) async fn call(shared: Arc<Shared>, shape: &'static dyn Shape, request: Request) -> Response {
    let id = shared.next_id();
    let (parts, body) = request.into_parts();
    let faulty = |fault: &Fault, key: &str| refuse(&shared, shape, &id, fault, key);

    let Some(key) = shape.key(&parts.headers).filter(|key| key.len() <= NAME_BYTES) else {
        return faulty(&Fault::Unauthenticated, "");
    };
    let client = name(&parts.headers, &key);
    let bytes = match to_bytes(body, shared.bounds.body_bytes).await {
        Ok(bytes) => bytes,
        Err(_) => return faulty(&Fault::TooLarge(shared.bounds.body_bytes), &key),
    };
    let (ask, wanted) = match understand(shape, &parts.headers, &bytes, key.clone(), client.clone()) {
        Ok(understood) => understood,
        Err(problem) => {
            shared.world.lock().count_invalid(&key, &client);
            return faulty(&Fault::Invalid(problem), &key);
        }
    };
    let begun = match turn(&parts.headers) {
        Ok(None) => shared.world.lock().begin(shared.now(), &ask),
        Ok(Some(urgent)) => turns::admitted(&shared, &ask, urgent).await,
        Err(problem) => return faulty(&Fault::Invalid(problem), &key),
    };
    let admitted = match begun {
        Ok(admitted) => admitted,
        Err(Refusal::Limited(limited)) => return faulty(&Fault::Limited(limited), &key),
        Err(Refusal::Overloaded) => return faulty(&Fault::Overloaded, &key),
        Err(Refusal::Full(what, most)) => {
            let problem =
                format!("this simulator holds {most} {what}; POST /sim/reset forgets those that it knows");
            return faulty(&Fault::Invalid(problem), &key);
        }
    };
    let running = Running { shared: Arc::clone(&shared), call: admitted, answered: false };
    if wanted.stream {
        streamed(running, shape, &id, &wanted, &ask)
    } else {
        whole(running, shape, &id, &wanted, &ask).await
    }
}

/// A call that ends when this is dropped, whatever happens to its caller.
struct Running {
    shared: Arc<Shared>,
    call: Admitted,
    answered: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.world.lock().end(now, &self.call, self.answered);
        self.shared.turns.look_again();
    }
}

async fn whole(
    mut running: Running,
    shape: &'static dyn Shape,
    id: &str,
    wanted: &Wanted,
    ask: &Ask,
) -> Response {
    tokio::time::sleep(running.call.latency).await;
    let shared = Arc::clone(&running.shared);
    let body = shape.answer(&answer(&running, id, wanted)).to_string();
    running.answered = true;
    // Settled before the headers are made, so that they tell what is left after this call.
    drop(running);
    let mut response = Response::new(Body::from(body));
    decorate(&shared, shape, &mut response, id, &ask.key, "application/json");
    response
}

fn streamed(running: Running, shape: &'static dyn Shape, id: &str, wanted: &Wanted, ask: &Ask) -> Response {
    let shared = Arc::clone(&running.shared);
    let events = shape.events(&answer(&running, id, wanted), PIECES);
    let pause = running.call.latency / u32::try_from(events.len()).unwrap_or(1);
    let begun = (events.into_iter(), running, tokio::time::Instant::now());
    let body = stream::unfold(begun, move |(mut events, mut running, before)| async move {
        let event = events.next()?;
        // From when it was due, or each piece would end later by what a timer is late.
        let due = before + pause;
        tokio::time::sleep_until(due).await;
        running.answered = events.len() == 0;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(event)), (events, running, due)))
    });
    let mut response = Response::new(Body::from_stream(body));
    decorate(&shared, shape, &mut response, id, &ask.key, "text/event-stream");
    response
}

fn answer<'a>(running: &'a Running, id: &'a str, wanted: &'a Wanted) -> Answer<'a> {
    Answer {
        id,
        model: &wanted.model,
        at: running.shared.wall(),
        call: &running.call,
        cut_off: running.call.output_tokens >= wanted.output_tokens_max,
        stream_usage: wanted.stream_usage,
    }
}

/// The provider's own error, with what its headers say.
pub(crate) fn refuse(shared: &Shared, shape: &dyn Shape, id: &str, fault: &Fault, key: &str) -> Response {
    let (status, body) = shape.fault(fault, id);
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    decorate(shared, shape, &mut response, id, key, "application/json");
    if let Fault::Limited(limited) = fault
        && shared.world.lock().behaviour().retry_after
        && let Some(wait) = limited.wait
    {
        // Whole seconds, rounded up: coming back then is never too early as far as this call alone goes.
        let seconds = Duration::from_nanos(wait).as_nanos().div_ceil(1_000_000_000).max(1);
        let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn decorate(
    shared: &Shared,
    shape: &dyn Shape,
    response: &mut Response,
    id: &str,
    key: &str,
    content: &'static str,
) {
    let now: Nanos = shared.now();
    let (levels, are_told) = {
        let mut world = shared.world.lock();
        (world.levels(now, key), world.behaviour().limit_headers)
    };
    let levels: Levels = if are_told { levels } else { Levels::default() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    let id = (shape.request_id_header(), id.to_owned());
    for (name, value) in shape.level_headers(&levels, shared.wall()).into_iter().chain([id]) {
        let value =
            HeaderValue::try_from(value).expect("digits, dates and identifiers are valid header values");
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn understand(
    shape: &dyn Shape,
    headers: &HeaderMap,
    bytes: &[u8],
    key: String,
    client: String,
) -> Result<(Ask, Wanted), String> {
    let body: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("The body is not valid JSON: {error}"))?;
    let wanted = shape.read(&body)?;
    let body_tokens = u64::try_from(bytes.len() / 4).unwrap_or(INPUT_TOKENS_MAX).max(1);
    let input_tokens = number(headers, INPUT_TOKENS_HEADER, INPUT_TOKENS_MAX)?.unwrap_or(body_tokens);
    let ask = Ask {
        key,
        client,
        number: number(headers, CALL_HEADER, u64::MAX)?,
        input_tokens,
        output_tokens_max: wanted.output_tokens_max,
        cost: shape.cost(input_tokens, wanted.output_tokens_max),
    };
    Ok((ask, wanted))
}

fn number(headers: &HeaderMap, name: &'static str, most: u64) -> Result<Option<u64>, String> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match number.filter(|number| *number <= most) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{name}: not an integer from 0 to {most}")),
    }
}

/// Whether the call wants to wait for its turn, and whether that is urgent.
fn turn(headers: &HeaderMap) -> Result<Option<bool>, String> {
    match headers.get(TURN_HEADER).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"fair") => Ok(Some(false)),
        Some(b"urgent") => Ok(Some(true)),
        Some(_) => Err(format!("{TURN_HEADER}: neither fair nor urgent")),
    }
}

/// The client's name for the counters; without one, its key.
fn name(headers: &HeaderMap, key: &str) -> String {
    let name = headers.get(CLIENT_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES).unwrap_or(key).to_owned()
}
