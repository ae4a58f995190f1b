//! The next messages to the client. However much is ready, no message is larger than clients take.

use std::mem;

use permitd_proto::v1::{Granted, LocalShare, Queued, Refused, ReportResponse, SessionResponse, Welcome};
use prost::Message as _;

/// Bytes of everything in an item that has a fixed size, generously.
const FIXED_BYTES: usize = 160;

/// Collects answers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    next: SessionResponse,
    /// Of the items in `next`, at most.
    bytes: usize,
    /// Of one message, where it is not a single item.
    bytes_max: usize,
}

/// What can be in a message many times.
trait Item {
    /// How many bytes it takes at most. Cheap for what is sent often.
    fn bytes(&self) -> usize;
}

impl Item for Granted {
    fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(FIXED_BYTES, |permit| {
            let other = permit.charged.iter().flat_map(|charged| charged.other.keys());
            let units: usize = other.map(|unit| unit.len() + FIXED_BYTES).sum();
            FIXED_BYTES + permit.permit_id.len() + permit.provider.len() + permit.key.len() + units
        })
    }
}

impl Item for Refused {
    fn bytes(&self) -> usize {
        FIXED_BYTES + self.permit_id.len() + self.reason.len() + self.message.len() + self.limit.len()
    }
}

impl Item for ReportResponse {
    fn bytes(&self) -> usize {
        FIXED_BYTES + self.permit_id.len()
    }
}

impl Item for Queued {
    fn bytes(&self) -> usize {
        FIXED_BYTES + self.held_by.len()
    }
}

impl Item for LocalShare {
    fn bytes(&self) -> usize {
        FIXED_BYTES + self.encoded_len()
    }
}

impl Outgoing {
    /// For messages of at most `message_bytes`.
    pub(crate) fn new(message_bytes: usize) -> Self {
        // A part of it is enough to be worth a message, and leaves room for the Welcome.
        Self { next: SessionResponse::default(), bytes: 0, bytes_max: message_bytes / 2 }
    }

    pub(crate) fn welcome(&mut self, welcome: Welcome) {
        self.next.welcome = Some(welcome);
    }

    pub(crate) fn queued(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        self.next.queued.push(queued);
    }

    pub(crate) fn granted(&mut self, granted: Granted) {
        self.bytes += granted.bytes();
        self.next.granted.push(granted);
    }

    pub(crate) fn refused(&mut self, refused: Refused) {
        self.bytes += refused.bytes();
        self.next.refused.push(refused);
    }

    pub(crate) fn reported(&mut self, reported: ReportResponse) {
        self.bytes += reported.bytes();
        self.next.reported.push(reported);
    }

    pub(crate) fn share(&mut self, share: LocalShare) {
        self.bytes += share.bytes();
        self.next.shares.push(share);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next.welcome.is_none() && self.bytes == 0
    }

    /// Whether there is enough for a message, so that nothing more should be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max / 2
    }

    /// The next message. There has to be something.
    pub(crate) fn take(&mut self) -> SessionResponse {
        if self.bytes <= self.bytes_max {
            self.bytes = 0;
            return mem::take(&mut self.next);
        }
        let mut room = Room { left: self.bytes_max, taken: 0, first: true };
        let message = SessionResponse {
            welcome: self.next.welcome.take(),
            granted: room.fill(&mut self.next.granted),
            refused: room.fill(&mut self.next.refused),
            reported: room.fill(&mut self.next.reported),
            queued: room.fill(&mut self.next.queued),
            shares: room.fill(&mut self.next.shares),
        };
        self.bytes -= room.taken;
        message
    }

    /// Forgets what a resume sends anew anyway, and hands out the permit_ids of grants that were not sent.
    pub(crate) fn forget_grants(&mut self) -> Vec<String> {
        let (queued, shares) = (mem::take(&mut self.next.queued), mem::take(&mut self.next.shares));
        let granted = mem::take(&mut self.next.granted);
        self.bytes -= total(&queued) + total(&shares) + total(&granted);
        granted.into_iter().filter_map(|granted| Some(granted.permit?.permit_id)).collect()
    }
}

fn total(items: &[impl Item]) -> usize {
    items.iter().map(Item::bytes).sum()
}

/// What is left of one message.
struct Room {
    left: usize,
    taken: usize,
    /// The first item goes out, however large it is.
    first: bool,
}

impl Room {
    /// The first items, in their order, as far as there is room.
    fn fill<T: Item>(&mut self, items: &mut Vec<T>) -> Vec<T> {
        let mut fitting = 0;
        for item in items.iter() {
            let bytes = item.bytes();
            if bytes > self.left && !mem::take(&mut self.first) {
                self.left = 0;
                break;
            }
            self.first = false;
            self.left = self.left.saturating_sub(bytes);
            self.taken += bytes;
            fitting += 1;
        }
        items.drain(..fitting).collect()
    }
}

#[cfg(test)]
mod tests {
    use permitd_proto::v1::{Permit, Usage};

    use super::*;

    const MESSAGE_BYTES: usize = 64 * 1024;

    fn granted(request_id: u64, unit_bytes: usize) -> Granted {
        let other = (0..16).map(|at| (format!("{at:>unit_bytes$}"), u64::MAX)).collect();
        let charged = Some(Usage { other, tokens: Some(u64::MAX), ..Usage::default() });
        let permit =
            Permit { permit_id: "x".repeat(28), provider: "p".repeat(256), charged, ..Permit::default() };
        Granted { request_id, permit: Some(permit) }
    }

    /// Goal: however much is ready and however large it is, it goes out in bounded messages, in order and complete.
    #[test]
    fn messages_are_bounded() {
        let mut outgoing = Outgoing::new(MESSAGE_BYTES);
        outgoing.welcome(Welcome::default());
        for request_id in 0..100 {
            outgoing.granted(granted(request_id, 256));
        }
        assert!(outgoing.is_full());
        outgoing.refused(Refused { message: "m".repeat(1_000), ..Refused::default() });
        let (mut ids, mut refused, mut messages) = (Vec::new(), 0, 0);
        while !outgoing.is_empty() {
            let message = outgoing.take();
            assert_eq!(message.welcome.is_some(), messages == 0);
            assert!(message.encoded_len() <= MESSAGE_BYTES, "{} bytes", message.encoded_len());
            ids.extend(message.granted.iter().map(|granted| granted.request_id));
            refused += message.refused.len();
            messages += 1;
        }
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        assert_eq!(refused, 1);
        assert_eq!(outgoing.bytes, 0);
    }

    /// Goal: an item that is larger than a message's part goes out by itself rather than never.
    #[test]
    fn large_items_go_out() {
        let mut outgoing = Outgoing::new(1_000);
        for request_id in 0..3 {
            outgoing.granted(granted(request_id, 256));
        }
        for request_id in 0..3 {
            let message = outgoing.take();
            assert_eq!(
                message.granted.iter().map(|granted| granted.request_id).collect::<Vec<_>>(),
                [request_id]
            );
        }
        assert!(outgoing.is_empty());
    }

    /// Goal: what is forgotten does not count any more.
    #[test]
    fn forgets() {
        let mut outgoing = Outgoing::new(MESSAGE_BYTES);
        outgoing.granted(granted(1, 5));
        outgoing.queued(Queued::default());
        outgoing.share(LocalShare::default());
        assert_eq!(outgoing.forget_grants(), ["x".repeat(28)]);
        assert!(outgoing.is_empty());
    }
}
