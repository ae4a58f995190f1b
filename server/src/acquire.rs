//! The unary form of an acquire: one request, one stream of what becomes of it. What is not taken out of the stream goes back to
//! the budget.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use permitd_budget::{Acquired, Grant, Request, Ticket, Time};
use permitd_proto::v1::{AcquireRequest, AcquireResponse, Queued, acquire_response::Event};
use tonic::{Status, metadata::MetadataMap};

use crate::{
    alarm::{Bell, Ring},
    auth::{Caller, Holder},
    cell::Cell,
    inbox::{Delivery, Inbox, News, Waiter},
    pool::Entry,
    session::away::elsewhere,
    shared::{Asking, Shared},
    status::Fault,
    wire::{decode, encode, items::Acquire},
};

/// Between two looks at the place in the queue.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What becomes of one acquire.
pub(crate) struct AcquireStream {
    shared: Arc<Shared>,
    holder: Holder,
    /// The caller's own, for its convenience.
    request_id: u64,
    inbox: Arc<Inbox>,
    /// Granted, but not yet yielded, each with its budget.
    grants: VecDeque<(Arc<Cell>, Grant)>,
    waiting: Option<Waiting>,
    refused: Option<Status>,
    scratch: Vec<Delivery>,
}

/// A place in the queue.
struct Waiting {
    stands: Stands,
    /// Permits still waited for.
    wanted: u32,
    progress: Arc<Progress>,
    bell: Bell,
    alarm: Option<Time>,
    told: Option<(u32, String)>,
}

/// Where it is.
enum Stands {
    In(Arc<Cell>, Ticket),
    InPool(Box<Entry<Arc<Cell>>>),
}

/// Rung when the place may have changed.
struct Progress {
    due: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Ring for Progress {
    fn ring(self: Arc<Self>, _: Time) {
        self.due.store(true, Ordering::Release);
        self.inbox.wake();
    }
}

/// Joins the queue. A refusal at once is the call's own status.
pub(crate) fn acquire(
    shared: &Arc<Shared>,
    caller: &Caller,
    metadata: &MetadataMap,
    request: &AcquireRequest,
) -> Result<AcquireStream, Status> {
    try_acquire(shared, caller, metadata, request).map_err(|fault| {
        shared.metrics.refused(fault.reason());
        fault.into_status()
    })
}

fn try_acquire(
    shared: &Arc<Shared>,
    caller: &Caller,
    metadata: &MetadataMap,
    request: &AcquireRequest,
) -> Result<AcquireStream, Fault> {
    if shared.is_draining() {
        return Err(Fault::draining());
    }
    let ask = decode::acquire(&Acquire::from(request), caller.tenant())?;
    caller.check_ask(&ask)?;
    let gives_up = timeout(metadata).map(|timeout| shared.clock.now() + timeout);
    let inbox = Arc::new(Inbox::default());
    // The request's own context, else that of the call.
    let traceparent = match request.traceparent.as_str() {
        "" => metadata.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default(),
        own => own,
    };
    let begin = |traceparent| shared.traces.begin(traceparent, (&request.provider, &request.key), &ask);
    let asking = shared.acquire(caller, &request.provider, &request.key, || {
        let inbox = Arc::clone(&inbox);
        let waiter = Waiter { inbox, request_id: request.request_id, trace: begin(traceparent) };
        Request { gives_up, ..ask.clone().for_waiter(waiter) }
    })?;
    let mut stream = AcquireStream {
        shared: Arc::clone(shared),
        holder: caller.holder(),
        request_id: request.request_id,
        inbox,
        grants: VecDeque::new(),
        waiting: None,
        refused: None,
        scratch: Vec::new(),
    };
    match asking {
        Asking::Here(cell, Acquired::Granted(grant)) => stream.grants.push_back((cell, grant)),
        Asking::Here(cell, Acquired::Waiting(ticket)) => stream.wait(Stands::In(cell, ticket), ask.count),
        Asking::Elsewhere(budget) => return Err(elsewhere(&budget)),
        Asking::Pool(pool) => {
            let (now, trace) = (shared.clock.now(), begin(traceparent));
            let answers = (Arc::clone(&stream.inbox), request.request_id);
            let mut entry = Entry::new(pool, ask.clone().for_pool(now, gives_up)?, answers, trace);
            match entry.enter(now, &|name| shared.member(name))? {
                Some(granted) => stream.grants.push_back(granted),
                None => stream.wait(Stands::InPool(Box::new(entry)), 1),
            }
        }
    }
    Ok(stream)
}

impl AcquireStream {
    fn wait(&mut self, stands: Stands, wanted: u32) {
        let progress = Arc::new(Progress { due: AtomicBool::new(true), inbox: Arc::clone(&self.inbox) });
        let bell = self.shared.alarms.bell();
        self.waiting = Some(Waiting { stands, wanted, progress, bell, alarm: None, told: None });
    }

    fn take_in(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.inbox.take(&mut scratch);
        for delivery in scratch.drain(..) {
            match delivery.what {
                News::Granted { cell, grant } => self.granted(cell, grant),
                News::Refused { cell, refusal } => {
                    let fault = match self.waiting.as_mut().map(|waiting| &mut waiting.stands) {
                        Some(Stands::InPool(entry)) => entry.refused(cell, refusal, self.shared.clock.now()),
                        _ => Some(Fault::from(refusal)),
                    };
                    let Some(fault) = fault else { continue };
                    self.shared.metrics.refused(fault.reason());
                    self.refused = Some(fault.into_status());
                    self.stop_waiting();
                }
                // A permit of this call expired or was reported: nothing that its stream tells.
                News::Ended(_) => {}
            }
        }
        self.scratch = scratch;
    }

    fn granted(&mut self, cell: u32, grant: Grant) {
        // A grant comes to nobody but who waits: the inbox has no other askers.
        let Some(waiting) = &mut self.waiting else { return };
        let granted = match &mut waiting.stands {
            Stands::In(cell, _) => Some((Arc::clone(cell), grant)),
            Stands::InPool(entry) => entry.granted(cell, grant, self.shared.clock.now()),
        };
        self.grants.extend(granted);
        waiting.wanted -= 1;
        if waiting.wanted == 0 {
            self.stop_waiting();
        }
    }

    fn stop_waiting(&mut self) -> Option<Stands> {
        let waiting = self.waiting.take()?;
        if let Some(alarm) = waiting.alarm {
            self.shared.alarms.unset(waiting.bell, alarm);
        }
        Some(waiting.stands)
    }

    /// Where the request stands, if it is time to say so and not what was said before.
    fn place(&mut self) -> Option<Queued> {
        let waiting = self.waiting.as_mut()?;
        if !waiting.progress.due.swap(false, Ordering::AcqRel) {
            return None;
        }
        let next = self.shared.clock.now() + PROGRESS_INTERVAL;
        let before = waiting.alarm.replace(next);
        let target: Weak<dyn Ring> = Arc::downgrade(&waiting.progress) as Weak<dyn Ring>;
        self.shared.alarms.set(waiting.bell, before, next, target);
        let place = match &mut waiting.stands {
            Stands::In(cell, ticket) => cell.place(*ticket)?,
            Stands::InPool(entry) => {
                if let Some(granted) =
                    entry.ask_again(self.shared.clock.now(), &|name| self.shared.member(name))
                {
                    self.grants.push_back(granted);
                    self.stop_waiting();
                    return None;
                }
                entry.place()?
            }
        };
        let standing = (place.position, place.held_by.clone());
        if waiting.told.as_ref() == Some(&standing) {
            return None;
        }
        waiting.told = Some(standing);
        Some(encode::queued(self.request_id, place))
    }
}

impl Stream for AcquireStream {
    type Item = Result<AcquireResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let say = |event| Poll::Ready(Some(Ok(AcquireResponse { event: Some(event) })));
        if this.waiting.is_some() {
            this.inbox.read_by(context.waker());
            this.take_in();
        }
        // What is told of the place may find a member that grants.
        let queued = if this.grants.is_empty() && this.refused.is_none() { this.place() } else { None };
        if let Some((cell, grant)) = this.grants.pop_front() {
            return say(Event::Granted(this.shared.permit_of(this.holder, &cell, grant)));
        }
        if let Some(status) = this.refused.take() {
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(queued) = queued {
            return say(Event::Queued(queued));
        }
        if this.waiting.is_some() { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl Drop for AcquireStream {
    /// Leaves the queue, and returns what nobody took.
    fn drop(&mut self) {
        let late = self.inbox.close();
        if let Some(Stands::In(cell, ticket)) = self.stop_waiting() {
            cell.cancel(ticket);
        }
        let late = late.into_iter().filter_map(|delivery| match delivery.what {
            News::Granted { cell, grant } => Some((self.shared.registry.by_id(cell)?, grant)),
            _ => None,
        });
        let unused: Vec<_> = std::mem::take(&mut self.grants).into_iter().chain(late).collect();
        for alike in unused.chunk_by(|(one, _), (other, _)| Arc::ptr_eq(one, other)) {
            let permits: Vec<_> = alike.iter().map(|(_, grant)| grant.permit).collect();
            alike[0].0.give_back(&permits);
        }
    }
}

/// The caller's own deadline, as gRPC sends it: at most 8 digits and a unit. Anything else counts as none.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().next_back()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3_600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: gRPC's deadlines are read, and nothing else is.
    #[test]
    fn timeouts() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
            timeout(&metadata)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for garbage in ["", "S", "5", "-5S", "1.5S", "999999999S", "5X"] {
            assert_eq!(read(garbage), None, "{garbage:?}");
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
