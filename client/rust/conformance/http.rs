//! The HTTP adapter's part: calls through it, and what it reads of bodies.

use permitd_client::{Client, Error, Request, Usage, body, reqwest::PermitMiddleware};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use serde_json::{Value, json};

use crate::events::{amounts, refused};

/// One request through the adapter, its response read to the end.
pub(crate) async fn call(id: String, client: Client, ask: Request, command: &Value) -> Value {
    let http = adapter(client, ask);
    let method = text(command, "method").parse().expect("a method");
    let mut request = http.request(method, text(command, "url"));
    for (name, value) in command["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().expect("text"));
    }
    if let Some(body) = command["body"].as_str() {
        request = request.body(body.to_owned());
    }
    match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            let body = response.text().await.expect("a whole body");
            json!({ "event": "responded", "id": id, "status": status, "body": body })
        }
        Err(reqwest_middleware::Error::Middleware(error)) => {
            refused(&id, error.downcast_ref::<Error>().expect("an error of this client"))
        }
        Err(error) => json!({ "event": "failed", "id": id, "reason": "HTTP", "message": error.to_string() }),
    }
}

fn adapter(client: Client, ask: Request) -> ClientWithMiddleware {
    // Nothing here speaks TLS, but a provider has to be named before there is a client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClientBuilder::new(reqwest::Client::new()).with(PermitMiddleware::new(client, ask)).build()
}

/// What the adapter would ask for.
pub(crate) fn estimate(id: &str, command: &Value) -> Value {
    let json = serde_json::from_str::<Value>(text(command, "body")).ok();
    let usage = json.as_ref().map(body::estimate).unwrap_or_default();
    let model = json.as_ref().and_then(|json| json["model"].as_str()).unwrap_or_default();
    with(&usage, json!({ "event": "estimated", "id": id, "model": model }))
}

/// What the adapter would report.
pub(crate) fn usage(id: &str, command: &Value) -> Value {
    let mut reader = body::UsageReader::new(command["headers"]["content-type"].as_str().unwrap_or_default());
    reader.push(text(command, "body").as_bytes());
    with(&reader.finish(), json!({ "event": "used", "id": id }))
}

fn with(usage: &Usage, mut event: Value) -> Value {
    for (unit, amount) in amounts(usage).as_object().into_iter().flatten() {
        event[unit] = amount.clone();
    }
    event
}

fn text<'a>(command: &'a Value, name: &str) -> &'a str {
    command[name].as_str().unwrap_or_default()
}
