//! CPU time, of the load and of the servers apart: both run in this process, and only the servers' is what permitd costs.

use std::{fs, time::Duration};

use super::Error;

/// How threads of the load are named; all others are the servers'.
pub(super) const LOAD_THREAD: &str = "load";

/// What was used so far, or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) servers: Duration,
    pub(super) load: Duration,
}

impl Cpu {
    /// Of all threads that live now: nanoseconds on a CPU, from the first field of each one's schedstat (Linux,
    /// Documentation/scheduler/sched-stats).
    ///
    /// # Errors
    /// If the system has no such file.
    pub(super) fn now() -> Result<Self, Error> {
        let mut cpu = Self::default();
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?.path();
            // One that ends between the two has cost what it has cost before either reading.
            let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
            let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
            let nanos = stat.split(' ').next().unwrap_or_default().parse().map_err(|_| "no schedstat")?;
            let part = if name.trim_end() == LOAD_THREAD { &mut cpu.load } else { &mut cpu.servers };
            *part += Duration::from_nanos(nanos);
        }
        Ok(cpu)
    }

    /// Since an earlier moment at which the same threads lived.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            servers: self.servers.saturating_sub(earlier.servers),
            load: self.load.saturating_sub(earlier.load),
        }
    }
}
