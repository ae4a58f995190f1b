//! Where answers wait for the stream that asked: any thread puts in, one task takes out. Once closed it takes nothing, so that
//! whoever delivers a grant too late gets it back and can return it to its budget.
//!
//! What can lie in an inbox is bounded by what its stream was allowed to ask for.
//!
//! A request that waits at several budgets has an inbox of its own, which passes everything on to the stream's and takes one grant,
//! ever: the budget that comes second gets its grant back, as from a closed one.

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
    Refused {
        /// The id of the cell.
        cell: u32,
        /// Why.
        refusal: Refusal,
    },
    /// The permit ended: it expired, or it was reported elsewhere.
    Ended(PermitKey),
}

/// Answers for one stream.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    reader: AtomicWaker,
    /// Where it passes everything on, if it is of one request that waits at several budgets.
    onward: Option<Arc<Inbox>>,
}

#[derive(Debug, Default)]
struct Letters {
    deliveries: Vec<Delivery>,
    /// Takes no grant; an inbox that passes nothing on takes nothing.
    closed: bool,
}

impl Inbox {
    /// One that takes a single grant, and passes everything on.
    pub(crate) fn for_one(onward: Arc<Inbox>) -> Self {
        Self { onward: Some(onward), ..Self::default() }
    }

    /// Takes the place of the one grant: true once, and only if none was put in before.
    pub(crate) fn claim(&self) -> bool {
        !mem::replace(&mut self.letters.lock().closed, true)
    }

    /// Whether the one grant is taken.
    pub(crate) fn is_claimed(&self) -> bool {
        self.letters.lock().closed
    }

    /// Puts in without waking. `Ok(true)`: it was empty, so its reader has to be woken; `Err`: it is closed.
    pub(crate) fn put(&self, delivery: Delivery) -> Result<bool, Delivery> {
        if let Some(onward) = &self.onward {
            return self.pass_on(onward, delivery);
        }
        let mut letters = self.letters.lock();
        if letters.closed {
            return Err(delivery);
        }
        letters.deliveries.push(delivery);
        Ok(letters.deliveries.len() == 1)
    }

    fn pass_on(&self, onward: &Inbox, delivery: Delivery) -> Result<bool, Delivery> {
        // Held while the grant is put in: whoever finds it claimed finds the grant.
        let mut letters = self.letters.lock();
        match delivery.what {
            News::Granted { .. } if letters.closed => return Err(delivery),
            News::Granted { .. } => letters.closed = true,
            // It has its permit, and leaves the other queues.
            News::Refused { .. } if letters.closed => return Ok(false),
            News::Refused { .. } | News::Ended(_) => {}
        }
        onward.put(delivery)
    }

    /// Wakes the reader.
    pub(crate) fn wake(&self) {
        match &self.onward {
            Some(onward) => onward.wake(),
            None => self.reader.wake(),
        }
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
        Delivery { request_id, what: News::Refused { cell: 0, refusal: Refusal::new(Reason::Cancelled) } }
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

    /// Goal: an inbox for one grant takes one, whoever puts in, and tells of everything else.
    #[test]
    fn inboxes_for_one_take_one() {
        let to = Arc::new(Inbox::default());
        let one = Inbox::for_one(Arc::clone(&to));
        let refused = |cell| {
            let refusal = Refusal::new(Reason::NotInTime);
            Delivery { request_id: 7, what: News::Refused { cell, refusal } }
        };
        assert!(one.put(refused(1)).expect("open"));
        assert!(one.claim());
        assert!(!one.claim(), "claimed once");
        assert!(!one.put(refused(2)).expect("nobody cares"));
        let ended = Delivery { request_id: 7, what: News::Ended(PermitKey::from_u64(1)) };
        one.put(ended).expect("the permit's end is told");
        let mut taken = Vec::new();
        to.take(&mut taken);
        assert_eq!(taken.len(), 2);
    }
}
