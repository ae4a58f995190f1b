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
    /// Of all threads of this process that live now.
    ///
    /// # Errors
    /// If the system does not tell.
    pub(super) fn now() -> Result<Self, Error> {
        let mut cpu = Self::default();
        for (name, spent) in threads("self")? {
            let part = if name == LOAD_THREAD { &mut cpu.load } else { &mut cpu.servers };
            *part += spent;
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

/// What all threads of another process that live now have used.
///
/// # Errors
/// If there is no such process, or the system does not tell.
pub(crate) fn of_process(id: u32) -> Result<Duration, Error> {
    Ok(threads(&id.to_string())?.into_iter().map(|(_, spent)| spent).sum())
}

/// The threads of a process by name, each with its nanoseconds on a CPU: the first field of its schedstat (Linux,
/// Documentation/scheduler/sched-stats).
fn threads(process: &str) -> Result<Vec<(String, Duration)>, Error> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        // One that ends between the two has cost what it has cost before either reading.
        let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let nanos = stat.split(' ').next().unwrap_or_default().parse().map_err(|_| "no schedstat")?;
        threads.push((name.trim_end().to_owned(), Duration::from_nanos(nanos)));
    }
    Ok(threads)
}
