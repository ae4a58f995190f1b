//! The items of session messages, read in place: their text lies in the message. Strings of their own for each item were a tenth
//! of what a session cost.

use std::{borrow::Cow, ptr};

use permitd_proto::v1;

use super::reader::{Reader, bytes, number};

/// An acquire, field by field as in the contract.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Acquire<'a> {
    pub(crate) provider: &'a str,
    pub(crate) key: &'a str,
    pub(crate) tokens: u64,
    pub(crate) estimate: Option<Box<v1::Usage>>,
    pub(crate) model: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) priority: i32,
    pub(crate) max_wait: Option<prost_types::Duration>,
    pub(crate) count: u32,
    pub(crate) request_id: u64,
    pub(crate) traceparent: &'a str,
}

/// A report. Most tell how the call went and what it used; what tells more is large, and lies elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report<'a> {
    pub(crate) permit_id: &'a str,
    outcome: i32,
    http_status: u32,
    /// Everything but the permit_id, where there is more than the above.
    rest: Option<Box<v1::ReportRequest>>,
}

impl<'a> Acquire<'a> {
    /// `None`: ask prost. Those of one message are mostly for the same thing: a text that is the same as in the one `before` it is
    /// read as that one.
    pub(crate) fn read(message: &'a [u8], before: Option<&Self>) -> Option<Self> {
        const PROVIDER: u64 = bytes(1);
        const KEY: u64 = bytes(2);
        const TOKENS: u64 = number(3);
        const ESTIMATE: u64 = bytes(4);
        const MODEL: u64 = bytes(5);
        const TENANT: u64 = bytes(6);
        const PRIORITY: u64 = number(7);
        const MAX_WAIT: u64 = bytes(8);
        const COUNT: u64 = number(9);
        const REQUEST_ID: u64 = number(10);
        const TRACEPARENT: u64 = bytes(11);

        let mut acquire = Self::default();
        let [provider, key, model, tenant] =
            before.map_or([""; 4], |before| [before.provider, before.key, before.model, before.tenant]);
        let mut reader = Reader::new(message);
        while !reader.is_empty() {
            match reader.number()? {
                PROVIDER => acquire.provider = reader.text_like(provider)?,
                KEY => acquire.key = reader.text_like(key)?,
                TOKENS => acquire.tokens = reader.number()?,
                // A second one would have to be merged into the first.
                ESTIMATE if acquire.estimate.is_none() => {
                    acquire.estimate = Some(Box::new(reader.message()?));
                }
                MODEL => acquire.model = reader.text_like(model)?,
                TENANT => acquire.tenant = reader.text_like(tenant)?,
                // Numbers are cut to the size of their field, as every implementation does.
                PRIORITY => acquire.priority = reader.number()? as i32,
                MAX_WAIT if acquire.max_wait.is_none() => acquire.max_wait = Some(reader.message()?),
                COUNT => acquire.count = reader.number()? as u32,
                REQUEST_ID => acquire.request_id = reader.number()?,
                TRACEPARENT => acquire.traceparent = reader.text()?,
                _ => return None,
            }
        }
        Some(acquire)
    }
}

impl Acquire<'_> {
    /// Whether it was read as being for the same thing as another: the same budget, tenant and model.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        ptr::eq(self.provider, other.provider)
            && ptr::eq(self.key, other.key)
            && ptr::eq(self.model, other.model)
            && ptr::eq(self.tenant, other.tenant)
    }

    /// As a message of its own, of this tenant.
    pub(crate) fn to_request(&self, tenant: &str) -> v1::AcquireRequest {
        v1::AcquireRequest {
            provider: self.provider.to_owned(),
            key: self.key.to_owned(),
            tokens: self.tokens,
            estimate: self.estimate.as_deref().cloned(),
            model: self.model.to_owned(),
            tenant: tenant.to_owned(),
            priority: self.priority,
            max_wait: self.max_wait,
            count: self.count.max(1),
            request_id: self.request_id,
            traceparent: self.traceparent.to_owned(),
        }
    }
}

impl<'a> From<&'a v1::ReportRequest> for Report<'a> {
    fn from(request: &'a v1::ReportRequest) -> Self {
        let rest = v1::ReportRequest { permit_id: String::new(), ..request.clone() };
        Self {
            permit_id: &request.permit_id,
            outcome: request.outcome,
            http_status: request.http_status,
            rest: Some(Box::new(rest)),
        }
    }
}

impl<'a> From<&'a v1::AcquireRequest> for Acquire<'a> {
    fn from(request: &'a v1::AcquireRequest) -> Self {
        let v1::AcquireRequest {
            provider,
            key,
            tokens,
            estimate,
            model,
            tenant,
            priority,
            max_wait,
            count,
            request_id,
            traceparent,
        } = request;
        Self {
            provider,
            key,
            tokens: *tokens,
            estimate: estimate.clone().map(Box::new),
            model,
            tenant,
            priority: *priority,
            max_wait: *max_wait,
            count: *count,
            request_id: *request_id,
            traceparent,
        }
    }
}

impl<'a> Report<'a> {
    /// Whether all that it tells is that the call succeeded.
    pub(crate) fn is_plain_success(&self) -> bool {
        self.rest.is_none() && self.outcome == v1::Outcome::Success as i32 && self.http_status == 0
    }

    /// What it tells, as if it came by itself; its permit_id is left out.
    pub(crate) fn told(&self) -> Cow<'_, v1::ReportRequest> {
        match &self.rest {
            Some(told) => Cow::Borrowed(told),
            None => Cow::Owned(v1::ReportRequest {
                outcome: self.outcome,
                http_status: self.http_status,
                ..v1::ReportRequest::default()
            }),
        }
    }

    /// `None`: ask prost.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        const PERMIT_ID: u64 = bytes(1);
        const OUTCOME: u64 = number(2);
        const RETRY_AFTER: u64 = bytes(3);
        const ACTUAL: u64 = bytes(4);
        const HTTP_STATUS: u64 = number(5);
        const HEADERS: u64 = bytes(6);
        const BODY: u64 = bytes(7);
        const LATENCY: u64 = bytes(8);

        let mut report = Self::default();
        let mut reader = Reader::new(message);
        while !reader.is_empty() {
            let key = reader.number()?;
            match key {
                PERMIT_ID => report.permit_id = reader.text()?,
                OUTCOME => report.outcome = reader.number()? as i32,
                HTTP_STATUS => report.http_status = reader.number()? as u32,
                _ => {
                    let told = report.rest.get_or_insert_default();
                    match key {
                        // A second one would have to be merged into the first.
                        RETRY_AFTER if told.retry_after.is_none() => {
                            told.retry_after = Some(reader.message()?)
                        }
                        ACTUAL if told.actual.is_none() => told.actual = Some(reader.message()?),
                        HEADERS => {
                            let (name, value) = header(reader.bytes()?)?;
                            told.headers.insert(name.to_owned(), value.to_owned());
                        }
                        BODY => told.body = reader.bytes()?.to_vec(),
                        LATENCY if told.latency.is_none() => told.latency = Some(reader.message()?),
                        _ => return None,
                    }
                }
            }
        }
        if let Some(told) = &mut report.rest {
            (told.outcome, told.http_status) = (report.outcome, report.http_status);
        }
        Some(report)
    }
}

/// An entry of a map from text to text.
fn header(entry: &[u8]) -> Option<(&str, &str)> {
    const NAME: u64 = bytes(1);
    const VALUE: u64 = bytes(2);

    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(entry);
    while !reader.is_empty() {
        match reader.number()? {
            NAME => name = reader.text()?,
            VALUE => value = reader.text()?,
            _ => return None,
        }
    }
    Some((name, value))
}
