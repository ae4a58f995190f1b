//! The one thread that writes. Whatever has changed since the last write goes with the next: about once a second, sooner when a
//! budget has half used what it had set aside, at once when somebody waits for it. All who wait share one write.
//!
//! A write that fails is tried again every second with everything that has changed meanwhile. What is in memory is what counts; the
//! store follows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use permitd_budget::Pressure;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::sync::oneshot;

use super::{
    Store, StoreError, Table, Write,
    rows::{IDS, put_pulse},
};
use crate::{
    cell::{Cell, CellSave},
    clock::Clock,
};

/// Between regular writes, and before another try.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between writes that nobody waits for yet.
const SOON_INTERVAL: Duration = Duration::from_millis(20);

/// What the rest of the server knows of the store.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    queue: Mutex<Queue>,
    changed: Condvar,
    failing: AtomicBool,
    pub(crate) counts: StoreCounts,
}

/// For metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreCounts {
    pub(crate) writes: Counter,
    pub(crate) failures: Counter,
    pub(crate) failing: Gauge,
}

#[derive(Debug, Default)]
struct Queue {
    /// Budgets that changed, each once.
    cells: Vec<Arc<Cell>>,
    pressure: Option<Pressure>,
    /// Rows of nobody's, in order.
    rows: Vec<Write>,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    /// After a last write of all these budgets.
    Finish(Vec<Arc<Cell>>),
    /// As after a crash.
    Abandon,
}

impl Keeper {
    /// A budget changed for the first time since it was saved, or is in more of a hurry than before.
    pub(crate) fn note(&self, cell: Option<Arc<Cell>>, pressure: Pressure) {
        let mut queue = self.queue.lock();
        queue.cells.extend(cell);
        let raised = queue.pressure < Some(pressure);
        if raised {
            queue.pressure = Some(pressure);
        }
        drop(queue);
        if raised {
            self.changed.notify_one();
        }
    }

    /// Rows that go with the next write.
    pub(crate) fn push(&self, rows: impl IntoIterator<Item = Write>) {
        self.queue.lock().rows.extend(rows);
    }

    /// Whether the last write failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Resolves once everything that changed before is durable, or could not be made so.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let (tell, told) = oneshot::channel();
        self.queue.lock().waiting.push(tell);
        self.changed.notify_one();
        let gone = StoreError::Unavailable { place: "the store".to_owned(), why: "it is closed".to_owned() };
        told.await.unwrap_or(Err(gone))
    }

    /// `more`: there is something to write beside the queue.
    fn take(&self, last: Instant, more: bool) -> Queue {
        let mut queue = self.queue.lock();
        loop {
            let is_empty =
                !more && queue.cells.is_empty() && queue.rows.is_empty() && queue.waiting.is_empty();
            let wait = match queue.pressure {
                _ if queue.end.is_some() => Some(Duration::ZERO),
                _ if is_empty => None,
                _ if self.is_failing() => Some(INTERVAL),
                _ if !queue.waiting.is_empty() => Some(Duration::ZERO),
                Some(Pressure::Now) => Some(Duration::ZERO),
                Some(Pressure::Soon) => Some(SOON_INTERVAL),
                Some(Pressure::None) | None => Some(INTERVAL),
            };
            match wait.map(|wait| last + wait) {
                Some(due) if due <= Instant::now() => return std::mem::take(&mut *queue),
                Some(due) => drop(self.changed.wait_until(&mut queue, due)),
                None => self.changed.wait(&mut queue),
            }
        }
    }
}

/// The thread, and the store with it. Dropped, it ends as after a crash.
#[derive(Debug)]
pub(crate) struct KeeperThread {
    keeper: Arc<Keeper>,
    thread: Option<thread::JoinHandle<Result<(), StoreError>>>,
}

impl KeeperThread {
    pub(crate) fn start(keeper: Arc<Keeper>, store: Box<dyn Store>, clock: Clock) -> std::io::Result<Self> {
        let writer = Writer { keeper: Arc::clone(&keeper), store, clock, ids: 0, kept: Vec::new() };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
        Ok(Self { keeper, thread: Some(thread) })
    }

    /// Writes all these budgets as they are, for the next process to go on from, and ends. `None` if the thread panicked.
    pub(crate) fn finish(mut self, cells: Vec<Arc<Cell>>) -> Option<Result<(), StoreError>> {
        self.end(End::Finish(cells))
    }

    fn end(&mut self, end: End) -> Option<Result<(), StoreError>> {
        let thread = self.thread.take()?;
        self.keeper.queue.lock().end = Some(end);
        self.keeper.changed.notify_one();
        thread.join().ok()
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        drop(self.end(End::Abandon));
    }
}

struct Writer {
    keeper: Arc<Keeper>,
    store: Box<dyn Store>,
    clock: Clock,
    /// The largest id of a budget that is written.
    ids: u32,
    /// Rows of nobody's that a write failed with.
    kept: Vec<Write>,
}

impl Writer {
    fn run(mut self) -> Result<(), StoreError> {
        let mut last = Instant::now();
        loop {
            let queue = self.keeper.take(last, !self.kept.is_empty());
            let (cells, is_end) = match queue.end {
                None => (queue.cells, false),
                Some(End::Finish(all)) => {
                    // With those that were deleted since the last write.
                    let all = all.into_iter().chain(queue.cells).map(|cell| (cell.id(), cell));
                    (all.collect::<BTreeMap<_, _>>().into_values().collect(), true)
                }
                Some(End::Abandon) => return Ok(()),
            };
            self.kept.extend(queue.rows);
            let written = self.write(cells, is_end);
            last = Instant::now();
            for waiting in queue.waiting {
                // Whoever waited may have gone.
                let _ = waiting.send(written.clone());
            }
            if is_end {
                return written;
            }
        }
    }

    fn write(&mut self, cells: Vec<Arc<Cell>>, is_last: bool) -> Result<(), StoreError> {
        let mut writes = std::mem::take(&mut self.kept);
        let of_nobody = writes.len();
        let saves: Vec<CellSave> = cells.iter().map(|cell| cell.save(is_last, &mut writes)).collect();
        let ids = cells.iter().map(|cell| cell.id()).max().unwrap_or(0).max(self.ids);
        if ids > self.ids {
            writes.push(Write::Put(Table::Meta, IDS.to_vec(), ids.to_be_bytes().to_vec()));
        }
        writes.push(put_pulse(&self.clock.pulse()));
        let written = self.store.write(&writes);
        let counts = &self.keeper.counts;
        counts.writes.inc();
        let was_failing = self.keeper.failing.swap(written.is_err(), Ordering::Relaxed);
        counts.failing.set(written.is_err().into());
        match &written {
            Ok(()) => {
                self.ids = ids;
                if was_failing {
                    tracing::warn!("the store can be written again");
                }
                cells.iter().for_each(|cell| cell.saved());
            }
            Err(error) => {
                counts.failures.inc();
                if !was_failing {
                    tracing::error!(%error, "the store can't be written; grants go on within what is set aside");
                }
                writes.truncate(of_nobody);
                self.kept = writes;
                for (cell, save) in cells.iter().zip(saves) {
                    cell.not_saved(save);
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    /// Goal: rows of nobody's that could not be written are written once that is possible again, though nothing else changes.
    #[tokio::test]
    async fn rows_that_failed_are_written_again() {
        let (memory, keeper) = (Memory::default(), Arc::new(Keeper::default()));
        memory.fail_after(0, false);
        let store = Box::new(memory.clone());
        let _thread = KeeperThread::start(Arc::clone(&keeper), store, Clock::start()).expect("a thread");
        keeper.push([Write::Put(Table::Changes, vec![1], vec![2])]);
        keeper.flush().await.expect_err("as ordered");
        memory.mend();
        let again = async {
            while keeper.is_failing() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), again).await.expect("another try");
        let mut rows = Vec::new();
        let mut read = |table, key: &[u8], value: &[u8]| {
            rows.push((table, key.to_vec(), value.to_vec()));
            Ok(())
        };
        memory.clone().read(&mut read).expect("rows");
        assert!(rows.contains(&(Table::Changes, vec![1], vec![2])), "{rows:?}");
    }
}
