//! Spans on their way to the collector. They are put into a queue that is bounded, and one task sends some of them at a time: no thread is
//! needed for it, nobody who ends a span waits, and a collector that takes its time costs no more than the queue.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::span::Span;

/// Spans that wait to be sent; those beyond are dropped.
const SPANS_MAX: usize = 2_048;
/// At most so many are written and sent at once; fewer when [`SEND_EVERY`] is over. Written, a span takes ten times as much memory.
const SPANS_AT_ONCE: usize = 256;
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long the last ones are waited for when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Spans that have ended and are not sent yet.
#[derive(Debug)]
pub(super) struct Queue {
    ended: Mutex<VecDeque<Span>>,
    /// There are enough of them.
    is_due: Notify,
    scope: InstrumentationScope,
}

/// The task that sends them.
#[derive(Debug)]
pub(super) struct Sending {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Queue {
    fn new() -> Self {
        let scope = InstrumentationScope::builder("permitd").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { ended: Mutex::default(), is_due: Notify::new(), scope }
    }

    /// Sends what is put into it, by a task of the runtime that this is called in.
    pub(super) fn start(exporter: SpanExporter) -> (Arc<Self>, Sending) {
        let queue = Arc::new(Self::new());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(Arc::clone(&queue).send(exporter, stopped));
        (queue, Sending { stop, task })
    }

    pub(super) fn put(&self, span: Span) {
        let mut ended = self.ended.lock();
        if ended.len() < SPANS_MAX {
            ended.push_back(span);
            let is_due = ended.len() == SPANS_AT_ONCE;
            drop(ended);
            if is_due {
                self.is_due.notify_one();
            }
        }
    }

    /// Those that have waited longest, and whether there are enough for another time.
    fn take(&self) -> (Vec<SpanData>, bool) {
        let mut ended = self.ended.lock();
        let some = ended.len().min(SPANS_AT_ONCE);
        let taken: Vec<Span> = ended.drain(..some).collect();
        let is_due = ended.len() >= SPANS_AT_ONCE;
        drop(ended);
        (taken.into_iter().map(|span| span.write(&self.scope)).collect(), is_due)
    }

    async fn send(self: Arc<Self>, exporter: SpanExporter, mut stopped: oneshot::Receiver<()>) {
        let (mut is_failing, mut is_due, mut is_last) = (false, false, false);
        loop {
            if !is_due && !is_last {
                tokio::select! {
                    () = self.is_due.notified() => {}
                    () = sleep(SEND_EVERY) => {}
                    _ = &mut stopped => is_last = true,
                }
            }
            let (spans, more) = self.take();
            is_due = more;
            if spans.is_empty() {
                if is_last {
                    return;
                }
                continue;
            }
            let sent = exporter.export(spans).await;
            if let Err(error) = &sent
                && !is_failing
            {
                tracing::warn!(%error, "spans can't be sent to the collector");
            }
            is_failing = sent.is_err();
        }
    }
}

impl Sending {
    /// Sends what is left.
    pub(super) async fn finish(self) {
        let Self { stop, task } = self;
        drop(stop);
        if timeout(SHUTDOWN_TIMEOUT, task).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: however many spans end while nobody takes them, no more are kept than there may be; once there are enough, the task is told, and
    /// takes no more at once than may be written at once.
    #[tokio::test]
    async fn spans_are_bounded() {
        let queue = Queue::new();
        for _ in 0..2 * SPANS_MAX {
            queue.put(Span::nothing());
        }
        assert_eq!(queue.ended.lock().len(), SPANS_MAX);
        queue.is_due.notified().await;
        let mut taken = Vec::new();
        loop {
            let (spans, is_due) = queue.take();
            taken.push(spans.len());
            if !is_due {
                break;
            }
        }
        assert_eq!(taken, [SPANS_AT_ONCE; SPANS_MAX / SPANS_AT_ONCE]);
        queue.put(Span::nothing());
        assert_eq!((queue.take().0.len(), queue.take().0.len()), (1, 0));
    }
}
