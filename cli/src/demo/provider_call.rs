//! One call to the provider over HTTP, in Anthropic's shape, and what its answer says.

use std::time::Duration;

use reqwest::{Client, header::HeaderMap};
use serde_json::{Value, json};

use super::scenario::Call;

/// Nobody waits longer for one answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client's way to the provider.
#[derive(Clone, Debug)]
pub(crate) struct ProviderClient {
    http: Client,
    url: String,
    name: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl ProviderClient {
    pub(crate) fn new(provider: &str, name: &str) -> Result<Self, reqwest::Error> {
        // The simulator is on this machine: a proxy from the environment would only be in the way.
        let http = Client::builder().timeout(TIMEOUT).no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { http, url: format!("{provider}/v1/messages"), name: name.to_owned() })
    }

    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, reqwest::Error> {
        let content = "Read this word by word. ".chars().cycle().take(call.prompt_chars).collect::<String>();
        let messages = json!([{"role": "user", "content": content}]);
        let body = json!({"model": "claude-demo", "max_tokens": call.max_tokens, "messages": messages});
        let request = self
            .http
            .post(&self.url)
            .header("x-api-key", "demo")
            .header("x-sim-client", &self.name)
            .header("x-sim-call", call.number)
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.text().await? })
    }
}

impl Call {
    /// What a caller knows of its input beforehand: about four characters make a token.
    pub(crate) fn input_tokens_estimate(&self) -> u64 {
        u64::try_from(self.prompt_chars / 4).unwrap_or(u64::MAX).max(1)
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Refused for now, by a limit or for want of capacity.
    pub(crate) fn is_worth_repeating(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// The wait that the provider asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Tokens in and out, as the answer tells them.
    pub(crate) fn usage(&self) -> Option<(u64, u64)> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let usage = &body["usage"];
        usage["input_tokens"].as_u64().zip(usage["output_tokens"].as_u64())
    }
}
