//! One line of the input: a request in the form of OpenAI's batches (`custom_id`, `method`, `url`, `body`) or of Anthropic's
//! (`custom_id`, `params`). What is wrong with a line is said with the field named.

use permitd_client::{Usage, body::estimate};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Bytes in a custom_id.
const CUSTOM_ID_BYTES_MAX: usize = 512;
/// Bytes in a url.
const URL_BYTES_MAX: usize = 2_048;
/// What `params` are meant for, as Anthropic has it.
const PARAMS_URL: &str = "/v1/messages";
/// Methods that an API may be called with.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A request to be made.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) custom_id: String,
    pub(super) method: Method,
    /// The path, and perhaps a query; begins with a slash.
    pub(super) url: String,
    /// To the byte as it stands in the line.
    pub(super) body: Option<String>,
    /// Empty if the body names none.
    pub(super) model: String,
    pub(super) estimate: Usage,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Whose line it is, if that can be read.
    pub(super) custom_id: Option<String>,
    /// Names the field, and says what to do.
    pub(super) problem: String,
}

/// As it stands in the file. Further fields are nobody's business here.
#[derive(Deserialize)]
struct Fields<'a> {
    custom_id: Option<Value>,
    method: Option<Value>,
    url: Option<Value>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Request {
    /// Reads a line.
    pub(super) fn read(line: &[u8]) -> Result<Self, BadLine> {
        let nameless = |problem: String| BadLine { custom_id: None, problem };
        let text = std::str::from_utf8(line).map_err(|error| nameless(format!("is not UTF-8: {error}")))?;
        if !text.trim_start().starts_with('{') {
            return Err(nameless("is no JSON object; write one request a line".to_owned()));
        }
        let fields: Fields<'_> =
            serde_json::from_str(text).map_err(|error| nameless(format!("is not valid JSON: {error}")))?;
        let custom_id = custom_id(fields.custom_id.as_ref()).map_err(nameless)?;
        match fields.request(&custom_id) {
            Ok(request) => Ok(request),
            Err(problem) => Err(BadLine { custom_id: Some(custom_id), problem }),
        }
    }

    /// How many bytes it takes to hold.
    pub(super) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, String::len) + self.url.len() + self.custom_id.len()
    }
}

impl Fields<'_> {
    fn request(&self, custom_id: &str) -> Result<Request, String> {
        let (method, url) = (self.method()?, self.url()?);
        let body = match (self.body, self.params) {
            (Some(_), Some(_)) => return Err("body: stands beside params; keep one of them".to_owned()),
            (body, params) => body.or(params),
        };
        if body.is_none() && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            return Err(format!("body: missing; {method} sends one"));
        }
        let read: Value = match body {
            Some(body) => serde_json::from_str(body.get())
                .map_err(|error| format!("body: is not valid JSON: {error}"))?,
            None => Value::Null,
        };
        if read.get("stream").and_then(Value::as_bool) == Some(true) {
            return Err("body.stream: a batch keeps whole answers; remove it".to_owned());
        }
        let model = read.get("model").and_then(Value::as_str).unwrap_or_default();
        Ok(Request {
            custom_id: custom_id.to_owned(),
            method,
            url,
            body: body.map(|body| body.get().to_owned()),
            model: model.to_owned(),
            estimate: estimate(&read),
        })
    }

    fn method(&self) -> Result<Method, String> {
        let Some(method) = &self.method else { return Ok(Method::POST) };
        let known = METHODS.iter().find(|known| method.as_str() == Some(known.as_str()));
        known.cloned().ok_or_else(|| "method: none of GET, POST, PUT, PATCH, DELETE".to_owned())
    }

    fn url(&self) -> Result<String, String> {
        let url = match (&self.url, self.params) {
            (Some(Value::String(url)), _) => url,
            (Some(_), _) => return Err("url: is no string; write a path such as /v1/responses".to_owned()),
            (None, Some(_)) => PARAMS_URL,
            (None, None) => return Err("url: missing; write a path such as /v1/responses".to_owned()),
        };
        let path = url.split('?').next().unwrap_or_default();
        if !url.starts_with('/') {
            return Err("url: is no path; begin with a slash, the host is that of --base-url".to_owned());
        }
        if url.len() > URL_BYTES_MAX {
            return Err(format!("url: {} bytes; at most {URL_BYTES_MAX}", url.len()));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['#', '\\']) {
            return Err("url: has characters that no path has; encode them as %XX".to_owned());
        }
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err("url: has . or .. in its path; write it out".to_owned());
        }
        Ok(url.to_owned())
    }
}

fn custom_id(found: Option<&Value>) -> Result<String, String> {
    match found {
        None | Some(Value::Null) => {
            Err("custom_id: missing; give every request a name of its own".to_owned())
        }
        Some(Value::String(id)) if id.is_empty() => {
            Err("custom_id: is empty; give every request a name of its own".to_owned())
        }
        Some(Value::String(id)) if id.len() > CUSTOM_ID_BYTES_MAX => {
            Err(format!("custom_id: {} bytes; at most {CUSTOM_ID_BYTES_MAX}", id.len()))
        }
        Some(Value::String(id)) => Ok(id.clone()),
        Some(_) => Err("custom_id: is no string; put it in quotes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the body goes out as it was written, and what matters for its permit is read from it.
    #[test]
    fn reads_openais_lines() {
        let body = r#"{"model":"gpt-5", "seed":12345678901234567890123,  "max_tokens":9,"messages":[{"content":"Hi"}]}"#;
        let line =
            format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions?x=1","body":{body}}}"#);
        let request = Request::read(line.as_bytes()).expect("a good line");
        assert_eq!((&*request.custom_id, &*request.url), ("a", "/v1/chat/completions?x=1"));
        assert_eq!((request.body.as_deref(), &*request.model), (Some(body), "gpt-5"));
        assert_eq!(request.estimate.max_output_tokens, Some(9));
    }

    /// Goal: Anthropic's form is read as what it stands for.
    #[test]
    fn reads_anthropics_lines() {
        let line = br#"{"custom_id":"a","params":{"model":"claude-opus-4-1","max_tokens":5}}"#;
        let request = Request::read(line).expect("a good line");
        assert_eq!((request.method, &*request.url), (Method::POST, "/v1/messages"));
        assert_eq!(&*request.model, "claude-opus-4-1");
    }

    /// Goal: what is wrong is said with its field, and with the custom_id where that can be read.
    #[test]
    fn names_what_is_wrong() {
        let long_id = format!(r#"{{"custom_id":"{}"}}"#, "x".repeat(513));
        let with = |fields: &str| format!(r#"{{"custom_id":"a",{fields}}}"#);
        let url = |url: &str| with(&format!(r#""url":"{url}","body":{{}}"#));
        for (line, names, problem) in [
            ("[1]".to_owned(), false, "is no JSON object"),
            ("{\"custom_id\":\"a\"".to_owned(), false, "is not valid JSON"),
            (r#"{"custom_id":"a","custom_id":"b"}"#.to_owned(), false, "duplicate field"),
            ("{}".to_owned(), false, "custom_id: missing"),
            (r#"{"custom_id":""}"#.to_owned(), false, "custom_id: is empty"),
            (r#"{"custom_id":7}"#.to_owned(), false, "custom_id: is no string"),
            (long_id, false, "custom_id: 513 bytes"),
            (with(r#""body":{}"#), true, "url: missing"),
            (with(r#""url":7,"body":{}"#), true, "url: is no string"),
            (url("https://api.example.com/v1"), true, "url: is no path"),
            (url("/v1/../../x"), true, "url: has . or .."),
            (url("/v1/a b"), true, "url: has characters"),
            (url(&format!("/{}", "x".repeat(2_048))), true, "url: 2049 bytes"),
            (with(r#""url":"/v1","method":"get","body":{}"#), true, "method: "),
            (with(r#""url":"/v1""#), true, "body: missing"),
            (with(r#""url":"/v1","body":{},"params":{}"#), true, "body: stands beside params"),
            (with(r#""url":"/v1","body":{"stream":true}"#), true, "body.stream"),
        ] {
            let bad = Request::read(line.as_bytes()).expect_err(&line);
            assert!(bad.problem.contains(problem), "{line}: {bad:?}");
            assert_eq!(bad.custom_id.is_some(), names, "{line}: {bad:?}");
        }
        assert!(Request::read(b"{\"custom_id\":\"\xff\"}").expect_err("not text").problem.contains("UTF-8"));
        assert!(Request::read(with(r#""url":"/v1/models","method":"GET""#).as_bytes()).is_ok());
    }
}
