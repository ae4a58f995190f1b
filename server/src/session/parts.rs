//! A large message in parts that do together, one after the other, what it would do at once: so that others get their turn in between.
//! An item that can't be read is found when its part's turn has come.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use permitd_proto::v1::SessionRequest;
use prost::{Message as _, encoding::encode_varint};
use tonic::Status;

use super::{
    codec::{Items, count},
    message::Incoming,
};
use crate::wire::reader::{Reader, bytes, number};

/// Items of a message that is not taken apart: what busy clients send by themselves.
pub(super) const ITEMS_MAX: usize = 128;
/// Items of one part, which is a turn. What is refused takes many times as long as what is granted, and whoever shares the thread waits
/// for some three turns: with four times as many, half of the calls of a client beside one that asks for what is refused took 2.7 ms in
/// place of 0.8.
const PART_ITEMS: usize = 32;

/// Fields of a `SessionRequest`.
const HELLO: u64 = bytes(1);
const REPORT: u64 = bytes(3);
const EXTEND: u64 = bytes(5);
const ACQUIRE: u64 = bytes(2);
const CANCEL: u64 = number(4);
const CANCEL_PACKED: u64 = bytes(4);

/// Parts with items of one kind.
#[derive(Debug, Default)]
struct Filling {
    full: VecDeque<Incoming>,
    part: Vec<u8>,
    items: usize,
}

/// Takes it apart.
///
/// # Errors
/// INTERNAL, gRPC's own code for bytes that are no message.
pub(super) fn take_apart(message: &Bytes) -> Result<VecDeque<Incoming>, Status> {
    if let Some(parts) = split(message) {
        return Ok(parts);
    }
    // Written in an unusual way: as prost would have written it.
    let message =
        SessionRequest::decode(message.clone()).map_err(|error| Status::internal(error.to_string()))?;
    let unread = || Status::internal("the message could not be read");
    let mut parts = split(&message.encode_to_vec()).ok_or_else(unread)?;
    // All of it was in fields that nobody knows. A message is not the end of its stream for that.
    if parts.is_empty() {
        parts.push_back(Incoming { bytes: Bytes::new(), items: Items::default() });
    }
    Ok(parts)
}

/// `None`: ask prost.
fn split(message: &[u8]) -> Option<VecDeque<Incoming>> {
    let [mut hello, mut reports, mut extensions, mut acquires, mut cancels] = <[Filling; 5]>::default();
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        match reader.number()? {
            HELLO => hello.add_bytes(HELLO, reader.bytes()?),
            REPORT => reports.add_bytes(REPORT, reader.bytes()?),
            EXTEND => extensions.add_bytes(EXTEND, reader.bytes()?),
            ACQUIRE => acquires.add_bytes(ACQUIRE, reader.bytes()?),
            CANCEL => cancels.add_number(CANCEL, reader.number()?),
            CANCEL_PACKED => {
                let mut packed = Reader::new(reader.bytes()?);
                while !packed.is_empty() {
                    cancels.add_number(CANCEL, packed.number()?);
                }
            }
            _ => return None,
        }
    }
    // As a whole message is handled.
    Some([hello, reports, extensions, acquires, cancels].into_iter().flat_map(Filling::finished).collect())
}

impl Filling {
    fn add_bytes(&mut self, key: u64, bytes: &[u8]) {
        self.add(|part| {
            encode_varint(key, part);
            encode_varint(bytes.len() as u64, part);
            part.extend_from_slice(bytes);
        });
    }

    fn add_number(&mut self, key: u64, number: u64) {
        self.add(|part| {
            encode_varint(key, part);
            encode_varint(number, part);
        });
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.part);
        self.items += 1;
        if self.items == PART_ITEMS {
            self.finish();
        }
    }

    fn finished(mut self) -> VecDeque<Incoming> {
        self.finish();
        self.full
    }

    fn finish(&mut self) {
        self.items = 0;
        let bytes = Bytes::from(mem::take(&mut self.part));
        if !bytes.is_empty() {
            let items = count(&bytes);
            self.full.push_back(Incoming { bytes, items });
        }
    }
}

impl Items {
    /// Whether a message of so many is taken apart.
    pub(super) fn are_many(&self) -> bool {
        self.acquires + self.reports + self.cancels + self.extensions > ITEMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use permitd_proto::v1::{AcquireRequest, Hello, ReportRequest};

    use super::*;

    /// Goal: whatever a message asks for, its parts ask for the same, in the order in which it is handled, and none for more than a
    /// part's worth.
    #[test]
    fn nothing_is_lost() {
        let acquire = |request_id| AcquireRequest { request_id, provider: "p".into(), ..Default::default() };
        let report = |id: u64| ReportRequest { permit_id: id.to_string(), ..Default::default() };
        let whole = SessionRequest {
            hello: Some(Hello { tenant: "web".into(), ..Hello::default() }),
            acquire: (0..1_000).map(acquire).collect(),
            report: (0..300).map(report).collect(),
            cancel: (0..777).collect(),
            extend: (0..129).map(|id: u64| id.to_string()).collect(),
        };
        let unusual = [&[0x7b, 0x08, 1, 0x7c][..], &whole.encode_to_vec()].concat();
        for bytes in [whole.encode_to_vec(), unusual] {
            let mut together = SessionRequest::default();
            let mut last = 0;
            for part in take_apart(&bytes.into()).expect("a sound message") {
                assert!(!part.items.are_many());
                let part = SessionRequest::decode(part.bytes).expect("a sound part");
                let kinds = [
                    part.hello.is_some(),
                    !part.report.is_empty(),
                    !part.extend.is_empty(),
                    !part.acquire.is_empty(),
                    !part.cancel.is_empty(),
                ];
                let first = kinds.iter().position(|there| *there).expect("something");
                assert!(last <= first, "handled in the order of a whole message");
                last = kinds.iter().rposition(|there| *there).expect("something");
                together.hello = together.hello.or(part.hello);
                together.acquire.extend(part.acquire);
                together.report.extend(part.report);
                together.cancel.extend(part.cancel);
                together.extend.extend(part.extend);
            }
            assert_eq!(together, whole);
        }
    }

    /// Goal: a message of nothing that anybody knows is a message all the same.
    #[test]
    fn what_nobody_knows_is_one_part() {
        let many = SessionRequest { cancel: vec![7; ITEMS_MAX + 1], ..Default::default() }.encode_to_vec();
        let unknown = [&[0x7b][..], &many, &[0x7c]].concat();
        assert!(count(&unknown).are_many());
        let parts = take_apart(&unknown.into()).expect("a sound message");
        let parts: Vec<_> = parts.iter().map(|part| (&part.bytes[..], part.items)).collect();
        assert_eq!(parts, [(&[][..], Items::default())]);
    }

    /// Goal: what can't be read is an error, however it is broken.
    #[test]
    fn garbage_is_refused() {
        let sound = SessionRequest { cancel: (0..300).collect(), ..Default::default() }.encode_to_vec();
        for broken in [&sound[..sound.len() - 1], &[0x12, 5], &[0x7b, 0x7b]] {
            assert_eq!(
                take_apart(&Bytes::copy_from_slice(broken)).err().map(|status| status.code()),
                Some(tonic::Code::Internal)
            );
        }
    }
}
