//! The simulator over real HTTP: what a client of either provider sees, and what the counters say afterwards.

use std::{future::pending, net::SocketAddr};

use permitd_lab::provider::{Behaviour, Bounds, Config, Limits, Provider, Rate, Stats};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

struct Simulator {
    address: SocketAddr,
    client: Client,
}

impl Simulator {
    async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(Provider::serve(config, listener, pending()));
        // The client can speak TLS and wants to know how, though nothing here does. It may be known from another test.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { address, client: Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn anthropic(&self, client: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(self.url("/v1/messages"));
        request.header("x-api-key", "key").header("x-sim-client", client).body(body.to_string())
    }

    fn openai(&self, body: &Value) -> RequestBuilder {
        self.client.post(self.url("/v1/chat/completions")).bearer_auth("key").body(body.to_string())
    }

    async fn stats(&self) -> Stats {
        let response = self.client.get(self.url("/sim/stats")).send().await.expect("it serves");
        response.json().await.expect("the counters")
    }

    async fn put(&self, path: &str, patch: &Value) -> Response {
        self.client.put(self.url(path)).body(patch.to_string()).send().await.expect("it serves")
    }
}

fn instant(limits: Limits) -> Config {
    let behaviour = Behaviour { latency_median_ms: 0, ..Behaviour::default() };
    Config { limits, behaviour, ..Config::default() }
}

fn message() -> Value {
    json!({"model": "claude-sonnet", "max_tokens": 1_000, "messages": [{"role": "user", "content": "Hello"}]})
}

async fn send(request: RequestBuilder) -> (StatusCode, reqwest::header::HeaderMap, Value) {
    let response = request.send().await.expect("it serves");
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.json().await.expect("every answer is JSON"))
}

#[tokio::test]
async fn anthropic_answers_tell_usage_and_what_is_left() {
    let simulator = Simulator::start(instant(Limits {
        requests: Some(Rate::per_minute(5, 0)),
        input_tokens: Some(Rate::per_minute(40_000, 0)),
        output_tokens: Some(Rate::per_minute(8_000, 0)),
        ..Limits::default()
    }))
    .await;
    let request = simulator.anthropic("a", &message()).header("x-sim-input-tokens", "12000");
    let (status, headers, body) = send(request).await;
    assert_eq!(status, 200);
    assert_eq!((&body["type"], &body["usage"]["input_tokens"]), (&json!("message"), &json!(12_000)));
    assert_eq!(headers["anthropic-ratelimit-requests-limit"], "5");
    assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "4");
    assert_eq!(headers["anthropic-ratelimit-input-tokens-remaining"], "28000");
    let reset = headers["anthropic-ratelimit-requests-reset"].to_str().expect("text");
    reset.parse::<jiff::Timestamp>().expect("RFC 3339");
    assert!(headers.contains_key("request-id"));

    let counted = &simulator.stats().await.clients["a"];
    assert_eq!((counted.ok, counted.input_tokens), (1, 12_000));
    assert_eq!(Some(counted.output_tokens), body["usage"]["output_tokens"].as_u64());
}

#[tokio::test]
async fn anthropic_refuses_with_its_own_error_and_a_wait() {
    let limits = Limits { requests: Some(Rate::per_minute(2, 1)), ..Limits::default() };
    let simulator = Simulator::start(instant(limits)).await;
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200);
    let (status, headers, body) = send(simulator.anthropic("a", &message())).await;
    assert_eq!(status, 429);
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("rate_limit_error")));
    assert_eq!(headers["retry-after"], "30");
    assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "0");

    simulator.put("/sim/behaviour", &json!({"retry_after": false})).await;
    let (status, headers, _) = send(simulator.anthropic("a", &message())).await;
    assert_eq!((status.as_u16(), headers.get("retry-after")), (429, None));
    let counted = simulator.stats().await.keys["key"].clone();
    assert_eq!((counted.requests, counted.ok, counted.limited_by.requests), (3, 1, 2));
}

#[tokio::test]
async fn openai_counts_the_bound_and_refuses_in_its_own_words() {
    let limits = Limits { tokens: Some(Rate::per_minute(1_000, 0)), ..Limits::default() };
    let simulator = Simulator::start(instant(limits)).await;
    let body = |bound: u64| json!({"model": "gpt", "max_completion_tokens": bound, "messages": [{"role": "user", "content": "Hi"}]});
    let (status, headers, answer) = send(simulator.openai(&body(900))).await;
    assert_eq!((status.as_u16(), &answer["object"]), (200, &json!("chat.completion")));
    let usage = &answer["usage"];
    let (input, output) = (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64());
    assert_eq!(usage["total_tokens"].as_u64(), input.zip(output).map(|(input, output)| input + output));
    assert_eq!(headers["x-ratelimit-limit-tokens"], "1000");

    let (status, headers, answer) = send(simulator.openai(&body(900))).await;
    assert_eq!(status, 429);
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["type"]),
        (&json!("rate_limit_exceeded"), &json!("tokens"))
    );
    assert!(headers.contains_key("retry-after"));
    assert!(headers["x-ratelimit-reset-tokens"].to_str().expect("text").ends_with('s'));

    let (status, headers, answer) = send(simulator.openai(&body(2_000))).await;
    assert_eq!((status.as_u16(), headers.get("retry-after")), (429, None), "waiting would never help");
    assert!(answer["error"]["message"].as_str().expect("text").starts_with("Request too large"));
}

#[tokio::test]
async fn bad_input_gets_the_providers_own_error() {
    let config =
        Config { bounds: Bounds { body_bytes: 1_000, ..Bounds::default() }, ..instant(Limits::default()) };
    let simulator = Simulator::start(config).await;
    let huge = json!({"model": "x".repeat(2_000)});
    let no_bound = json!({"model": "claude", "messages": [{}]});
    for (body, status, kind, named) in [
        (json!({"max_tokens": 1, "messages": [{}]}), 400, "invalid_request_error", "model"),
        (
            json!({"model": "claude", "max_tokens": 1, "messages": []}),
            400,
            "invalid_request_error",
            "messages",
        ),
        (
            json!({"model": "claude", "max_tokens": 0, "messages": [{}]}),
            400,
            "invalid_request_error",
            "max_tokens",
        ),
        (no_bound.clone(), 400, "invalid_request_error", "max_tokens"),
        (huge, 413, "request_too_large", "1000"),
    ] {
        let (told, _, answer) = send(simulator.anthropic("a", &body)).await;
        assert_eq!((told.as_u16(), &answer["error"]["type"]), (status, &json!(kind)));
        assert!(answer["error"]["message"].as_str().expect("text").contains(named), "{answer}");
    }
    let not_json = simulator.anthropic("a", &Value::Null).body(vec![0xff, 0x00, 0x7b]);
    assert_eq!(send(not_json).await.0, 400);
    let forged = simulator.anthropic("a", &message()).header("x-sim-input-tokens", "-5");
    assert_eq!(send(forged).await.0, 400);
    let (status, _, answer) = send(simulator.client.post(simulator.url("/v1/messages")).body("{}")).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (401, &json!("authentication_error")));
    let bearer =
        simulator.client.post(simulator.url("/v1/messages")).bearer_auth("key").body(message().to_string());
    assert_eq!(send(bearer).await.0, StatusCode::OK, "as Anthropic's own packages send it");
    let (status, _, answer) =
        send(simulator.client.post(simulator.url("/v1/chat/completions")).body("{}")).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (401, &json!("invalid_api_key")));
    let (status, _, answer) = send(simulator.client.get(simulator.url("/v1/nothing"))).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (404, &json!("not_found_error")));
    assert_eq!(send(simulator.openai(&no_bound)).await.0, 200, "OpenAI does not ask for a bound");
}

#[tokio::test]
async fn overload_has_its_own_status_in_each_shape_and_takes_nothing() {
    let mut config = instant(Limits { requests: Some(Rate::per_minute(1, 0)), ..Limits::default() });
    config.behaviour.overloaded = 1.0;
    let simulator = Simulator::start(config).await;
    let (status, _, answer) = send(simulator.anthropic("a", &message())).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (529, &json!("overloaded_error")));
    assert_eq!(send(simulator.openai(&message())).await.0, 503);
    simulator.put("/sim/behaviour", &json!({"overloaded": 0})).await;
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200, "the one request is still there");
}

#[tokio::test]
async fn limits_change_live_and_a_bad_change_changes_nothing() {
    let simulator =
        Simulator::start(instant(Limits { requests: Some(Rate::per_minute(1, 0)), ..Limits::default() }))
            .await;
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200);
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 429);
    let bad = simulator.put("/sim/limits", &json!({"requests": {"per_minutes": 5}})).await;
    assert_eq!(bad.status(), 400);
    assert!(bad.text().await.expect("text").contains("per_minutes"));
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 429);
    assert_eq!(simulator.put("/sim/limits", &json!({"requests": null})).await.status(), 200);
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200);
}

#[tokio::test]
async fn concurrency_is_bounded_while_a_call_runs_and_free_when_its_caller_is_gone() {
    let mut config =
        Config { limits: Limits { concurrency: Some(1), ..Limits::default() }, ..Config::default() };
    config.behaviour.latency_median_ms = 600_000;
    config.behaviour.latency_sigma = 0.0;
    let simulator = Simulator::start(config).await;
    let running = tokio::spawn(simulator.anthropic("slow", &message()).send());
    while !simulator.stats().await.clients.contains_key("slow") {
        tokio::task::yield_now().await;
    }
    let (status, headers, _) = send(simulator.anthropic("a", &message())).await;
    assert_eq!((status.as_u16(), headers.get("retry-after")), (429, None), "nobody knows when a call ends");
    assert_eq!(simulator.stats().await.keys["key"].limited_by.concurrency, 1);

    running.abort();
    simulator.put("/sim/behaviour", &json!({"latency_median_ms": 0})).await;
    while send(simulator.anthropic("a", &message())).await.0 == 429 {}
    let counted = simulator.stats().await.clients["slow"].clone();
    assert_eq!((counted.admitted, counted.ok), (1, 0));
    assert!(counted.output_tokens > 0, "output that nobody waited for was made all the same");
}

#[tokio::test]
async fn streams_tell_usage_as_the_providers_do() {
    let simulator = Simulator::start(instant(Limits::default())).await;
    let mut body = message();
    body["stream"] = json!(true);
    let streamed =
        simulator.anthropic("a", &body).send().await.expect("it serves").text().await.expect("text");
    let events: Vec<Value> = streamed
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(events.first().expect("events")["type"], "message_start");
    assert_eq!(events.last().expect("events")["type"], "message_stop");
    let delta =
        events.iter().find(|event| event["type"] == "message_delta").expect("usage comes before the end");
    let counted = simulator.stats().await.clients["a"].clone();
    assert_eq!((counted.ok, Some(counted.output_tokens)), (1, delta["usage"]["output_tokens"].as_u64()));

    body["stream_options"] = json!({"include_usage": true});
    let streamed = simulator.openai(&body).send().await.expect("it serves").text().await.expect("text");
    assert!(streamed.ends_with("data: [DONE]\n\n"));
    assert!(streamed.contains("\"completion_tokens\""));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_outputs_and_a_repeat_the_same_call() {
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let simulator = Simulator::start(instant(Limits::default())).await;
        let mut sequence = Vec::new();
        for number in [None, None, Some("7"), Some("7")] {
            let mut request = simulator.anthropic("a", &message());
            if let Some(number) = number {
                request = request.header("x-sim-call", number);
            }
            sequence.push(send(request).await.2["usage"]["output_tokens"].clone());
        }
        assert_ne!(sequence[0], sequence[1]);
        assert_eq!(sequence[2], sequence[3]);
        outputs.push(sequence);
    }
    assert_eq!(outputs[0], outputs[1]);
}

/// Goal: limits can be hidden altogether, from answers and from refusals.
#[tokio::test]
async fn limits_can_be_hidden() {
    let hidden =
        Behaviour { limit_headers: false, retry_after: false, latency_median_ms: 0, ..Behaviour::default() };
    let limits = Limits { requests: Some(Rate::per_minute(1, 0)), ..Limits::default() };
    let simulator = Simulator::start(Config { limits, behaviour: hidden, ..Config::default() }).await;
    for status in [200, 429] {
        let (answered, headers, _) = send(simulator.anthropic("a", &message())).await;
        assert_eq!(answered, status);
        let telling = headers.keys().find(|name| name.as_str().contains("limit") || *name == "retry-after");
        assert_eq!(telling, None, "{status}");
    }
}

#[tokio::test]
async fn a_reset_starts_anew() {
    let simulator =
        Simulator::start(instant(Limits { requests: Some(Rate::per_minute(1, 0)), ..Limits::default() }))
            .await;
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200);
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 429);
    let reset = simulator.client.post(simulator.url("/sim/reset")).send().await.expect("it serves");
    assert_eq!(reset.status(), 204);
    assert!(simulator.stats().await.clients.is_empty());
    assert_eq!(send(simulator.anthropic("a", &message())).await.0, 200);
}

/// Goal: calls that wait for their turn are never refused, one after the other takes the one slot, and what can never fit is told.
#[tokio::test]
async fn calls_that_wait_for_their_turn_are_never_refused() {
    let limits = Limits {
        concurrency: Some(1),
        input_tokens: Some(Rate::per_minute(60_000, 1_000)),
        ..Limits::default()
    };
    let simulator = Simulator::start(Config {
        limits,
        behaviour: Behaviour { latency_median_ms: 20, ..Behaviour::default() },
        ..Config::default()
    })
    .await;
    let waiting = |turn: &'static str| simulator.anthropic("a", &message()).header("x-sim-turn", turn);
    let calls = (0..6).map(|number| send(waiting(if number % 2 == 0 { "fair" } else { "urgent" })));
    for (status, _, body) in futures_util::future::join_all(calls).await {
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (status, _, body) = send(waiting("fair").header("x-sim-input-tokens", "1001")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
    let (status, _, body) = send(waiting("first")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("x-sim-turn")), "{body}");
    let counted = &simulator.stats().await.clients["a"];
    assert_eq!((counted.ok, counted.limited), (6, 1));
}
