//! The next messages to the client, written as they come up. However much is ready, no message is larger than clients take.

use std::{collections::VecDeque, mem};

use permitd_budget::{Grant, Reported};
use permitd_proto::v1::{
    Granted, LocalShare, Owner, Queued, Refused, ReportResponse, SessionResponse, Welcome,
};
use prost::Message as _;

use super::codec::Written;
use crate::wire::writer::{PermitText, Writer};

/// Fields of a `SessionResponse`.
const WELCOME: u8 = 1;
const QUEUED: u8 = 2;
const GRANTED: u8 = 3;
const REFUSED: u8 = 4;
const REPORTED: u8 = 5;
const SHARES: u8 = 6;
const OWNERS: u8 = 7;

/// Bytes that a message gets at once, however large the one before it was.
const USUAL_MAX: usize = 16 * 1024;

/// Collects answers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Goes out first.
    welcome: Option<Welcome>,
    /// Messages that are as large as they get.
    full: VecDeque<Vec<u8>>,
    /// The message behind them.
    next: Vec<u8>,
    /// Of the last message that was taken: the next one is likely to need as much room.
    usual: usize,
    /// Of one message, where it is not a single item.
    bytes_max: usize,
}

impl Outgoing {
    /// For messages of at most `message_bytes`.
    pub(crate) fn new(message_bytes: usize) -> Self {
        // A part of it is enough to be worth a message, and leaves room for the Welcome.
        let bytes_max = message_bytes / 2;
        Self { welcome: None, full: VecDeque::new(), next: Vec::new(), usual: 0, bytes_max }
    }

    pub(crate) fn welcome(&mut self, welcome: Welcome) {
        self.welcome = Some(welcome);
    }

    pub(crate) fn queued(&mut self, queued: &Queued) {
        self.add(|to| to.message(QUEUED, queued));
    }

    pub(crate) fn granted(&mut self, request_id: u64, permit: &PermitText<'_>, grant: &Grant) {
        self.add(|to| to.granted(GRANTED, request_id, permit, grant));
    }

    /// A grant of another server's.
    pub(crate) fn passed_grant(&mut self, granted: &Granted) {
        self.add(|to| to.message(GRANTED, granted));
    }

    /// Another server's answer to a report.
    pub(crate) fn passed_report(&mut self, reported: &ReportResponse) {
        self.add(|to| to.message(REPORTED, reported));
    }

    pub(crate) fn refused(&mut self, refused: &Refused) {
        self.add(|to| to.message(REFUSED, refused));
    }

    pub(crate) fn reported(&mut self, permit_id: &str, reported: &Reported) {
        self.add(|to| to.reported(REPORTED, permit_id, reported));
    }

    pub(crate) fn share(&mut self, share: &LocalShare) {
        self.add(|to| to.message(SHARES, share));
    }

    pub(crate) fn owner(&mut self, owner: &Owner) {
        self.add(|to| to.message(OWNERS, owner));
    }

    fn add(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        if self.next.capacity() == 0 {
            self.next.reserve(self.usual);
        }
        let start = self.next.len();
        write(&mut Writer::new(&mut self.next));
        if self.next.len() > self.bytes_max && start > 0 {
            let item = self.next.split_off(start);
            self.full.push_back(mem::replace(&mut self.next, item));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.welcome.is_none() && self.full.is_empty() && self.next.is_empty()
    }

    /// Whether there is enough for a message, so that nothing more should be read for now.
    pub(crate) fn is_full(&self) -> bool {
        !self.full.is_empty() || self.next.len() >= self.bytes_max / 2
    }

    /// The next message. There has to be something.
    pub(crate) fn take(&mut self) -> Written {
        let mut message = self.full.pop_front().unwrap_or_else(|| mem::take(&mut self.next));
        self.usual = message.len().min(USUAL_MAX);
        if let Some(welcome) = self.welcome.take() {
            Writer::new(&mut message).message(WELCOME, &welcome);
        }
        Written(message)
    }

    /// Forgets what a resume sends anew anyway, and hands out the permit_ids of grants that were not sent.
    pub(crate) fn forget_grants(&mut self) -> Vec<String> {
        let mut permit_ids = Vec::new();
        for message in self.full.iter_mut().chain([&mut self.next]) {
            let unsent = SessionResponse::decode(message.as_slice()).expect("our own writing can be read");
            let granted = unsent.granted.into_iter();
            permit_ids.extend(granted.filter_map(|granted| Some(granted.permit?.permit_id)));
            let kept =
                SessionResponse { refused: unsent.refused, reported: unsent.reported, ..Default::default() };
            *message = kept.encode_to_vec();
        }
        self.full.retain(|message| !message.is_empty());
        permit_ids
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{Amounts, Outcome, PermitKey, Time};

    use super::*;

    const MESSAGE_BYTES: usize = 64 * 1024;

    fn permit_id(request_id: u64) -> String {
        format!("{request_id:028}")
    }

    fn grant(outgoing: &mut Outgoing, request_id: u64, unit_bytes: usize) {
        let other = (0..16).map(|at| (format!("{at:>unit_bytes$}").into(), u64::MAX)).collect();
        let grant = Grant {
            permit: PermitKey::from_u64(request_id),
            charged: Amounts { tokens: u64::MAX, other: Some(other), ..Amounts::default() },
            expires: Time::MAX,
            ttl: Duration::MAX,
            waited: Duration::MAX,
        };
        let (id, provider) = (permit_id(request_id), "p".repeat(256));
        outgoing.granted(request_id, &PermitText { id: id.as_bytes(), provider: &provider, key: "" }, &grant);
    }

    fn taken(outgoing: &mut Outgoing) -> (SessionResponse, usize) {
        let Written(bytes) = outgoing.take();
        (SessionResponse::decode(bytes.as_slice()).expect("a message"), bytes.len())
    }

    /// Goal: however much is ready and however large it is, it goes out in bounded messages, in order and complete.
    #[test]
    fn messages_are_bounded() {
        let mut outgoing = Outgoing::new(MESSAGE_BYTES);
        outgoing.welcome(Welcome::default());
        for request_id in 0..100 {
            grant(&mut outgoing, request_id, 256);
        }
        assert!(outgoing.is_full());
        outgoing.refused(&Refused { message: "m".repeat(1_000), ..Refused::default() });
        let (mut ids, mut refused, mut messages) = (Vec::new(), 0, 0);
        while !outgoing.is_empty() {
            let (message, bytes) = taken(&mut outgoing);
            assert_eq!(message.welcome.is_some(), messages == 0);
            assert!(bytes <= MESSAGE_BYTES, "{bytes} bytes");
            ids.extend(message.granted.iter().map(|granted| granted.request_id));
            refused += message.refused.len();
            messages += 1;
        }
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        assert_eq!(refused, 1);
        assert!(messages > 1);
    }

    /// Goal: an item that is larger than a message's part goes out by itself rather than never.
    #[test]
    fn large_items_go_out() {
        let mut outgoing = Outgoing::new(1_000);
        for request_id in 0..3 {
            grant(&mut outgoing, request_id, 256);
        }
        for request_id in 0..3 {
            let (message, _) = taken(&mut outgoing);
            let ids: Vec<_> = message.granted.iter().map(|granted| granted.request_id).collect();
            assert_eq!(ids, [request_id]);
        }
        assert!(outgoing.is_empty());
    }

    /// Goal: what a resume sends anew is forgotten, whichever message it was to go out with; what it does not is kept.
    #[test]
    fn forgets() {
        let mut outgoing = Outgoing::new(1_000);
        for request_id in 0..3 {
            grant(&mut outgoing, request_id, 5);
        }
        outgoing.queued(&Queued::default());
        outgoing.share(&LocalShare::default());
        assert_eq!(outgoing.forget_grants(), [permit_id(0), permit_id(1), permit_id(2)]);
        assert!(outgoing.is_empty());
        grant(&mut outgoing, 3, 5);
        outgoing.refused(&Refused { request_id: 4, ..Refused::default() });
        let settled = Reported { outcome: Outcome::Success, settled: true, retry: false, retry_after: None };
        outgoing.reported("id", &settled);
        assert_eq!(outgoing.forget_grants(), [permit_id(3)]);
        let (message, _) = taken(&mut outgoing);
        assert_eq!((message.granted.len(), message.refused.len(), message.reported.len()), (0, 1, 1));
        assert!(outgoing.is_empty());
    }
}
