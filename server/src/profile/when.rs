//! Conditions on a response: status, one header, JSON in the body, or plain text there.

use serde_json::Value;

use crate::config::read::{Table, number, text, texts};

/// What conditions look at.
pub(crate) trait Response {
    /// 0 if there is none.
    fn status(&self) -> u32;
    /// The value of a header, by its name in lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// The body, if it is JSON.
    fn json(&self) -> Option<&Value>;
    /// The body as text in lower case.
    fn text(&self) -> &str;
}

/// A condition. Every part that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct When {
    /// Any of these; empty means any from 400.
    pub(crate) status: Vec<u32>,
    /// A header that has to be there.
    pub(crate) header: Option<String>,
    /// Places in the body, any of which has to be there.
    pub(crate) body: Vec<Pointer>,
    /// What the header, or a text at one of those places, has to be like.
    pub(crate) test: Test,
    /// Texts in lower case, any of which has to be somewhere in the body.
    pub(crate) text: Vec<String>,
}

/// What a text has to be like. Case does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Test {
    #[default]
    Anything,
    Is(Vec<String>),
    StartsWith(Vec<String>),
    EndsWith(Vec<String>),
    Contains(Vec<String>),
}

/// A JSON pointer (RFC 6901) in which `*` stands for every item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl When {
    /// Reads the condition in a rule's table; with a status only where that decides.
    pub(super) fn read(table: &mut Table<'_>, with_status: bool) -> Self {
        let mut when = Self::default();
        if with_status && let Some(statuses) = table.read("status", statuses) {
            if statuses.is_empty() {
                table.problem(
                    "an empty list of statuses matches nothing; leave it out for any from 400".to_owned(),
                );
            }
            when.status = statuses;
        }
        when.header = table.read("header", |value| header_name(&text(value)?));
        if let Some(pointers) = table.read("body", |value| {
            texts(value)?.iter().map(|pointer| Pointer::parse(pointer)).collect::<Result<Vec<_>, String>>()
        }) {
            when.body = pointers;
        }
        let mut tests = 0;
        for (name, test) in [
            ("is", Test::Is as fn(Vec<String>) -> Test),
            ("starts_with", Test::StartsWith),
            ("ends_with", Test::EndsWith),
            ("contains", Test::Contains),
        ] {
            if let Some(parts) = table.read(name, lowered) {
                when.test = test(parts);
                tests += 1;
            }
        }
        if let Some(parts) = table.read("text", lowered) {
            when.text = parts;
        }
        match (when.header.is_some(), !when.body.is_empty()) {
            (true, true) => table.problem("give header or body: a rule tests one of them".to_owned()),
            (false, false) if tests > 0 => table.problem("nothing to test; give header or body".to_owned()),
            _ if tests > 1 => table.problem("give one of is, starts_with, ends_with and contains".to_owned()),
            _ => {}
        }
        when
    }

    /// Whether the response is like this.
    pub(crate) fn holds(&self, response: &impl Response) -> bool {
        let status = response.status();
        (if self.status.is_empty() { status >= 400 } else { self.status.contains(&status) })
            && self.holds_whatever_the_status(response)
    }

    /// Whether the response is like this but for its status.
    pub(crate) fn holds_whatever_the_status(&self, response: &impl Response) -> bool {
        let like = |name: &String| response.header(name).is_some_and(|value| self.test.holds(value));
        self.header.as_ref().is_none_or(like)
            && (self.body.is_empty() || self.in_body(response))
            && (self.text.is_empty() || self.text.iter().any(|part| response.text().contains(part)))
    }

    /// Whether it asks for nothing but the status.
    pub(crate) fn is_bare(&self) -> bool {
        self.header.is_none() && self.body.is_empty() && self.text.is_empty()
    }

    /// Whether it goes by what the provider wrote for people.
    pub(crate) fn is_prose(&self) -> bool {
        !self.text.is_empty()
    }

    fn in_body(&self, response: &impl Response) -> bool {
        let Some(json) = response.json() else { return false };
        self.body.iter().any(|pointer| {
            pointer.find(json, &mut |value| match value {
                Value::String(text) => self.test.holds(text),
                Value::Number(number) => self.test.holds(&number.to_string()),
                _ => self.test == Test::Anything,
            })
        })
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        let value = value.trim().to_lowercase();
        let any =
            |parts: &[String], like: fn(&str, &str) -> bool| parts.iter().any(|part| like(&value, part));
        match self {
            Test::Anything => true,
            Test::Is(parts) => any(parts, |value, part| value == part),
            Test::StartsWith(parts) => any(parts, |value, part| value.starts_with(part)),
            Test::EndsWith(parts) => any(parts, |value, part| value.ends_with(part)),
            Test::Contains(parts) => any(parts, |value, part| value.contains(part)),
        }
    }
}

impl Pointer {
    /// Reads a pointer.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is no JSON pointer; write it like \"/error/code\""));
        };
        Ok(Self(path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// Whether `accepts` any of the values that stand there.
    pub(crate) fn find(&self, json: &Value, accepts: &mut dyn FnMut(&Value) -> bool) -> bool {
        find(&self.0, json, accepts)
    }
}

fn find(path: &[String], at: &Value, accepts: &mut dyn FnMut(&Value) -> bool) -> bool {
    let Some((name, rest)) = path.split_first() else { return accepts(at) };
    match at {
        Value::Object(entries) => entries.get(name).is_some_and(|value| find(rest, value, accepts)),
        Value::Array(items) if name == "*" => items.iter().any(|value| find(rest, value, accepts)),
        Value::Array(items) => name
            .parse::<usize>()
            .ok()
            .and_then(|at| items.get(at))
            .is_some_and(|value| find(rest, value, accepts)),
        _ => false,
    }
}

fn statuses(value: &::config::Value) -> Result<Vec<u32>, String> {
    let ::config::ValueKind::Array(items) = &value.kind else {
        return Err("write it as a list, like [429]".to_owned());
    };
    items
        .iter()
        .map(|item| match number(item)? {
            status @ 200..=599 => Ok(status as u32),
            other => Err(format!("{other} is no HTTP status from 200 to 599")),
        })
        .collect()
}

/// Texts to look for, in lower case.
fn lowered(value: &::config::Value) -> Result<Vec<String>, String> {
    let parts: Vec<String> = texts(value)?.iter().map(|part| part.to_lowercase()).collect();
    match parts.iter().any(|part| part.is_empty()) || parts.is_empty() {
        true => Err("an empty list or text tells nothing apart".to_owned()),
        false => Ok(parts),
    }
}

/// A header's name in lower case: any other would never be found.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(format!("{text:?} is no header's name; write it in lower case, like \"retry-after\""));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: pointers go through lists, and through names with slashes.
    #[test]
    fn pointers() {
        let body = json!({"error": {"details": [{"a": 1}, {"delay": "5s"}, {"delay": "7s"}]}, "a/b": ["x"]});
        let first = |pointer: &str| {
            let mut found = None;
            Pointer::parse(pointer).expect(pointer).find(&body, &mut |value| {
                found = Some(value.clone());
                true
            });
            found
        };
        assert_eq!(first("/error/details/*/delay"), Some(json!("5s")));
        assert_eq!(first("/error/details/2/delay"), Some(json!("7s")));
        assert_eq!(first("/error/details/9/delay"), None);
        assert_eq!(first("/a~1b/0"), Some(json!("x")));
        assert_eq!(first("/error/code/x"), None);
        assert!(Pointer::parse("error/code").is_err());
    }
}
