//! A session's stream at another server: the same session there, for the budgets that are that server's. Whatever is ready travels
//! together, as on every stream of a session.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use permitd_proto::v1::{Hello, SessionRequest, SessionResponse};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::AbortHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    auth::Caller,
    cluster::{
        Cluster,
        peers::{Peer, on_behalf},
    },
    inbox::Inbox,
};

/// Items of one kind in a message, at most: well within what servers take.
const ITEMS_MAX: usize = 500;
/// Messages that wait to be sent beside which nothing is that could as well be left out.
const UNSENT_MAX: usize = 1_000;
/// Messages on their way to the connection.
const OUTBOX: usize = 4;

/// What came from the other server.
#[derive(Debug)]
pub(super) enum Arrived {
    Message(Box<SessionResponse>),
    /// The stream has ended, with nothing behind it.
    Ended,
}

/// The stream. Dropped, it breaks off: the session at the other server waits for its grace.
#[derive(Debug)]
pub(super) struct Upstream {
    /// What is in it is bounded by what the session may have under way, and [`UNSENT_MAX`].
    send: UnboundedSender<SessionRequest>,
    /// How much is in it.
    unsent: Arc<AtomicUsize>,
    arrived: Arc<Mutex<VecDeque<Arrived>>>,
    /// Whether the other server has answered, or never will.
    is_answered: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

impl Upstream {
    /// Begins the session at that server, or goes on with it.
    pub(super) fn open(
        cluster: &Cluster,
        peer: &Peer,
        caller: &Caller,
        hello: Hello,
        inbox: Arc<Inbox>,
    ) -> Self {
        let (send, requests) = mpsc::unbounded_channel();
        let arrived = Arc::new(Mutex::new(VecDeque::new()));
        let hello = SessionRequest { hello: Some(hello), ..SessionRequest::default() };
        let (stream, outbox) = mpsc::channel(OUTBOX);
        let request = on_behalf(caller, ReceiverStream::new(outbox));
        let client = cluster.peers().permits(peer);
        let (arrivals, is_answered) = (Arc::clone(&arrived), Arc::new(AtomicBool::new(false)));
        let answered = Arc::clone(&is_answered);
        let unsent = Arc::new(AtomicUsize::new(0));
        let requests = Unsent { requests, count: Arc::clone(&unsent) };
        let task = cluster.peers().runtime().spawn(async move {
            let put = |what| {
                arrivals.lock().push_back(what);
                answered.store(true, Ordering::Release);
                inbox.wake();
            };
            let running = async {
                let mut answers = client?.session(request).await?.into_inner();
                while let Some(answer) = answers.message().await? {
                    put(Arrived::Message(Box::new(answer)));
                }
                Ok::<(), Status>(())
            };
            let (ended, ()) = tokio::join!(running, write(hello, requests, stream));
            if let Err(status) = ended {
                tracing::debug!(error = status.message(), "a session's stream to another server ended");
            }
            put(Arrived::Ended);
        });
        Self { send, unsent, arrived, is_answered, task: Some(task.abort_handle()) }
    }

    /// Sends, as soon as the other server reads. After its end, nothing happens.
    pub(super) fn send(&self, request: SessionRequest) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
        let _ = self.send.send(request);
    }

    /// Sends what could as well be left out, unless the other server reads more slowly than such things come.
    pub(super) fn offer(&self, request: SessionRequest) {
        if self.unsent.load(Ordering::Relaxed) < UNSENT_MAX {
            self.send(request);
        }
    }

    /// Whether the other server has begun the session, or never will.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    /// The next thing that came.
    pub(super) fn next(&self) -> Option<Arrived> {
        self.arrived.lock().pop_front()
    }

    /// Ends politely, once everything that was sent is answered.
    pub(super) fn finish(mut self) {
        self.task = None;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What waits to be sent.
struct Unsent {
    requests: UnboundedReceiver<SessionRequest>,
    count: Arc<AtomicUsize>,
}

impl Unsent {
    fn try_next(&mut self) -> Option<SessionRequest> {
        let next = self.requests.try_recv().ok();
        self.count.fetch_sub(usize::from(next.is_some()), Ordering::Relaxed);
        next
    }

    async fn next(&mut self) -> Option<SessionRequest> {
        let next = self.requests.recv().await;
        self.count.fetch_sub(usize::from(next.is_some()), Ordering::Relaxed);
        next
    }
}

/// Writes messages, until there will be no more or nobody reads.
async fn write(hello: SessionRequest, mut requests: Unsent, stream: mpsc::Sender<SessionRequest>) {
    let mut next = Some(hello);
    while let Some(mut message) = next {
        next = None;
        while is_small(&message)
            && let Some(more) = requests.try_next()
        {
            // A message's reports are read before its extensions.
            if !message.extend.is_empty() && !more.report.is_empty() {
                next = Some(more);
                break;
            }
            message.acquire.extend(more.acquire);
            message.report.extend(more.report);
            message.cancel.extend(more.cancel);
            message.extend.extend(more.extend);
        }
        if stream.send(message).await.is_err() {
            return;
        }
        if next.is_none() {
            next = requests.next().await;
        }
    }
}

fn is_small(message: &SessionRequest) -> bool {
    let most = message.acquire.len().max(message.report.len()).max(message.cancel.len());
    most.max(message.extend.len()) < ITEMS_MAX
}
