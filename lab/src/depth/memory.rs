//! What a server's memory grows by: the real binary in a process of its own, resident memory with so many of a thing less that
//! without.

use std::{fs, path::Path};

use super::ladder;
use crate::{
    bench::Error,
    siege::{Crowd, Polite},
};

/// Resident memory of this process.
///
/// # Errors
/// If the system does not tell.
pub(super) fn resident() -> Result<u64, Error> {
    resident_of("self")
}

/// Resident memory of a process (proc(5), VmRSS), in bytes.
///
/// # Errors
/// If there is none.
pub(crate) fn resident_of(process: &str) -> Result<u64, Error> {
    told_kib(&fs::read_to_string(format!("/proc/{process}/status"))?, "VmRSS:")
}

/// What could be had without taking it from anybody, in bytes.
///
/// # Errors
/// If the system does not tell.
pub(super) fn available() -> Result<u64, Error> {
    told_kib(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:")
}

fn told_kib(told: &str, name: &str) -> Result<u64, Error> {
    let line = told.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    let kib: u64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// So many of each, and the bytes that they take together.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) sessions: Vec<(usize, u64)>,
    pub(super) permits: Vec<(usize, u64)>,
    pub(super) waiting: Vec<(usize, u64)>,
}

/// Sessions, unless it is their number that is changed, and the most of them.
const SESSIONS: usize = 100;
const SESSIONS_MAX: usize = 10_000;
/// Permits in flight at most.
const PERMITS_MAX: usize = 100_000;

impl Memory {
    /// With up to so many waiting. Tells `progress` what it is at.
    ///
    /// # Errors
    /// If a server can't be started, or somebody is turned away.
    pub(super) fn measure(
        binary: &Path,
        waiting_max: usize,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let mut memory = Self::default();
        for connections in ladder(100, SESSIONS_MAX) {
            progress(&format!("{connections} sessions"));
            let [empty, connected, ..] = resident_with(binary, connections, 1, 0)?;
            memory.sessions.push((connections, connected.saturating_sub(empty)));
        }
        for permits in ladder(1_000, PERMITS_MAX) {
            progress(&format!("{permits} permits in flight"));
            let [_, connected, granted, _] = resident_with(binary, SESSIONS, permits, 0)?;
            memory.permits.push((permits, granted.saturating_sub(connected)));
        }
        for waiting in ladder(1_000, waiting_max) {
            progress(&format!("{waiting} waiting"));
            // No session may have more than so many of them.
            let sessions = SESSIONS.max(waiting.div_ceil(5_000));
            let [_, connected, _, full] = resident_with(binary, sessions, 1, waiting)?;
            memory.waiting.push((waiting, full.saturating_sub(connected)));
        }
        Ok(memory)
    }
}

fn resident_with(
    binary: &Path,
    connections: usize,
    in_flight: usize,
    waiting: usize,
) -> Result<[u64; 4], Error> {
    Ok(Crowd { connections, in_flight, waiting, polite: Polite::NOBODY }.run(binary)?.resident)
}
