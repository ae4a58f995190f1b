//! Anthropic's shape: `POST /v1/messages`, three token triples in the headers, errors typed by name.

use axum::http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    account::{Cost, Dimension, Level, Levels, Limited},
    shape::{Answer, Fault, Shape, Wanted, bearer, model_of_messages, piece, positive},
};

/// The one instance.
pub(crate) struct Anthropic;

impl Shape for Anthropic {
    fn key(&self, headers: &HeaderMap) -> Option<String> {
        // Anthropic's own packages have used both.
        let Some(key) = headers.get("x-api-key") else { return bearer(headers) };
        let key = key.to_str().ok()?.trim();
        (!key.is_empty()).then(|| key.to_owned())
    }

    fn read(&self, body: &Value) -> Result<Wanted, String> {
        let model = model_of_messages(body)?;
        let output_tokens_max = positive(body, "max_tokens")?.ok_or("max_tokens: field required")?;
        let stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        Ok(Wanted { model, output_tokens_max, stream, stream_usage: true })
    }

    fn cost(&self, input_tokens: u64, _output_tokens_max: u64) -> Cost {
        Cost { input_tokens: Some(input_tokens), tokens: None, output_applies: true }
    }

    fn fault(&self, fault: &Fault, request_id: &str) -> (StatusCode, Value) {
        let (status, kind, message) = match fault {
            Fault::Invalid(problem) => (400, "invalid_request_error", problem.clone()),
            Fault::Unauthenticated => {
                (401, "authentication_error", "x-api-key header is required".to_owned())
            }
            Fault::NotFound => (404, "not_found_error", "Not found".to_owned()),
            Fault::TooLarge(bytes) => {
                (413, "request_too_large", format!("Request exceeds the maximum size of {bytes} bytes"))
            }
            Fault::Limited(limited) => (429, "rate_limit_error", limited_message(limited)),
            Fault::Overloaded => (529, "overloaded_error", "Overloaded".to_owned()),
        };
        let error = json!({"type": kind, "message": message});
        let status = StatusCode::from_u16(status).expect("a literal between 400 and 529");
        (status, json!({"type": "error", "error": error, "request_id": request_id}))
    }

    fn level_headers(&self, levels: &Levels, at: Timestamp) -> Vec<(&'static str, String)> {
        const REQUESTS: [&str; 3] = [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ];
        const INPUT: [&str; 3] = [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ];
        const OUTPUT: [&str; 3] = [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ];
        const TOKENS: [&str; 3] = [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ];
        let triples = [
            (REQUESTS, levels.requests, 1),
            (INPUT, levels.input_tokens, 1_000),
            (OUTPUT, levels.output_tokens, 1_000),
            (TOKENS, most_restrictive(levels), 1_000),
        ];
        let told = triples.into_iter().filter_map(|(names, level, step)| Some((names, level?, step)));
        told.flat_map(|(names, level, step)| {
            let reset = at.saturating_add(SignedDuration::from_nanos(
                i64::try_from(level.full_after).unwrap_or(i64::MAX),
            ));
            // In whole seconds, and never before the bucket is really full.
            let reset = reset
                .map_or(at.as_second(), |reset| reset.as_second() + i64::from(reset.subsec_nanosecond() > 0));
            let reset = Timestamp::from_second(reset).unwrap_or(Timestamp::MAX);
            let values =
                [level.limit.to_string(), rounded(level.remaining, step).to_string(), reset.to_string()];
            names.into_iter().zip(values)
        })
        .collect()
    }

    fn request_id_header(&self) -> &'static str {
        "request-id"
    }

    fn answer(&self, answer: &Answer<'_>) -> Value {
        let text: String = (0..6).map(piece).collect();
        let content = json!([{"type": "text", "text": text.trim_end()}]);
        message(answer, &content, stop_reason(answer).into(), answer.call.output_tokens)
    }

    fn events(&self, answer: &Answer<'_>, pieces: usize) -> Vec<String> {
        let start = message(answer, &json!([]), Value::Null, 1);
        let mut events = vec![
            event(&json!({"type": "message_start", "message": start})),
            event(
                &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
        ];
        events.extend((0..pieces).map(|at| {
            let delta = json!({"type": "text_delta", "text": piece(at)});
            event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
        }));
        let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
        let usage = json!({"output_tokens": answer.call.output_tokens});
        events.push(event(&json!({"type": "content_block_stop", "index": 0})));
        events.push(event(&json!({"type": "message_delta", "delta": delta, "usage": usage})));
        events.push(event(&json!({"type": "message_stop"})));
        events
    }
}

fn limited_message(limited: &Limited) -> String {
    let limit = limited.limit;
    let what = match limited.dimension {
        Dimension::Concurrency => {
            return "Number of concurrent connections has exceeded your rate limit. Please try again later."
                .to_owned();
        }
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::Tokens => "tokens",
    };
    format!(
        "This request would exceed your organization's rate limit of {limit} {what} per minute. Please reduce the prompt length or the number of requests, or try again later."
    )
}

/// Of input and output, the one with less left.
fn most_restrictive(levels: &Levels) -> Option<Level> {
    [levels.input_tokens, levels.output_tokens].into_iter().flatten().min_by_key(|level| level.remaining)
}

fn rounded(remaining: u64, step: u64) -> u64 {
    remaining.saturating_add(step / 2) / step * step
}

fn stop_reason(answer: &Answer<'_>) -> &'static str {
    if answer.cut_off { "max_tokens" } else { "end_turn" }
}

fn message(answer: &Answer<'_>, content: &Value, stop_reason: Value, output_tokens: u64) -> Value {
    json!({
        "id": format!("msg_{}", answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": answer.call.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        },
    })
}

fn event(data: &Value) -> String {
    let name = data["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_tokens_and_tell_the_full_refill() {
        let level = |limit, remaining, full_after| Some(Level { limit, remaining, full_after });
        let levels = Levels {
            requests: level(50, 49, 1_200_000_000),
            input_tokens: level(30_000, 29_499, 1_000_000_000),
            output_tokens: level(8_000, 7_500, 0),
            tokens: None,
        };
        let at: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a literal");
        let headers = Anthropic.level_headers(&levels, at);
        let told =
            |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(told("anthropic-ratelimit-requests-remaining"), Some("49"));
        assert_eq!(told("anthropic-ratelimit-requests-reset"), Some("2026-11-20T12:00:02Z"));
        assert_eq!(told("anthropic-ratelimit-input-tokens-remaining"), Some("29000"));
        assert_eq!(told("anthropic-ratelimit-output-tokens-remaining"), Some("8000"));
        assert_eq!(told("anthropic-ratelimit-tokens-limit"), Some("8000"), "the more restrictive of the two");
    }
}
