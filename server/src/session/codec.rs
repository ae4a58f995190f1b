//! How session messages are read: items are counted before anything is decoded, since four megabytes of empty items would
//! become hundreds of megabytes of messages.

use bytes::Buf as _;
use permitd_proto::v1::{SessionRequest, SessionResponse};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::{config::Bounds, status::Fault};

/// Reports in one message, and extensions.
const REPORTS_PER_MESSAGE_MAX: usize = 10_000;
const EXTENSIONS_PER_MESSAGE_MAX: usize = 10_000;

/// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// Fields of a `SessionRequest`, by their numbers.
const FIELDS: usize = 6;
const ACQUIRE: usize = 2;
const REPORT: usize = 3;
const CANCEL: usize = 4;
const EXTEND: usize = 5;

/// Reads and writes messages of sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionCodec {
    most: Items,
}

/// Decodes messages that have no more items than allowed.
#[derive(Debug)]
pub(crate) struct BoundedDecoder {
    most: Items,
    inner: ProstDecoder<SessionRequest>,
}

/// Items of one message, by field number.
type Items = [usize; FIELDS];

impl SessionCodec {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let mut most = [usize::MAX; FIELDS];
        most[ACQUIRE] = bounds.acquires_per_message;
        most[REPORT] = REPORTS_PER_MESSAGE_MAX;
        most[CANCEL] = bounds.cancels_per_message;
        most[EXTEND] = EXTENSIONS_PER_MESSAGE_MAX;
        Self { most }
    }
}

impl Codec for SessionCodec {
    type Encode = SessionResponse;
    type Decode = SessionRequest;
    type Encoder = ProstEncoder<SessionResponse>;
    type Decoder = BoundedDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> BoundedDecoder {
        let inner = ProstCodec::<SessionResponse, SessionRequest>::raw_decoder(BufferSettings::default());
        BoundedDecoder { most: self.most, inner }
    }
}

impl Decoder for BoundedDecoder {
    type Item = SessionRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<SessionRequest>, Status> {
        check(bytes.chunk(), &self.most)?;
        self.inner.decode(bytes)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}

/// Refuses a message with more items than allowed. Bytes that are no message are left to the decoder, which says so.
fn check(message: &[u8], most: &Items) -> Result<(), Fault> {
    let items = count(message);
    for (field, name) in [(ACQUIRE, "acquire"), (REPORT, "report"), (CANCEL, "cancel"), (EXTEND, "extend")] {
        if items[field] > most[field] {
            let problem = format!("{} items in one message; send at most {}", items[field], most[field]);
            return Err(Fault::invalid(name, problem));
        }
    }
    Ok(())
}

/// Counts items up to the first byte that makes no sense.
fn count(mut message: &[u8]) -> Items {
    let mut items = [0; FIELDS];
    while let Some(key) = varint(&mut message) {
        let field = usize::try_from(key >> 3).unwrap_or(usize::MAX);
        let (body, repeats) = match key & 7 {
            VARINT if varint(&mut message).is_some() => (Some(&[][..]), 1),
            FIXED_64 => (message.split_off(..8), 1),
            FIXED_32 => (message.split_off(..4), 1),
            LENGTH_DELIMITED => {
                let length = varint(&mut message).and_then(|length| usize::try_from(length).ok());
                let body = length.and_then(|length| message.split_off(..length));
                // Numbers may come packed; each ends with a byte below 0x80.
                let packed = |body: &[u8]| body.iter().filter(|byte| **byte < 0x80).count();
                (body, if field == CANCEL { body.map_or(0, packed) } else { 1 })
            }
            _ => (None, 0),
        };
        if body.is_none() {
            return items;
        }
        if let Some(count) = items.get_mut(field) {
            *count += repeats;
        }
    }
    items
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use permitd_proto::v1::{AcquireRequest, Hello, ReportRequest};
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
        assert_eq!(count(&message(3, 2, 300, 1)), [0, 1, 3, 2, 300, 1]);
        assert_eq!(count(&message(0, 0, 0, 0)), [0, 1, 0, 0, 0, 0]);
        // cancel: 1, cancel: 200, unpacked; then a field that nobody knows.
        assert_eq!(count(&[0x20, 1, 0x20, 0xc8, 1, 0x7d, 1, 2, 3, 4])[CANCEL], 2);
    }

    /// Goal: any bytes are counted without a panic, and no more of them than there are.
    #[test]
    fn garbage_is_no_trouble() {
        let sound = message(3, 2, 300, 1);
        for end in 0..sound.len() {
            count(&sound[..end]);
        }
        let huge_length = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(count(&huge_length), [0; FIELDS]);
        assert_eq!(count(&[0xff; 20]), [0; FIELDS]);
    }

    /// Goal: one item too many is refused, with its field.
    #[test]
    fn refuses_too_many() {
        let codec = SessionCodec::new(&Bounds::default());
        check(&message(1_000, 10_000, 10_000, 10_000), &codec.most).expect("as many as allowed");
        for (field, bytes) in [
            ("acquire", message(1_001, 0, 0, 0)),
            ("report", message(0, 10_001, 0, 0)),
            ("cancel", message(0, 0, 10_001, 0)),
            ("extend", message(0, 0, 0, 10_001)),
        ] {
            let fault = check(&bytes, &codec.most).expect_err(field);
            assert!(fault.into_refused().message.starts_with(field));
        }
    }
}
