//! What differs between providers on the wire. Everything else about a call is the same for all of them.

use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;

use super::{account::Cost, account::Levels, account::Limited, world::Admitted};

/// Why a call gets an error.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The call is wrong in itself; says how.
    Invalid(String),
    /// No key.
    Unauthenticated,
    /// No such path.
    NotFound,
    /// The body has more bytes than this.
    TooLarge(usize),
    /// A limit.
    Limited(Limited),
    /// No capacity.
    Overloaded,
}

/// What a call asks for, as far as its body says.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) model: String,
    pub(crate) output_tokens_max: u64,
    pub(crate) stream: bool,
    /// Whether the stream's end tells the usage.
    pub(crate) stream_usage: bool,
}

/// An answer in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) id: &'a str,
    pub(crate) model: &'a str,
    pub(crate) at: Timestamp,
    pub(crate) call: &'a Admitted,
    /// Whether `max_tokens` cut the output off.
    pub(crate) cut_off: bool,
    pub(crate) stream_usage: bool,
}

/// One provider's way of saying things.
pub(crate) trait Shape: Sync {
    /// The key that a call is made with.
    fn key(&self, headers: &HeaderMap) -> Option<String>;
    /// Reads a body, or says what is wrong with it.
    fn read(&self, body: &Value) -> Result<Wanted, String>;
    /// What a call takes from which limits when it starts.
    fn cost(&self, input_tokens: u64, output_tokens_max: u64) -> Cost;
    /// An error's status and body.
    fn fault(&self, fault: &Fault, request_id: &str) -> (StatusCode, Value);
    /// Rate-limit headers, for answers and refusals alike.
    fn level_headers(&self, levels: &Levels, at: Timestamp) -> Vec<(&'static str, String)>;
    /// The header that names the request.
    fn request_id_header(&self) -> &'static str;
    /// A whole answer.
    fn answer(&self, answer: &Answer<'_>) -> Value;
    /// A streamed answer: what is sent before the output, the pieces of output, and what is sent after it.
    fn events(&self, answer: &Answer<'_>, pieces: usize) -> Vec<String>;
}

/// The key in `authorization: Bearer KEY`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then(|| key.to_owned())
}

/// What every simulated answer says, as often as it takes to fill `pieces`.
pub(crate) fn piece(at: usize) -> &'static str {
    const WORDS: [&str; 6] = ["This ", "answer ", "is ", "made ", "of ", "tokens. "];
    WORDS[at % WORDS.len()]
}

/// An optional positive integer of a body.
pub(crate) fn positive(body: &Value, field: &str) -> Result<Option<u64>, String> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number >= 1 => Ok(Some(number)),
            _ => Err(format!("{field}: must be an integer, at least 1")),
        },
    }
}

/// The `messages` and `model` that both shapes require.
pub(crate) fn model_of_messages(body: &Value) -> Result<String, String> {
    let model = body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
    let model = model.ok_or("model: field required")?;
    match body.get("messages").and_then(Value::as_array) {
        Some(messages) if !messages.is_empty() => Ok(model.to_owned()),
        Some(_) => Err("messages: at least one message is required".to_owned()),
        None => Err("messages: field required".to_owned()),
    }
}
