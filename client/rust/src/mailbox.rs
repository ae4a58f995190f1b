//! What the handles ask of the driver, in order. Pushing never waits, so that it works from `drop`.
//!
//! Bounded by its contents: every acquire holds a slot of the client's semaphore until the driver has taken it in and answered it, a
//! cancel belongs to an acquire, and a report to a permit that was granted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use permitd_budget::PermitKey;
use permitd_proto::v1 as wire;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use crate::{Advice, Error, Guard, Report, guard::PermitId};

/// One thing to do for the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Acquire { request_id: u64, waiting: Box<Waiting> },
    Cancel { request_id: u64 },
    Report { permit_id: PermitId, report: Box<Report>, reply: Option<AdviceSender> },
    ReportLocal { permit: LocalPermit, report: Box<Report>, reply: Option<AdviceSender> },
    Close,
}

pub(crate) type AdviceSender = oneshot::Sender<Result<Advice, Error>>;

/// An acquire without its (last) answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// As sent, but for the wait and the count, which shrink.
    pub(crate) ask: wire::AcquireRequest,
    /// By which the server knows it: at first its own id, and another one each time it is asked again.
    pub(crate) number: u64,
    /// When it is asked again, if the server refused it for now.
    pub(crate) again_at: Option<Instant>,
    pub(crate) wait: Option<Duration>,
    pub(crate) asked_at: Instant,
    /// Permits still to be granted.
    pub(crate) remaining: u32,
    pub(crate) reply: Reply,
    /// Whether the server of the present session may know of it.
    pub(crate) sent: bool,
    /// Held until the last answer.
    pub(crate) _slot: OwnedSemaphorePermit,
}

/// Where grants go.
#[derive(Debug)]
pub(crate) enum Reply {
    /// `None` once it was used.
    One(Option<oneshot::Sender<Result<Guard, Error>>>),
    /// Has room for every grant of the request and an error.
    Many(mpsc::Sender<Result<Guard, Error>>),
}

/// A permit of the local share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPermit {
    /// Outages are counted, so that permits of an earlier one are told apart.
    pub(crate) outage: u64,
    pub(crate) budget: Arc<str>,
    pub(crate) key: PermitKey,
}

impl Reply {
    /// Nobody waiting any more: what was not taken settles itself as cancelled when it is dropped.
    pub(crate) fn send(&mut self, answer: Result<Guard, Error>) {
        match self {
            Reply::One(sender) => {
                if let Some(sender) = sender.take() {
                    drop(sender.send(answer));
                }
            }
            Reply::Many(sender) => drop(sender.try_send(answer)),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    wake: Notify,
    abandoned: AtomicBool,
    /// All mailboxes of a client count together: a request may go on in another session than it began in.
    next_request_id: Arc<AtomicU64>,
    /// Who gets what comes when this one's driver is gone.
    heir: Option<Arc<Mailbox>>,
}

#[derive(Debug, Default)]
struct Queue {
    commands: Vec<Command>,
    shut: bool,
}

impl Mailbox {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            abandoned: AtomicBool::new(false),
            // From 1: 0 is the wire's "none".
            next_request_id: Arc::new(AtomicU64::new(1)),
            heir: None,
        }
    }

    /// One whose commands are `heir`'s once its driver is gone.
    pub(crate) fn beside(heir: &Arc<Mailbox>) -> Self {
        let next_request_id = Arc::clone(&heir.next_request_id);
        Self { next_request_id, heir: Some(Arc::clone(heir)), ..Self::new() }
    }

    /// Never the same twice.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    /// After the driver is gone commands are the heir's, or else dropped, and with them their replies.
    pub(crate) fn push(&self, command: Command) {
        let mut queue = self.queue.lock();
        if queue.shut {
            drop(queue);
            return self.leave(command);
        }
        queue.commands.push(command);
        let first = queue.commands.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
    }

    /// Resolves when there is something to take, or the last client is gone. Cancel safe; may resolve once too often.
    pub(crate) async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Everything, into `commands`, which has to be empty and gives its room in return.
    pub(crate) fn take(&self, commands: &mut Vec<Command>) {
        debug_assert!(commands.is_empty(), "the last batch was handled");
        std::mem::swap(&mut self.queue.lock().commands, commands);
    }

    /// The driver's last act.
    pub(crate) fn shut(&self) {
        let left = {
            let mut queue = self.queue.lock();
            queue.shut = true;
            std::mem::take(&mut queue.commands)
        };
        // Outside of the lock: replies wake tasks, and undelivered guards push again.
        left.into_iter().for_each(|command| self.leave(command));
    }

    fn leave(&self, command: Command) {
        match &self.heir {
            // Its own end is its own affair.
            Some(heir) if !matches!(command, Command::Close) => heir.push(command),
            _ => drop(command),
        }
    }

    /// The last client is gone; guards may live on.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether nobody is left who could acquire.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}
