//! Protobuf's wire format, written straight to where it is sent from, byte for byte as prost writes it. The two answers that a session sends
//! most are written here; through messages with strings and maps of their own they were a fifth of what a session cost.

use std::time::Duration;

use permitd_budget::{Amounts, Grant, Reported, Time};

use super::encode;

/// Bytes that grow at the end. Field numbers are below 16.
#[derive(Debug)]
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self(bytes)
    }

    /// A whole message, by prost.
    pub(crate) fn message(&mut self, field: u8, message: &impl prost::Message) {
        self.0.push(field << 3 | 2);
        message.encode_length_delimited(self.0).expect("a Vec grows");
    }

    /// `Granted`.
    pub(crate) fn granted(&mut self, field: u8, request_id: u64, permit: &PermitText<'_>, grant: &Grant) {
        self.nested(field, |granted| {
            granted.number(1, request_id);
            granted.nested(2, |written| {
                written.bytes(1, permit.id);
                written.text(2, permit.provider);
                written.text(3, permit.key);
                let mut times = Short::default();
                times.timestamp(4, grant.expires);
                times.duration(5, grant.ttl);
                times.duration(6, grant.waited);
                written.short(&times);
                written.charged(7, &grant.charged);
            });
        });
    }

    /// `ReportResponse`.
    pub(crate) fn reported(&mut self, field: u8, permit_id: &str, reported: &Reported) {
        self.nested(field, |response| {
            response.text(1, permit_id);
            response.number(2, encode::outcome(reported.outcome) as u64);
            response.number(3, reported.settled.into());
            response.number(4, reported.retry.into());
            if let Some(wait) = reported.retry_after {
                let mut times = Short::default();
                times.duration(5, wait);
                response.short(&times);
            }
        });
    }

    fn short(&mut self, short: &Short) {
        self.0.extend_from_slice(&short.bytes[..short.length % SHORT_BYTES]);
    }

    fn charged(&mut self, field: u8, amounts: &Amounts) {
        if amounts.other.is_some() {
            return self.message(field, &encode::amounts(amounts.clone()));
        }
        let mut charged = Short::default();
        charged.nested(field, |charged| {
            charged.present(1, amounts.requests);
            charged.present(2, amounts.tokens);
            charged.present(3, amounts.input_tokens);
            charged.present(4, amounts.output_tokens);
        });
        self.short(&charged);
    }

    /// A number that need not be said if it is 0.
    fn number(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.0.push(field << 3);
            self.varint(value);
        }
    }

    fn text(&mut self, field: u8, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.push(field << 3 | 2);
            self.varint(bytes.len() as u64);
            self.0.extend_from_slice(bytes);
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A message behind its length, which is known afterwards: one byte is kept free for it, and more are made where it takes more.
    fn nested(&mut self, field: u8, write: impl FnOnce(&mut Writer<'_>)) {
        self.0.push(field << 3 | 2);
        let start = self.0.len() + 1;
        self.0.push(0);
        write(&mut Writer(self.0));
        let length = self.0.len() - start;
        if length < 0x80 {
            self.0[start - 1] = length as u8;
        } else {
            let mut long = Vec::with_capacity(10);
            Writer(&mut long).varint(length as u64);
            self.0.splice(start - 1..start, long);
        }
    }
}

/// Three times, or five numbers, with their keys: no more than 3 * (2 + 2 * 11) bytes.
const SHORT_BYTES: usize = 128;

/// Bytes that are few, and so need no look at a vector's room for each of them: 200 instructions less for a grant, by callgrind.
#[derive(Debug)]
struct Short {
    bytes: [u8; SHORT_BYTES],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; SHORT_BYTES], length: 0 }
    }
}

impl Short {
    fn timestamp(&mut self, field: u8, time: Time) {
        let prost_types::Timestamp { seconds, nanos } = encode::timestamp(time);
        self.parts(field, seconds, nanos);
    }

    fn duration(&mut self, field: u8, span: Duration) {
        let prost_types::Duration { seconds, nanos } = encode::duration(span);
        self.parts(field, seconds, nanos);
    }

    /// Neither is negative.
    fn parts(&mut self, field: u8, seconds: i64, nanos: i32) {
        self.nested(field, |parts| {
            parts.number(1, seconds as u64);
            parts.number(2, nanos as u64);
        });
    }

    /// A number that need not be said if it is 0.
    fn number(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.present(field, value);
        }
    }

    /// A number that is said also if it is 0.
    fn present(&mut self, field: u8, mut value: u64) {
        self.push(field << 3);
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    /// A message behind its length, which is one byte.
    fn nested(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.push(field << 3 | 2);
        let start = self.length;
        self.push(0);
        write(self);
        self.bytes[start % SHORT_BYTES] = (self.length - start - 1) as u8;
    }

    fn push(&mut self, byte: u8) {
        debug_assert!(self.length < SHORT_BYTES - 1, "what is short has its bound");
        self.bytes[self.length % SHORT_BYTES] = byte;
        self.length += 1;
    }
}

/// What is written of a permit besides its grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PermitText<'a> {
    /// Text, which nobody has to look through once more.
    pub(crate) id: &'a [u8],
    pub(crate) provider: &'a str,
    pub(crate) key: &'a str,
}

#[cfg(test)]
mod tests {
    use permitd_budget::{Outcome, PermitKey};
    use permitd_proto::v1;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::config::BudgetName;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..300_u64, any::<u64>()]
    }

    fn span() -> impl Strategy<Value = Duration> {
        (number(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
    }

    prop_compose! {
        fn amounts()(
            requests in number(),
            input_tokens in number(),
            output_tokens in number(),
            tokens in number(),
            other in proptest::option::of(proptest::collection::btree_map("[a-z]{1,40}", number(), 1..4)),
        ) -> Amounts {
            let boxed = |other: std::collections::BTreeMap<String, u64>| {
                other.into_iter().map(|(unit, amount)| (unit.into_boxed_str(), amount)).collect()
            };
            let other = other.map(boxed);
            Amounts { requests, input_tokens, output_tokens, tokens, other, ..Amounts::default() }
        }
    }

    proptest! {
        /// Goal: a grant is written byte for byte as prost writes the same message, however long its names are.
        #[test]
        fn grants_as_prost_writes_them(
            request_id in number(),
            provider in "[a-z]{1,150}",
            key in "[a-z]{0,150}",
            expires in number(),
            (ttl, waited) in (span(), span()),
            charged in amounts(),
        ) {
            let name = BudgetName::new(&provider, &key).expect("sound names");
            let permit = PermitKey::from_u64(request_id);
            let grant = Grant { permit, charged, expires: Time::from_nanos(expires), ttl, waited };
            let text = PermitText { id: b"x", provider: name.provider(), key: name.key() };
            let mut written = Vec::new();
            Writer::new(&mut written).granted(3, request_id, &text, &grant);
            let permit = Some(encode::permit("x".to_owned(), &name, grant));
            let granted = vec![v1::Granted { request_id, permit }];
            prop_assert_eq!(written, v1::SessionResponse { granted, ..Default::default() }.encode_to_vec());
        }

        /// Goal: so is the answer to a report.
        #[test]
        fn answers_as_prost_writes_them(
            permit_id in "[ -~]{0,300}",
            (settled, retry) in any::<(bool, bool)>(),
            retry_after in proptest::option::of(span()),
            outcome in proptest::sample::select(vec![
                Outcome::Success,
                Outcome::RateLimited,
                Outcome::Cancelled,
                Outcome::Failed { retryable: true },
            ]),
        ) {
            let reported = Reported { outcome, settled, retry, retry_after };
            let mut written = Vec::new();
            Writer::new(&mut written).reported(5, &permit_id, &reported);
            let reported = vec![encode::reported(permit_id, reported)];
            prop_assert_eq!(written, v1::SessionResponse { reported, ..Default::default() }.encode_to_vec());
        }
    }
}
