//! One thread that rings at given times, far more precisely than a timer wheel of milliseconds. Whoever can be rung has at most
//! one alarm set, so the table is as large as what is alive.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex};
use permitd_budget::Time;

use crate::clock::Clock;

/// What can be rung. Rung on the alarm's own thread: has to be short, and must not block.
pub(crate) trait Ring: Send + Sync {
    /// The alarm that was set at `at`, and is not any more.
    fn ring(self: Arc<Self>, at: Time);
}

/// Names something that can be rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bell(u64);

/// A thread's table of alarms.
pub(crate) struct Alarms {
    clock: Clock,
    bells: AtomicU64,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    due: BTreeMap<(Time, Bell), Weak<dyn Ring>>,
    stopped: bool,
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").field("set", &self.table.lock().due.len()).finish_non_exhaustive()
    }
}

impl Alarms {
    /// Starts the thread.
    pub(crate) fn start(name: &str, clock: Clock) -> std::io::Result<(Arc<Self>, AlarmThread)> {
        let alarms = Arc::new(Self {
            clock,
            bells: AtomicU64::new(0),
            table: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let alarms = Arc::clone(&alarms);
            move || alarms.watch()
        })?;
        Ok((Arc::clone(&alarms), AlarmThread { alarms, thread: Some(thread) }))
    }

    /// A name for something new.
    pub(crate) fn bell(&self) -> Bell {
        Bell(self.bells.fetch_add(1, Ordering::Relaxed))
    }

    /// Sets the alarm of `bell`, in place of the one at `before` if that was set.
    pub(crate) fn set(&self, bell: Bell, before: Option<Time>, at: Time, target: Weak<dyn Ring>) {
        let mut table = self.table.lock();
        if let Some(before) = before {
            table.due.remove(&(before, bell));
        }
        if table.stopped {
            return;
        }
        let earliest = table.due.first_key_value().is_none_or(|(&first, _)| (at, bell) < first);
        table.due.insert((at, bell), target);
        drop(table);
        if earliest {
            self.changed.notify_one();
        }
    }

    /// Forgets the alarm of `bell` at `at`.
    pub(crate) fn unset(&self, bell: Bell, at: Time) {
        self.table.lock().due.remove(&(at, bell));
    }

    /// Forgets all alarms and lets the thread end.
    fn stop(&self) {
        let mut table = self.table.lock();
        table.stopped = true;
        table.due.clear();
        drop(table);
        self.changed.notify_one();
    }

    fn watch(&self) {
        let mut table = self.table.lock();
        while !table.stopped {
            let Some((&(at, _), _)) = table.due.first_key_value() else {
                self.changed.wait(&mut table);
                continue;
            };
            if at > self.clock.now() {
                match self.clock.instant(at) {
                    Some(instant) => drop(self.changed.wait_until(&mut table, instant)),
                    None => self.changed.wait(&mut table),
                }
                continue;
            }
            let target = table.due.pop_first().and_then(|(_, target)| target.upgrade());
            drop(table);
            if let Some(target) = target {
                target.ring(at);
            }
            table = self.table.lock();
        }
    }
}

/// The thread behind [`Alarms`]. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AlarmThread {
    alarms: Arc<Alarms>,
    thread: Option<JoinHandle<()>>,
}

impl AlarmThread {
    /// Stops the alarms and waits for the end of the thread. False if it panicked.
    pub(crate) fn join(mut self) -> bool {
        self.alarms.stop();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for AlarmThread {
    fn drop(&mut self) {
        self.alarms.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    struct Probe(mpsc::Sender<&'static str>, &'static str);

    impl Ring for Probe {
        fn ring(self: Arc<Self>, _: Time) {
            self.0.send(self.1).expect("the test listens");
        }
    }

    /// Goal: alarms ring in order, a replaced one does not ring, and stopping ends the thread.
    #[test]
    fn rings_in_order_and_once() {
        let clock = Clock::start();
        let (alarms, thread) = Alarms::start("alarm", clock).expect("a thread");
        let (sender, heard) = mpsc::channel();
        let probes = ["first", "second"].map(|name| Arc::new(Probe(sender.clone(), name)));
        let [first, second] = probes.clone().map(|probe| Arc::downgrade(&(probe as Arc<dyn Ring>)));
        let (one, two) = (alarms.bell(), alarms.bell());
        let now = clock.now();
        let never = now + Duration::from_secs(3_600);
        alarms.set(one, None, never, Weak::clone(&first));
        alarms.set(two, None, now + Duration::from_millis(4), second);
        alarms.set(one, Some(never), now + Duration::from_millis(2), first);
        let wait = Duration::from_secs(10);
        assert_eq!(heard.recv_timeout(wait), Ok("first"));
        assert_eq!(heard.recv_timeout(wait), Ok("second"));
        assert!(alarms.table.lock().due.is_empty(), "the replaced alarm is gone");
        assert!(thread.join(), "no panic");
    }
}
