//! What a request is expected to use, as far as its body tells: guessed well enough to queue for, and settled by what the
//! answer says was used.

use serde_json::Value;

use crate::Usage;

/// English has four characters to a token, and scripts of three bytes a character come near to one token each: in UTF-8, both
/// are about four bytes. The providers' own rule of thumb.
const BYTES_PER_TOKEN: u64 = 4;
/// What an image, a sound or a document counts, whatever its bytes: about the most that providers charge for one image.
const ATTACHMENT_TOKENS: u64 = 1_600;
/// Where providers look for the bound of the output; the first that is there counts.
const OUTPUT_BOUNDS: [&str; 5] = [
    "/max_completion_tokens",
    "/max_tokens",
    "/max_output_tokens",
    "/max_tokens_to_sample",
    "/generationConfig/maxOutputTokens",
];
/// Names beside a `data` that is no text.
const MEDIA: [&str; 4] = ["format", "media_type", "mimeType", "mime_type"];

/// What a request with this body is expected to use: an input, and a bound on the output if the body has one.
///
/// ```
/// let body = serde_json::json!({ "messages": [{ "content": "x".repeat(400) }], "max_tokens": 64 });
/// let usage = permitd_client::body::estimate(&body);
/// assert_eq!((usage.input_tokens, usage.max_output_tokens), (Some(100), Some(64)));
/// ```
#[must_use]
pub fn estimate(body: &Value) -> Usage {
    let mut content = Content::default();
    content.add(body);
    let usage = Usage::new().input_tokens(content.tokens());
    let bound = OUTPUT_BOUNDS.iter().find_map(|path| body.pointer(path)?.as_u64());
    match bound {
        Some(bound) => usage.max_output_tokens(bound.saturating_mul(choices(body))),
        None => usage,
    }
}

/// How many answers are asked for, each of which can be as long as the bound.
fn choices(body: &Value) -> u64 {
    let asked = ["n", "best_of"].iter().filter_map(|name| body.get(name)?.as_u64());
    asked.max().unwrap_or(1).max(1)
}

#[derive(Debug, Default)]
struct Content {
    text_bytes: u64,
    /// Input that comes as tokens already: numbers in arrays.
    tokens: u64,
    attachments: u64,
}

impl Content {
    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.starts_with("data:") => self.attachments += 1,
            Value::String(text) => self.text_bytes += u64::try_from(text.len()).unwrap_or(u64::MAX),
            Value::Array(items) => {
                for item in items {
                    self.tokens += u64::from(item.is_number());
                    self.add(item);
                }
            }
            Value::Object(fields) => {
                let is_media = MEDIA.iter().any(|name| fields.contains_key(*name));
                for (name, field) in fields {
                    if is_media && name == "data" && field.is_string() {
                        self.attachments += 1;
                    } else {
                        self.add(field);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn tokens(&self) -> u64 {
        let attachments = self.attachments.saturating_mul(ATTACHMENT_TOKENS);
        let counted = (self.text_bytes / BYTES_PER_TOKEN).saturating_add(self.tokens);
        counted.saturating_add(attachments).max(1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> (u64, Option<u64>) {
        let usage = estimate(&body);
        (usage.input_tokens.expect("always guessed"), usage.max_output_tokens)
    }

    /// Goal: text counts a token for every four bytes, wherever it stands and in whatever script.
    #[test]
    fn counts_text() {
        let text = "x".repeat(400);
        assert_eq!(read(json!({"messages": [{"content": text}]})), (100, None));
        assert_eq!(read(json!({"input": [text, text]})), (200, None));
        assert_eq!(read(json!({"input": "文".repeat(400)})), (300, None));
        assert_eq!(read(json!({})), (1, None), "no call is for nothing");
    }

    /// Goal: what is no text does not count by its bytes, and tokens count as what they are.
    #[test]
    fn counts_what_is_no_text() {
        let bytes = "A".repeat(1_000_000);
        let image = json!({"type": "base64", "media_type": "image/png", "data": bytes});
        let by_anthropic = read(json!({"content": [{"source": image}]})).0;
        assert!((ATTACHMENT_TOKENS..ATTACHMENT_TOKENS + 10).contains(&by_anthropic), "{by_anthropic}");
        let by_openai = read(json!({"image_url": {"url": format!("data:image/png;base64,{bytes}")}})).0;
        assert_eq!(by_openai, ATTACHMENT_TOKENS);
        assert_eq!(read(json!({"input": [[1, 2, 3], [4, 5]]})).0, 5);
    }

    /// Goal: the bound of the output is found where each provider has it, and counts for each answer asked for.
    #[test]
    fn finds_the_bound_of_the_output() {
        assert_eq!(read(json!({"max_tokens": 64})).1, Some(64));
        assert_eq!(read(json!({"max_tokens": 64, "max_completion_tokens": 32})).1, Some(32));
        assert_eq!(read(json!({"generationConfig": {"maxOutputTokens": 7}})).1, Some(7));
        assert_eq!(read(json!({"max_tokens": 64, "n": 3})).1, Some(192));
        assert_eq!(read(json!({"max_tokens": u64::MAX, "n": u64::MAX})).1, Some(u64::MAX));
        assert_eq!(read(json!({"max_tokens": -5})).1, None, "the provider will say what is wrong with it");
    }
}
