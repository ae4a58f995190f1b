//! A client's message, read in place. What is written in an unusual way (a later contract's fields, a message in two pieces) is
//! left to prost and read as prost would write it, so both readers agree and garbage fails as it does everywhere.

use bytes::Bytes;
use permitd_proto::v1::{Hello, SessionRequest};
use prost::Message as _;
use tonic::Status;

use super::codec::Items;
use crate::wire::{
    items::{Acquire, Report},
    reader::{Reader, bytes, number},
};

/// As it came, with its items counted.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(super) bytes: Bytes,
    pub(super) items: Items,
}

/// What it says.
#[derive(Debug, PartialEq)]
pub(crate) struct Message<'a> {
    pub(super) hello: Option<Hello>,
    pub(super) acquire: Vec<Acquire<'a>>,
    pub(super) report: Vec<Report<'a>>,
    pub(super) cancel: Vec<u64>,
    pub(super) extend: Vec<&'a str>,
}

impl Incoming {
    /// What the message says; `rewritten` holds its bytes where they were unusual.
    ///
    /// # Errors
    /// INTERNAL, gRPC's own code for bytes that are no message.
    pub(super) fn read<'a>(&'a self, rewritten: &'a mut Vec<u8>) -> Result<Message<'a>, Status> {
        if let Some(message) = Message::read(&self.bytes, &self.items) {
            return Ok(message);
        }
        let message =
            SessionRequest::decode(&*self.bytes).map_err(|error| Status::internal(error.to_string()))?;
        *rewritten = message.encode_to_vec();
        let unread = || Status::internal("the message could not be read");
        Message::read(rewritten, &self.items).ok_or_else(unread)
    }
}

impl<'a> Message<'a> {
    /// `None`: ask prost. `items` are how many there are, so that their vectors grow once.
    fn read(message: &'a [u8], items: &Items) -> Option<Self> {
        const HELLO: u64 = bytes(1);
        const ACQUIRE: u64 = bytes(2);
        const REPORT: u64 = bytes(3);
        const CANCEL: u64 = number(4);
        const CANCEL_PACKED: u64 = bytes(4);
        const EXTEND: u64 = bytes(5);

        let mut read = Self {
            hello: None,
            acquire: Vec::with_capacity(items.acquires),
            report: Vec::with_capacity(items.reports),
            cancel: Vec::with_capacity(items.cancels),
            extend: Vec::with_capacity(items.extensions),
        };
        let mut reader = Reader::new(message);
        while !reader.is_empty() {
            match reader.number()? {
                HELLO if read.hello.is_none() => read.hello = Some(reader.message()?),
                ACQUIRE => {
                    let acquire = Acquire::read(reader.bytes()?, read.acquire.last())?;
                    read.acquire.push(acquire);
                }
                REPORT => read.report.push(Report::read(reader.bytes()?)?),
                CANCEL => read.cancel.push(reader.number()?),
                CANCEL_PACKED => {
                    let mut packed = Reader::new(reader.bytes()?);
                    while !packed.is_empty() {
                        read.cancel.push(packed.number()?);
                    }
                }
                EXTEND => read.extend.push(reader.text()?),
                _ => return None,
            }
        }
        Some(read)
    }
}

/// Any bytes as a client's message, with all that is read of them before a budget is asked; and as a budget that somebody declares.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz(data: &[u8]) {
    use crate::{
        profile::{GENERIC, Profiles},
        wire::{budget, decode},
    };

    let incoming = Incoming { bytes: Bytes::copy_from_slice(data), items: super::codec::count(data) };
    if let Ok(message) = incoming.read(&mut Vec::new()) {
        drop(message.hello.as_ref().map(decode::hello));
        for acquire in &message.acquire {
            let _ = decode::acquire(acquire, "");
        }
        for report in &message.report {
            let _ =
                decode::report(&report.told(), Profiles::built_in().of(GENERIC), permitd_budget::Time::ZERO);
        }
    }
    if let Ok(declared) = permitd_proto::v1::Budget::decode(data) {
        let _ = budget::read(&declared);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use permitd_proto::v1;
    use proptest::{collection::vec, option, prelude::*};

    use super::{super::codec::count, *};

    /// As prost would have read it.
    fn typed(message: Message<'_>) -> SessionRequest {
        let acquire = |read: Acquire<'_>| v1::AcquireRequest {
            provider: read.provider.to_owned(),
            key: read.key.to_owned(),
            tokens: read.tokens,
            estimate: read.estimate.map(|estimate| *estimate),
            model: read.model.to_owned(),
            tenant: read.tenant.to_owned(),
            priority: read.priority,
            max_wait: read.max_wait,
            count: read.count,
            request_id: read.request_id,
            traceparent: read.traceparent.to_owned(),
        };
        let report = |read: Report<'_>| {
            let told = read.told().into_owned();
            assert_eq!(told.permit_id, "");
            v1::ReportRequest { permit_id: read.permit_id.to_owned(), ..told }
        };
        SessionRequest {
            hello: message.hello,
            acquire: message.acquire.into_iter().map(acquire).collect(),
            report: message.report.into_iter().map(report).collect(),
            cancel: message.cancel,
            extend: message.extend.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Both readers, on the same bytes.
    fn read_by_both(bytes: &[u8]) -> (Result<SessionRequest, String>, Result<SessionRequest, String>) {
        let items = count(bytes);
        let incoming = Incoming { bytes: Bytes::copy_from_slice(bytes), items };
        let ours = incoming.read(&mut Vec::new()).map(typed).map_err(|status| status.message().to_owned());
        (ours, SessionRequest::decode(bytes).map_err(|error| error.to_string()))
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..300_u64, any::<u64>()]
    }

    fn span() -> impl Strategy<Value = Option<prost_types::Duration>> {
        let span = |(seconds, nanos)| prost_types::Duration { seconds, nanos };
        option::of((any::<i64>(), any::<i32>()).prop_map(span))
    }

    prop_compose! {
        fn usage()(
            [requests, tokens, input_tokens, output_tokens] in [
                option::of(number()), option::of(number()), option::of(number()), option::of(number()),
            ],
            (max_output_tokens, cached_input_tokens) in (option::of(number()), option::of(number())),
            other in proptest::collection::btree_map("[a-z]{0,9}", number(), 0..3),
        ) -> v1::Usage {
            v1::Usage {
                requests, tokens, input_tokens, output_tokens, max_output_tokens, cached_input_tokens, other,
            }
        }
    }

    prop_compose! {
        fn acquire()(
            // Few models and tenants: some are the same as in the acquire before.
            [provider, key, model, tenant, traceparent] in ["\\PC{0,9}", "[a-z]{0,200}", "[é]{0,1}", "[ab]{0,1}", "[-0-9a-f]{0,60}"],
            (tokens, request_id) in (number(), number()),
            estimate in option::of(usage()),
            (priority, count) in (any::<i32>(), any::<u32>()),
            max_wait in span(),
        ) -> v1::AcquireRequest {
            v1::AcquireRequest {
                provider, key, tokens, estimate, model, tenant, priority, max_wait, count, request_id, traceparent,
            }
        }
    }

    prop_compose! {
        fn report()(
            permit_id in "[ -~]{0,200}",
            (outcome, http_status) in (any::<i32>(), any::<u32>()),
            (retry_after, latency) in (span(), span()),
            actual in option::of(usage()),
            headers in proptest::collection::btree_map("[a-z-]{0,9}", "\\PC{0,9}", 0..3),
            body in vec(any::<u8>(), 0..9),
        ) -> v1::ReportRequest {
            let headers: BTreeMap<_, _> = headers;
            v1::ReportRequest { permit_id, outcome, retry_after, actual, http_status, headers, body, latency }
        }
    }

    prop_compose! {
        fn request()(
            hello in option::of(("[a-z]{0,9}", any::<bool>())),
            acquire in vec(acquire(), 0..4),
            report in vec(report(), 0..4),
            cancel in vec(number(), 0..4),
            extend in vec("[ -~]{0,9}", 0..4),
        ) -> SessionRequest {
            let hello = hello.map(|(tenant, progress)| Hello { tenant, progress, ..Hello::default() });
            SessionRequest { hello, acquire, report, cancel, extend }
        }
    }

    proptest! {
        /// Goal: what prost writes is read in place, and as prost reads it.
        #[test]
        fn reads_what_prost_writes(request in request()) {
            let bytes = request.encode_to_vec();
            let items = count(&bytes);
            prop_assert_eq!(Message::read(&bytes, &items).map(typed), Some(request));
        }

        /// Goal: whatever bytes come, both readers see the same message or fail with the same words.
        #[test]
        fn agrees_with_prost_on_garbage(
            (one, other) in (request(), request()),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in option::of(any::<prop::sample::Index>()),
        ) {
            // Two messages in a row are one whose parts have to be merged.
            let mut bytes = [one.encode_to_vec(), other.encode_to_vec()].concat();
            if !bytes.is_empty() {
                for (at, byte) in changes {
                    *at.get_mut(&mut bytes) = byte;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            let (ours, prosts) = read_by_both(&bytes);
            prop_assert_eq!(ours, prosts);
        }
    }

    /// Goal: fields that nobody knows yet, in all their forms, do not matter.
    #[test]
    fn unknown_fields_are_skipped() {
        let known = SessionRequest { cancel: vec![1, 300], ..SessionRequest::default() };
        let unknown: [&[u8]; 5] = [&[0x78, 1], &[0x79; 9], &[0x7a, 1, 0], &[0x7b, 0x08, 1, 0x7c], &[0x7d; 5]];
        for field in unknown {
            let bytes = [field, &known.encode_to_vec(), field].concat();
            assert_eq!(read_by_both(&bytes), (Ok(known.clone()), Ok(known.clone())), "{field:?}");
        }
    }
}
