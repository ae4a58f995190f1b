//! A response as it is looked at: headers by name whatever their case, and the body parsed at most once. Everything is bounded.

use std::{cell::OnceCell, collections::BTreeMap};

use permitd_budget::Time;
use serde_json::Value;

use super::{
    Unreadable,
    values::{VALUE_BYTES_MAX, http_date},
};
use crate::profile;

/// What came with a report. Whoever decodes bounds the number of headers and the bytes of the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// 0 if there is none.
    pub(crate) status: u32,
    pub(crate) headers: &'a BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

/// A response with what was already found out about it.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    parts: &'a Parts<'a>,
    json: Option<Value>,
    text: OnceCell<String>,
    /// What the provider's clock showed when it answered, else ours.
    pub(super) there: Time,
}

impl<'a> Seen<'a> {
    pub(super) fn new(parts: &'a Parts<'a>, now: Time, unreadable: &mut Unreadable) -> Self {
        let begins = parts.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let json = match begins {
            Some(b'{' | b'[') => {
                let parsed = serde_json::from_slice(parts.body).ok();
                unreadable.bodies += u64::from(parsed.is_none());
                parsed
            }
            _ => None,
        };
        let mut seen = Self { parts, json, text: OnceCell::new(), there: now };
        if let Some(there) = seen.value("date").and_then(http_date) {
            seen.there = there;
        }
        seen
    }

    /// The value of a header, by its name in lower case. One that is too long is not looked at.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        let mut headers = self.parts.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        (value.len() <= VALUE_BYTES_MAX).then_some(value.as_str())
    }

    pub(super) fn has_headers(&self) -> bool {
        !self.parts.headers.is_empty()
    }
}

impl profile::Response for Seen<'_> {
    fn status(&self) -> u32 {
        self.parts.status
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.value(name)
    }

    fn json(&self) -> Option<&Value> {
        self.json.as_ref()
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| String::from_utf8_lossy(self.parts.body).to_lowercase())
    }
}
