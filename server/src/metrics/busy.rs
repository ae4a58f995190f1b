//! What the server itself takes: how long threads wait for each other at budgets, and how long messages of sessions take. What is not
//! contended costs nothing; of messages, one in [`SAMPLE`] is timed.

use std::{
    hint,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry as Metered, Unit},
};

/// Of so many messages of a stream, one is timed.
pub(crate) const SAMPLE: u32 = 16;

/// A budget has a message's items in less than that. The mutex by itself yields the processor within a microsecond, and gets it back when
/// whoever else wants it has had a turn: milliseconds, on a busy machine. Longer than that, and the holder itself waits for a processor.
const SPIN_MAX: Duration = Duration::from_micros(20);

/// From a microsecond to a quarter of a second.
fn buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(1e-6, 4.0, 10)
}

/// Waits for budgets' locks.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    times: Counter,
    seconds: Counter<f64, AtomicU64>,
}

impl Contention {
    /// Locks, and counts if it has to wait.
    pub(crate) fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        if let Some(guard) = mutex.try_lock() {
            return guard;
        }
        self.times.inc();
        let began = Instant::now();
        let guard = spin(mutex, began).unwrap_or_else(|| mutex.lock());
        self.seconds.inc_by(began.elapsed().as_secs_f64());
        guard
    }

    pub(super) fn register(&self, metered: &mut Metered) {
        let times = "Calls that had to wait for another one of the same budget";
        metered.register("lock_waits", times, self.times.clone());
        let seconds = "Time that these waited";
        metered.register_with_unit("lock_wait", seconds, Unit::Seconds, self.seconds.clone());
    }
}

/// Waits for a short while without leaving the processor. `None`: it took longer.
fn spin<T>(mutex: &Mutex<T>, began: Instant) -> Option<MutexGuard<'_, T>> {
    while began.elapsed() < SPIN_MAX {
        if !mutex.is_locked()
            && let Some(guard) = mutex.try_lock()
        {
            return Some(guard);
        }
        hint::spin_loop();
    }
    None
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// How long messages of sessions take.
#[derive(Clone, Debug)]
pub(crate) struct MessageTimes {
    read: Histogram,
    handle: Histogram,
}

impl MessageTimes {
    pub(super) fn register(metered: &mut Metered) -> Self {
        let family = Family::<StepLabel, Histogram>::new_with_constructor(|| Histogram::new(buckets()));
        let step = |step| family.get_or_create(&StepLabel { step }).clone();
        let times = Self { read: step("read"), handle: step("handle") };
        let help = "Time that a message of a session takes to be read, and to be handled and answered; one in 16 is timed";
        metered.register_with_unit("message", help, Unit::Seconds, family);
        times
    }

    /// Reads a message.
    pub(crate) fn reading<T>(&self, watch: &mut Stopwatch, read: impl FnOnce() -> T) -> T {
        watch.begin();
        let message = read();
        watch.lap(&self.read);
        message
    }

    /// What was read last is done.
    pub(crate) fn handled(&self, watch: &mut Stopwatch) {
        watch.lap(&self.handle);
    }
}

/// Times one message in [`SAMPLE`], step by step.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    messages: u32,
    since: Option<Instant>,
}

impl Stopwatch {
    /// A message begins.
    fn begin(&mut self) {
        self.messages = self.messages.wrapping_add(1);
        self.since = self.messages.is_multiple_of(SAMPLE).then(Instant::now);
    }

    /// A step ends, and the next begins.
    fn lap(&mut self, step: &Histogram) {
        if let Some(since) = self.since {
            let now = Instant::now();
            step.observe((now - since).as_secs_f64());
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use prometheus_client::encoding::text::encode;

    use super::*;

    /// Goal: who finds the lock free is not counted, and who waits is.
    #[test]
    fn waits_are_counted() {
        let (contention, mutex) = (Arc::new(Contention::default()), Arc::new(Mutex::new(())));
        drop(contention.lock(&mutex));
        assert_eq!((contention.times.get(), contention.seconds.get()), (0, 0.0));
        let held = mutex.lock();
        let waiter = {
            let (contention, mutex) = (Arc::clone(&contention), Arc::clone(&mutex));
            thread::spawn(move || drop(contention.lock(&mutex)))
        };
        while contention.times.get() == 0 {
            thread::yield_now();
        }
        drop(held);
        waiter.join().expect("no panic");
        assert_eq!(contention.times.get(), 1);
        assert!(contention.seconds.get() > 0.0);
    }

    /// Goal: one message in sixteen is timed, each of its steps.
    #[test]
    fn one_in_sixteen_is_timed() {
        let mut metered = Metered::default();
        let (times, mut watch) = (MessageTimes::register(&mut metered), Stopwatch::default());
        for _ in 0..2 * SAMPLE {
            times.reading(&mut watch, || ());
            times.handled(&mut watch);
        }
        let mut text = String::new();
        encode(&mut text, &metered).expect("writing to a String does not fail");
        for step in ["read", "handle"] {
            assert!(text.contains(&format!("message_seconds_count{{step=\"{step}\"}} 2\n")), "{text}");
        }
    }
}
