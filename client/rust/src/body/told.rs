//! What a body, or one event of a stream, says was used: numbers by the names of their providers, put together into one usage.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::Usage;

/// Each provider has some of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    usage: Option<Tokens>,
    /// `OpenAI`'s responses, in streams.
    response: Option<Within>,
    /// Anthropic's messages, in streams.
    message: Option<Within>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<GeminiTokens>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Within {
    usage: Option<Tokens>,
}

/// As `OpenAI` (chat and responses) and Anthropic have it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    prompt_tokens: Count,
    completion_tokens: Count,
    prompt_tokens_details: Option<Details>,
    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Option<Details>,
    // Anthropic does not count these two among its input_tokens.
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GeminiTokens {
    prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    cached_content_token_count: Count,
}

/// A number, or nothing: whatever else stands there says nothing, and spoils nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Lenient {
            Count(u64),
            Other(IgnoredAny),
        }
        Ok(Self(match Lenient::deserialize(deserializer)? {
            Lenient::Count(count) => Some(count),
            Lenient::Other(IgnoredAny) => None,
        }))
    }
}

impl Told {
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// What a later event says of a number counts.
    pub(super) fn learn(&mut self, later: Self) {
        let within = |within: Option<Within>| within.and_then(|within| within.usage);
        for tokens in [within(later.message), within(later.response), later.usage].into_iter().flatten() {
            self.usage.get_or_insert_default().learn(tokens);
        }
        if let Some(tokens) = later.usage_metadata {
            self.usage_metadata.get_or_insert_default().learn(tokens);
        }
    }

    pub(super) fn usage(self) -> Usage {
        let mut whole = Self::default();
        whole.learn(self);
        let usage = whole.usage.map(Tokens::usage);
        usage.or(whole.usage_metadata.map(GeminiTokens::usage)).unwrap_or_default()
    }
}

impl Count {
    fn learn(&mut self, later: Self) {
        self.0 = later.0.or(self.0);
    }
}

impl Tokens {
    fn learn(&mut self, later: Self) {
        self.prompt_tokens.learn(later.prompt_tokens);
        self.completion_tokens.learn(later.completion_tokens);
        self.input_tokens.learn(later.input_tokens);
        self.output_tokens.learn(later.output_tokens);
        self.cache_creation_input_tokens.learn(later.cache_creation_input_tokens);
        self.cache_read_input_tokens.learn(later.cache_read_input_tokens);
        self.prompt_tokens_details = later.prompt_tokens_details.or(self.prompt_tokens_details.take());
        self.input_tokens_details = later.input_tokens_details.or(self.input_tokens_details.take());
    }

    fn usage(self) -> Usage {
        let cached_of = |details: Option<Details>| details.and_then(|details| details.cached_tokens.0);
        let beside = [self.cache_creation_input_tokens, self.cache_read_input_tokens];
        let beside = beside.iter().fold(0_u64, |sum, count| sum.saturating_add(count.0.unwrap_or(0)));
        let input = self.input_tokens.0.map(|input| input.saturating_add(beside));
        usage(
            input.or(self.prompt_tokens.0),
            // An embedding has no output, which is known and not open.
            self.output_tokens.0.or(self.completion_tokens.0).or(self.prompt_tokens.0.map(|_| 0)),
            self.cache_read_input_tokens
                .0
                .or(cached_of(self.input_tokens_details))
                .or(cached_of(self.prompt_tokens_details)),
        )
    }
}

impl GeminiTokens {
    fn learn(&mut self, later: Self) {
        self.prompt_token_count.learn(later.prompt_token_count);
        self.candidates_token_count.learn(later.candidates_token_count);
        self.thoughts_token_count.learn(later.thoughts_token_count);
        self.cached_content_token_count.learn(later.cached_content_token_count);
    }

    fn usage(self) -> Usage {
        let thoughts = self.thoughts_token_count.0.unwrap_or(0);
        let output = self.candidates_token_count.0.map(|output| output.saturating_add(thoughts));
        usage(self.prompt_token_count.0, output, self.cached_content_token_count.0)
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
            let usage = crate::body::usage(body);
            let (input, output, cached) = told;
            assert_eq!(usage.input_tokens, Some(input), "{body}");
            assert_eq!((usage.output_tokens, usage.cached_input_tokens), (Some(output), cached), "{body}");
        }
    }

    /// Goal: a body that says nothing, or nonsense, leaves the estimate as it is.
    #[test]
    fn nonsense_is_no_usage() {
        for body in
            ["", "<html>", "[]", r#"{"usage":null}"#, r#"{"usage":{"input_tokens":-1}}"#, r#"{"usage":7}"#]
        {
            assert!(crate::body::usage(body).is_empty(), "{body}");
        }
    }

    /// Goal: one number that makes no sense does not hide the others.
    #[test]
    fn nonsense_spoils_nothing() {
        let usage = crate::body::usage(r#"{"usage":{"input_tokens":9,"output_tokens":"many"}}"#);
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(9), None));
    }

    /// Goal: what is beside the input goes into it, whatever it adds up to.
    #[test]
    fn sums_do_not_wrap() {
        let max = u64::MAX;
        let usage = crate::body::usage(format!(
            r#"{{"usage":{{"input_tokens":{max},"cache_creation_input_tokens":{max},"cache_read_input_tokens":{max}}}}}"#
        ));
        assert_eq!((usage.input_tokens, usage.cached_input_tokens), (Some(max), Some(max)));
    }
}
