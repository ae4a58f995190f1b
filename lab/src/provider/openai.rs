//! OpenAI's shape: `POST /v1/chat/completions`, tokens counted at admission, resets written as `1s` or `370ms`.

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    account::{Cost, Dimension, Levels, Limited},
    buckets::Nanos,
    shape::{Answer, Fault, Shape, Wanted, bearer, model_of_messages, piece, positive},
};

/// The one instance.
pub(crate) struct OpenAi;

/// The output of a call that names no bound.
const OUTPUT_TOKENS_MAX: u64 = 4_096;

impl Shape for OpenAi {
    fn key(&self, headers: &HeaderMap) -> Option<String> {
        bearer(headers)
    }

    fn read(&self, body: &Value) -> Result<Wanted, String> {
        let model = model_of_messages(body)?;
        let bound = match positive(body, "max_completion_tokens")? {
            Some(bound) => Some(bound),
            None => positive(body, "max_tokens")?,
        };
        let stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        let stream_usage =
            body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false);
        Ok(Wanted { model, output_tokens_max: bound.unwrap_or(OUTPUT_TOKENS_MAX), stream, stream_usage })
    }

    fn cost(&self, input_tokens: u64, output_tokens_max: u64) -> Cost {
        Cost { input_tokens: None, tokens: Some(input_tokens.max(output_tokens_max)), output_applies: false }
    }

    fn fault(&self, fault: &Fault, _request_id: &str) -> (StatusCode, Value) {
        let error = |kind: &str, code: Value, message: &str| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        match fault {
            Fault::Invalid(problem) => {
                (StatusCode::BAD_REQUEST, error("invalid_request_error", Value::Null, problem))
            }
            Fault::Unauthenticated => {
                let message = "You didn't provide an API key. Send it as Authorization: Bearer KEY.";
                (StatusCode::UNAUTHORIZED, error("invalid_request_error", "invalid_api_key".into(), message))
            }
            Fault::NotFound => (
                StatusCode::NOT_FOUND,
                error("invalid_request_error", "unknown_url".into(), "Unknown request URL"),
            ),
            Fault::TooLarge(bytes) => {
                let message = format!("The request body is larger than {bytes} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, error("invalid_request_error", Value::Null, &message))
            }
            Fault::Limited(limited) => {
                let kind = if limited.dimension == Dimension::Tokens { "tokens" } else { "requests" };
                let body = error(kind, "rate_limit_exceeded".into(), &limited_message(limited));
                (StatusCode::TOO_MANY_REQUESTS, body)
            }
            Fault::Overloaded => {
                let message = "The engine is currently overloaded, please try again later";
                (StatusCode::SERVICE_UNAVAILABLE, error("server_error", Value::Null, message))
            }
        }
    }

    fn level_headers(&self, levels: &Levels, _at: Timestamp) -> Vec<(&'static str, String)> {
        const REQUESTS: [&str; 3] =
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
        const TOKENS: [&str; 3] =
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
        let told = [(REQUESTS, levels.requests), (TOKENS, levels.tokens)];
        told.into_iter()
            .filter_map(|(names, level)| Some((names, level?)))
            .flat_map(|(names, level)| {
                let values = [level.limit.to_string(), level.remaining.to_string(), span(level.full_after)];
                names.into_iter().zip(values)
            })
            .collect()
    }

    fn request_id_header(&self) -> &'static str {
        "x-request-id"
    }

    fn answer(&self, answer: &Answer<'_>) -> Value {
        let text: String = (0..6).map(piece).collect();
        let message = json!({"role": "assistant", "content": text.trim_end(), "refusal": null});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)});
        let mut whole = envelope(answer, "chat.completion", json!([choice]));
        whole["usage"] = usage(answer);
        whole
    }

    fn events(&self, answer: &Answer<'_>, pieces: usize) -> Vec<String> {
        let chunk = |delta: Value, finish_reason: Value| {
            let choice =
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
            event(&envelope(answer, "chat.completion.chunk", json!([choice])))
        };
        let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
        events.extend((0..pieces).map(|at| chunk(json!({"content": piece(at)}), Value::Null)));
        events.push(chunk(json!({}), finish_reason(answer).into()));
        if answer.stream_usage {
            let mut last = envelope(answer, "chat.completion.chunk", json!([]));
            last["usage"] = usage(answer);
            events.push(event(&last));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}

fn limited_message(limited: &Limited) -> String {
    let Limited { limit, requested, wait, never, .. } = limited;
    let unit = match limited.dimension {
        Dimension::Tokens | Dimension::InputTokens | Dimension::OutputTokens => "tokens per min (TPM)",
        Dimension::Requests => "requests per min (RPM)",
        Dimension::Concurrency => {
            return format!("Rate limit reached on concurrent requests: Limit {limit}.");
        }
    };
    if *never {
        return format!("Request too large on {unit}: Limit {limit}, Requested {requested}.");
    }
    let hint = wait.map(|wait| format!(" Please try again in {}.", span(wait))).unwrap_or_default();
    format!("Rate limit reached on {unit}: Limit {limit}, Requested {requested}.{hint}")
}

/// A span the way OpenAI writes it: `370ms`, `1s`, `1.5s`, `6m0s`; rounded up to a millisecond.
fn span(nanos: Nanos) -> String {
    let millis = nanos.div_ceil(1_000_000);
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match rest % 1_000 {
        0 => format!("{}s", rest / 1_000),
        fraction => format!("{}.{fraction:03}", rest / 1_000).trim_end_matches('0').to_owned() + "s",
    };
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => seconds,
        _ => format!("{minutes}m{seconds}"),
    }
}

fn finish_reason(answer: &Answer<'_>) -> &'static str {
    if answer.cut_off { "length" } else { "stop" }
}

fn usage(answer: &Answer<'_>) -> Value {
    let (input, output) = (answer.call.input_tokens, answer.call.output_tokens);
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn envelope(answer: &Answer<'_>, object: &str, choices: Value) -> Value {
    json!({
        "id": format!("chatcmpl-{}", answer.id),
        "object": object,
        "created": answer.at.as_second(),
        "model": answer.model,
        "choices": choices,
    })
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        const MILLI: Nanos = 1_000_000;
        for (millis, written) in [
            (0, "0ms"),
            (370, "370ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (61_050, "1m1.05s"),
        ] {
            assert_eq!(span(millis * MILLI), written);
        }
        assert_eq!(span(1), "1ms", "rounded up, so that nobody comes back too early");
    }

    #[test]
    fn admission_counts_the_larger_of_input_and_bound() {
        assert_eq!(OpenAi.cost(100, 4_096).tokens, Some(4_096));
        assert_eq!(OpenAi.cost(10_000, 4_096).tokens, Some(10_000));
    }
}
