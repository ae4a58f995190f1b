//! Where answers wait for the stream that asked: any thread puts in, one task takes out. Once closed it takes nothing, so that
//! whoever delivers a grant too late gets it back and can return it to its budget.
//!
//! What can lie in an inbox is bounded by what its stream was allowed to ask for.

use std::{mem, sync::Arc, task::Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use permitd_budget::{Grant, PermitKey, Refusal};

use crate::traces::Trace;

/// Who asked: the heart's handle on a request.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) request_id: u64,
    /// Its span, if it is sampled.
    pub(crate) trace: Option<Arc<Trace>>,
}

impl Waiter {
    /// Who takes nothing.
    pub(crate) fn nobody() -> Self {
        let inbox = Arc::new(Inbox::default());
        inbox.close();
        Self { inbox, request_id: 0, trace: None }
    }
}

/// What became of a request, or of one of its permits.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request_id: u64,
    pub(crate) what: News,
}

#[derive(Debug)]
pub(crate) enum News {
    /// One permit of the request.
    Granted {
        /// The id of the cell, for giving the permit back.
        cell: u32,
        /// The permit.
        grant: Grant,
    },
    /// The request left the queue without its remaining permits.
    Refused(Refusal),
    /// The permit ended: it expired, or it was reported elsewhere.
    Ended(PermitKey),
}

/// Answers for one stream.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Letters {
    deliveries: Vec<Delivery>,
    closed: bool,
}

impl Inbox {
    /// Puts in without waking. `Ok(true)`: it was empty, so its reader has to be woken; `Err`: it is closed.
    pub(crate) fn put(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut letters = self.letters.lock();
        if letters.closed {
            return Err(delivery);
        }
        letters.deliveries.push(delivery);
        Ok(letters.deliveries.len() == 1)
    }

    /// Wakes the reader.
    pub(crate) fn wake(&self) {
        self.reader.wake();
    }

    /// Names the task that reads. To be called before [`Inbox::take`], so that nothing falls in between.
    pub(crate) fn read_by(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// Swaps what is there into `into`, which has to be empty and lends its room.
    pub(crate) fn take(&self, into: &mut Vec<Delivery>) {
        debug_assert!(into.is_empty(), "what was taken is handled before more is taken");
        mem::swap(&mut self.letters.lock().deliveries, into);
    }

    /// Takes nothing from now on; hands out what is left.
    pub(crate) fn close(&self) -> Vec<Delivery> {
        let mut letters = self.letters.lock();
        letters.closed = true;
        mem::take(&mut letters.deliveries)
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::Reason;

    use super::*;

    fn refused(request_id: u64) -> Delivery {
        Delivery { request_id, what: News::Refused(Refusal::new(Reason::Cancelled)) }
    }

    /// Goal: the reader is woken once per batch, and nothing gets lost in a closed inbox.
    #[test]
    fn wakes_once_and_gives_back_when_closed() {
        let inbox = Inbox::default();
        assert!(inbox.put(refused(1)).expect("open"));
        assert!(!inbox.put(refused(2)).expect("open"));
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(taken.iter().map(|delivery| delivery.request_id).collect::<Vec<_>>(), [1, 2]);
        assert!(inbox.put(refused(3)).expect("open"), "empty again");
        assert_eq!(inbox.close().len(), 1);
        assert_eq!(inbox.put(refused(4)).expect_err("closed").request_id, 4);
    }
}
