//! Spans on their way to the collector. They are put into a list that is bounded, and one task sends the list: no thread is needed for it, and
//! nobody who ends a span waits.

use std::{sync::Arc, time::Duration};

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Spans that wait to be sent; those beyond are dropped.
const SPANS_MAX: usize = 2_048;
/// So many are sent at once; fewer when [`SEND_EVERY`] is over.
const SPANS_DUE: usize = 256;
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long the last ones are waited for when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Spans that have ended and are not sent yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ended: Mutex<Vec<SpanData>>,
    /// There are enough of them.
    is_due: Notify,
}

/// The task that sends them.
#[derive(Debug)]
pub(super) struct Sending {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Queue {
    /// Sends what is put into it, by a task of the runtime that this is called in.
    pub(super) fn start(exporter: SpanExporter) -> (Arc<Self>, Sending) {
        let queue = Arc::new(Self::default());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(Arc::clone(&queue).send(exporter, stopped));
        (queue, Sending { stop, task })
    }

    pub(super) fn put(&self, span: SpanData) {
        let mut ended = self.ended.lock();
        if ended.len() < SPANS_MAX {
            ended.push(span);
            let is_due = ended.len() == SPANS_DUE;
            drop(ended);
            if is_due {
                self.is_due.notify_one();
            }
        }
    }

    async fn send(self: Arc<Self>, exporter: SpanExporter, mut stopped: oneshot::Receiver<()>) {
        let mut is_failing = false;
        loop {
            let is_last = tokio::select! {
                () = self.is_due.notified() => false,
                () = sleep(SEND_EVERY) => false,
                _ = &mut stopped => true,
            };
            let ended = std::mem::take(&mut *self.ended.lock());
            if !ended.is_empty() {
                let sent = exporter.export(ended).await;
                if let Err(error) = &sent
                    && !is_failing
                {
                    tracing::warn!(%error, "spans can't be sent to the collector");
                }
                is_failing = sent.is_err();
            }
            if is_last {
                return;
            }
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
    use std::time::UNIX_EPOCH;

    use opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, SpanId, SpanKind, Status},
    };
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "span".into(),
            start_time: UNIX_EPOCH,
            end_time: UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    /// Goal: however many spans end while nobody takes them, no more are kept than there may be; once there are enough, the task is told.
    #[tokio::test]
    async fn spans_are_bounded() {
        let queue = Queue::default();
        for _ in 0..2 * SPANS_MAX {
            queue.put(span());
        }
        assert_eq!(queue.ended.lock().len(), SPANS_MAX);
        queue.is_due.notified().await;
    }
}
