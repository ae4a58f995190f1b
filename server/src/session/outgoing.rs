//! The next messages to the client. What one message holds is bounded in items, and items are bounded in bytes, so that every
//! client can take it.

use std::mem;

use permitd_proto::v1::{Granted, LocalShare, Queued, Refused, ReportResponse, SessionResponse, Welcome};

/// Items in one message: at most about 1 KiB each, in messages of at most 4 MiB.
const ITEMS_MAX: usize = 2_000;

/// Collects answers.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    next: SessionResponse,
}

impl Outgoing {
    pub(crate) fn welcome(&mut self, welcome: Welcome) {
        self.next.welcome = Some(welcome);
    }

    pub(crate) fn queued(&mut self, queued: Queued) {
        self.next.queued.push(queued);
    }

    pub(crate) fn granted(&mut self, granted: Granted) {
        self.next.granted.push(granted);
    }

    pub(crate) fn refused(&mut self, refused: Refused) {
        self.next.refused.push(refused);
    }

    pub(crate) fn reported(&mut self, reported: ReportResponse) {
        self.next.reported.push(reported);
    }

    pub(crate) fn share(&mut self, share: LocalShare) {
        self.next.shares.push(share);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next.welcome.is_none() && self.items() == 0
    }

    /// Whether there is enough for a message, so that nothing more should be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.items() >= ITEMS_MAX
    }

    /// The next message. There has to be something.
    pub(crate) fn take(&mut self) -> SessionResponse {
        if self.items() <= ITEMS_MAX {
            return mem::take(&mut self.next);
        }
        let mut room = ITEMS_MAX;
        SessionResponse {
            welcome: self.next.welcome.take(),
            granted: cut(&mut self.next.granted, &mut room),
            refused: cut(&mut self.next.refused, &mut room),
            reported: cut(&mut self.next.reported, &mut room),
            queued: cut(&mut self.next.queued, &mut room),
            shares: cut(&mut self.next.shares, &mut room),
        }
    }

    /// Forgets what a resume sends anew anyway, and hands out the permit_ids of grants that were not sent.
    pub(crate) fn forget_grants(&mut self) -> Vec<String> {
        self.next.queued.clear();
        self.next.shares.clear();
        mem::take(&mut self.next.granted)
            .into_iter()
            .filter_map(|granted| Some(granted.permit?.permit_id))
            .collect()
    }

    fn items(&self) -> usize {
        let next = &self.next;
        next.queued.len() + next.granted.len() + next.refused.len() + next.reported.len() + next.shares.len()
    }
}

/// The first items, in their order, as far as there is room.
fn cut<T>(items: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    if items.len() <= *room {
        *room -= items.len();
        return mem::take(items);
    }
    let rest = items.split_off(*room);
    *room = 0;
    mem::replace(items, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: however much is ready, it goes out in bounded messages, in order and complete.
    #[test]
    fn messages_are_bounded() {
        let mut outgoing = Outgoing::default();
        outgoing.welcome(Welcome::default());
        let granted = 2 * ITEMS_MAX as u64 + 10;
        for request_id in 0..granted {
            outgoing.granted(Granted { request_id, permit: None });
        }
        outgoing.refused(Refused::default());
        let (mut ids, mut refused, mut messages) = (Vec::new(), 0, 0);
        while !outgoing.is_empty() {
            let message = outgoing.take();
            assert_eq!(message.welcome.is_some(), messages == 0);
            assert!(message.granted.len() + message.refused.len() <= ITEMS_MAX);
            ids.extend(message.granted.iter().map(|granted| granted.request_id));
            refused += message.refused.len();
            messages += 1;
        }
        assert_eq!(ids, (0..granted).collect::<Vec<_>>());
        assert_eq!((refused, messages), (1, 3));
    }
}
