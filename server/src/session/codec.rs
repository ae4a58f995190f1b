//! How session messages are framed: items are counted before anything is read, since four megabytes of empty items would
//! become hundreds of megabytes of messages. What is sent has been written already.

use bytes::{Buf as _, BufMut as _};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::message::Incoming;
use crate::{config::Bounds, status::Fault, wire::reader::Reader};

/// Reports in one message, and extensions.
const REPORTS_PER_MESSAGE_MAX: usize = 10_000;
const EXTENSIONS_PER_MESSAGE_MAX: usize = 10_000;

/// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;

/// Reads and writes messages of sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionCodec {
    most: Items,
}

/// Passes messages on that have no more items than allowed.
#[derive(Debug)]
pub(crate) struct BoundedDecoder {
    most: Items,
}

/// Sends what has been written.
#[derive(Debug)]
pub(crate) struct WrittenEncoder;

/// A message on its way out, as bytes.
#[derive(Debug)]
pub(crate) struct Written(pub(super) Vec<u8>);

/// Items of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Items {
    pub(super) acquires: usize,
    pub(super) reports: usize,
    pub(super) cancels: usize,
    pub(super) extensions: usize,
}

impl SessionCodec {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            most: Items {
                acquires: bounds.acquires_per_message,
                reports: REPORTS_PER_MESSAGE_MAX,
                cancels: bounds.cancels_per_message,
                extensions: EXTENSIONS_PER_MESSAGE_MAX,
            },
        }
    }
}

impl Codec for SessionCodec {
    type Encode = Written;
    type Decode = Incoming;
    type Encoder = WrittenEncoder;
    type Decoder = BoundedDecoder;

    fn encoder(&mut self) -> WrittenEncoder {
        WrittenEncoder
    }

    fn decoder(&mut self) -> BoundedDecoder {
        BoundedDecoder { most: self.most }
    }
}

impl Encoder for WrittenEncoder {
    type Item = Written;
    type Error = Status;

    fn encode(&mut self, Written(bytes): Written, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(bytes.len());
        to.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for BoundedDecoder {
    type Item = Incoming;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Incoming>, Status> {
        let items = self.most.check(message.chunk())?;
        let bytes = message.copy_to_bytes(message.remaining());
        Ok(Some(Incoming { bytes, items }))
    }
}

impl Items {
    /// Counts the items of a message, and refuses more than these. Bytes that are no message are left to whoever reads it, who says
    /// so.
    fn check(&self, message: &[u8]) -> Result<Items, Fault> {
        let items = count(message);
        for (field, items, most) in [
            ("acquire", items.acquires, self.acquires),
            ("report", items.reports, self.reports),
            ("cancel", items.cancels, self.cancels),
            ("extend", items.extensions, self.extensions),
        ] {
            if items > most {
                let problem = format!("{items} items in one message; send at most {most}");
                return Err(Fault::invalid(field, problem));
            }
        }
        Ok(items)
    }
}

/// Counts items up to the first byte that makes no sense.
pub(super) fn count(message: &[u8]) -> Items {
    let mut items = Items::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.number() {
        let body = match key & 7 {
            VARINT => reader.number().map(|_| &[][..]),
            FIXED_64 => reader.take(8),
            FIXED_32 => reader.take(4),
            LENGTH_DELIMITED => reader.bytes(),
            // What is in a group counts as if it were beside it: one that is skipped must not hide what comes behind.
            GROUP_START | GROUP_END => Some(&[][..]),
            _ => None,
        };
        let Some(body) = body else { return items };
        match key >> 3 {
            _ if matches!(key & 7, GROUP_START | GROUP_END) => {}
            2 => items.acquires += 1,
            3 => items.reports += 1,
            // Numbers may come packed; each ends with a byte below 0x80.
            4 if key & 7 == LENGTH_DELIMITED => {
                items.cancels += body.iter().filter(|byte| **byte < 0x80).count()
            }
            4 => items.cancels += 1,
            5 => items.extensions += 1,
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use permitd_proto::v1::{AcquireRequest, Hello, ReportRequest, SessionRequest};
    use prost::Message as _;

    use super::*;

    fn message(acquires: usize, reports: usize, cancels: u64, extensions: usize) -> Vec<u8> {
        let acquire = AcquireRequest { provider: "p".to_owned(), tokens: 300, ..AcquireRequest::default() };
        SessionRequest {
            hello: Some(Hello { client: "test".to_owned(), ..Hello::default() }),
            acquire: vec![acquire; acquires],
            report: vec![ReportRequest::default(); reports],
            cancel: (0..cancels).collect(),
            extend: vec![String::new(); extensions],
        }
        .encode_to_vec()
    }

    /// Goal: what is counted is what the message holds, with numbers packed or not.
    #[test]
    fn counts_items() {
        let items = Items { acquires: 3, reports: 2, cancels: 300, extensions: 1 };
        assert_eq!(count(&message(3, 2, 300, 1)), items);
        assert_eq!(count(&message(0, 0, 0, 0)), Items::default());
        // cancel: 1, cancel: 200, unpacked; then a field that nobody knows.
        assert_eq!(count(&[0x20, 1, 0x20, 0xc8, 1, 0x7d, 1, 2, 3, 4]).cancels, 2);
    }

    /// Goal: items behind a group, which prost skips, are counted.
    #[test]
    fn groups_hide_nothing() {
        let group = [0x7b, 0x08, 1, 0x7c];
        let message = [&group, message(3, 2, 300, 1).as_slice()].concat();
        assert!(SessionRequest::decode(&*message).is_ok(), "prost reads it");
        assert_eq!(count(&message), Items { acquires: 3, reports: 2, cancels: 300, extensions: 1 });
    }

    /// Goal: any bytes are counted without a panic, and no more of them than there are.
    #[test]
    fn garbage_is_no_trouble() {
        let sound = message(3, 2, 300, 1);
        for end in 0..sound.len() {
            count(&sound[..end]);
        }
        let huge_length = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(count(&huge_length), Items::default());
        assert_eq!(count(&[0xff; 20]), Items::default());
    }

    /// Goal: one item too many is refused, with its field.
    #[test]
    fn refuses_too_many() {
        let codec = SessionCodec::new(&Bounds::default());
        codec.most.check(&message(1_000, 10_000, 10_000, 10_000)).expect("as many as allowed");
        for (field, bytes) in [
            ("acquire", message(1_001, 0, 0, 0)),
            ("report", message(0, 10_001, 0, 0)),
            ("cancel", message(0, 0, 10_001, 0)),
            ("extend", message(0, 0, 0, 10_001)),
        ] {
            let fault = codec.most.check(&bytes).expect_err(field);
            assert!(fault.into_refused().message.starts_with(field));
        }
    }
}
