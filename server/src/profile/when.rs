//! Conditions on a response: status, one header, JSON in the body, or plain text there.

use serde_json::Value;

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
