//! What the provider said to one request, and what of it permitd and the results want to know.

use std::time::Duration;

use permitd_client::{Report, Usage};
use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;

/// Headers by which providers name a request, for their support; the first that is there counts.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"];

/// An answer of the provider, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) latency: Duration,
}

/// What the answer says was used; each provider has some of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    usage: Option<Tokens>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<GeminiTokens>,
}

/// As OpenAI (chat and responses) and Anthropic have it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
    // Anthropic does not count these two among its input_tokens.
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GeminiTokens {
    prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
}

impl Answer {
    /// How the provider names the request.
    pub(super) fn request_id(&self) -> Option<&str> {
        REQUEST_IDS.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())
    }

    /// What the provider says was used; what it does not say is absent.
    pub(super) fn usage(&self) -> Usage {
        // A body that is no JSON, or says it in some other way, says nothing.
        let told: Told = serde_json::from_str(&self.body).unwrap_or_default();
        let usage = told.usage.map(Tokens::usage);
        usage.or(told.usage_metadata.map(GeminiTokens::usage)).unwrap_or_default()
    }

    /// For permitd, whose server reads it by the provider's profile.
    pub(super) fn report(&self) -> Report {
        let headers = self.headers.iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let report = headers
            .fold(Report::status(self.status.as_u16()), |report, (name, value)| report.header(name, value));
        let report = report.latency(self.latency);
        if self.status.is_success() { report.actual(self.usage()) } else { report.body(&self.body) }
    }
}

impl Tokens {
    fn usage(self) -> Usage {
        let beside = (self.cache_creation_input_tokens, self.cache_read_input_tokens);
        let beside = beside.0.unwrap_or(0).saturating_add(beside.1.unwrap_or(0));
        let input = self.input_tokens.map(|input| input.saturating_add(beside)).or(self.prompt_tokens);
        usage(
            input,
            // An embedding has no output, which is known and not open.
            self.output_tokens.or(self.completion_tokens).or(self.prompt_tokens.map(|_| 0)),
            self.cache_read_input_tokens
                .or(cached_of(self.input_tokens_details))
                .or(cached_of(self.prompt_tokens_details)),
        )
    }
}

fn cached_of(details: Option<Details>) -> Option<u64> {
    details?.cached_tokens
}

impl GeminiTokens {
    fn usage(self) -> Usage {
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let output = self.candidates_token_count.map(|output| output.saturating_add(thoughts));
        usage(self.prompt_token_count, output, self.cached_content_token_count)
    }
}

fn usage(input: Option<u64>, output: Option<u64>, cached: Option<u64>) -> Usage {
    let mut usage = Usage::new();
    usage.input_tokens = input;
    usage.output_tokens = output;
    usage.cached_input_tokens = cached.filter(|cached| *cached > 0);
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        let headers = HeaderMap::from_iter([
            ("x-request-id".parse().expect("a name"), "req_1".parse().expect("a value")),
            ("retry-after".parse().expect("a name"), "7".parse().expect("a value")),
        ]);
        Answer { status: StatusCode::OK, headers, body: body.to_owned(), latency: Duration::ZERO }
    }

    /// Goal: what was used is found in every provider's words, with the cached part in the input.
    #[test]
    fn reads_usage() {
        for (body, told) in [
            (r#"{"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#, (9, 4, None)),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}}"#,
                (9, 4, Some(5)),
            ),
            (
                r#"{"usage":{"input_tokens":9,"output_tokens":4,"input_tokens_details":{"cached_tokens":0}}}"#,
                (9, 4, None),
            ),
            (
                r#"{"usage":{"input_tokens":9,"output_tokens":4,"cache_creation_input_tokens":2,"cache_read_input_tokens":3}}"#,
                (14, 4, Some(3)),
            ),
            (r#"{"usage":{"prompt_tokens":9,"total_tokens":9}}"#, (9, 0, None)),
            (
                r#"{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"thoughtsTokenCount":2,"cachedContentTokenCount":1}}"#,
                (9, 6, Some(1)),
            ),
        ] {
            let usage = answer(body).usage();
            let (input, output, cached) = told;
            assert_eq!(usage.input_tokens, Some(input), "{body}");
            assert_eq!((usage.output_tokens, usage.cached_input_tokens), (Some(output), cached), "{body}");
        }
    }

    /// Goal: a body that says nothing, or nonsense, leaves the estimate as it is.
    #[test]
    fn nonsense_is_no_usage() {
        for body in ["", "<html>", "[]", r#"{"usage":null}"#, r#"{"usage":{"input_tokens":-1}}"#] {
            assert!(answer(body).usage().is_empty(), "{body}");
        }
    }

    #[test]
    fn names_the_request() {
        assert_eq!(answer("").request_id(), Some("req_1"));
    }
}
