//! What stands on a line of the results and of the errors: OpenAI's form of a batch's output.

use rand::random;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::answer::Answer;

/// A line of either file.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    id: String,
    custom_id: Option<&'a str>,
    response: Option<Response<'a>>,
    error: Option<Problem<'a>>,
}

#[derive(Debug, Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: Option<&'a str>,
    body: Box<RawValue>,
}

/// Why there is no answer.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    code: &'a str,
    message: &'a str,
    /// Of the input, where the line itself is wrong.
    line: Option<u64>,
}

/// What has to be on a line for it to be a result.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    pub(super) custom_id: String,
    #[serde(rename = "response")]
    _response: serde::de::IgnoredAny,
}

impl<'a> Record<'a> {
    /// The provider answered, well or not.
    pub(super) fn answered(custom_id: &'a str, answer: &'a Answer) -> Self {
        let status_code = answer.status.as_u16();
        let response =
            Response { status_code, request_id: answer.request_id(), body: one_line(&answer.body) };
        Self { id: id(), custom_id: Some(custom_id), response: Some(response), error: None }
    }

    /// There is no answer.
    pub(super) fn failed(custom_id: &'a str, code: &'a str, message: &'a str) -> Self {
        let error = Problem { code, message, line: None };
        Self { id: id(), custom_id: Some(custom_id), response: None, error: Some(error) }
    }

    /// The line makes no sense, so nothing was called.
    pub(super) fn invalid(custom_id: Option<&'a str>, line: u64, message: &'a str) -> Self {
        let error = Problem { code: "invalid_line", message, line: Some(line) };
        Self { id: id(), custom_id, response: None, error: Some(error) }
    }

    /// The line, with its end.
    pub(super) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data is always JSON");
        line.push('\n');
        line
    }
}

fn id() -> String {
    format!("batch_req_{:032x}", random::<u128>())
}

/// A body as it came, but on one line: in JSON, ends of lines stand between tokens only. What is no JSON becomes a string.
fn one_line(body: &str) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(body) {
        Ok(_) => {
            let line = body.replace(['\n', '\r'], " ");
            RawValue::from_string(line).expect("white space for white space leaves JSON valid")
        }
        Err(_) => to_raw_value(body).expect("a string is always JSON"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever a body is, its result is one line that holds it unchanged.
    #[test]
    fn bodies_stay_as_they_came() {
        let pretty = "{\n  \"seed\": 12345678901234567890123,\r\n  \"text\": \"a\\nb\"\n}";
        assert_eq!(one_line(pretty).get(), "{   \"seed\": 12345678901234567890123,    \"text\": \"a\\nb\" }");
        for text in ["<html>\n</html>", "", "{\"a\": \"b\nc\"}", "{} {}"] {
            let line = one_line(text);
            assert!(!line.get().contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<String>(line.get()).expect("a string"), text);
        }
    }

    /// Goal: what is written is read again as a result; what is none is not.
    #[test]
    fn knows_its_own() {
        let line = Record::failed("a\u{2028}b", "code", "message").line();
        let written: Written = serde_json::from_str(&line).expect("a result");
        assert_eq!(written.custom_id, "a\u{2028}b");
        for other in [r#"{"custom_id":"a"}"#, r#"{"response":null}"#, "[]", "", r#"{"custom_id":"a","respon"#]
        {
            assert!(serde_json::from_str::<Written>(other).is_err(), "{other}");
        }
    }
}
