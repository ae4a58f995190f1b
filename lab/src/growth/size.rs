//! What a cluster of some size asks of etcd and of each server, reckoned from what one budget asks for.

use std::fmt;

use super::Each;

/// How often each server writes its own key: with each renewal of its lease, five times in the four seconds that are its default.
const BEATS_PER_SECOND: f64 = 5.0 / 4.0;
/// Keys that a save writes: what is left of the budget, and a page of its permits.
const KEYS_PER_SAVE: f64 = 2.0;
const GIB: f64 = (1_u64 << 30) as f64;

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Servers.
    pub servers: u32,
    /// Budgets, of all servers together.
    pub budgets: u32,
    /// Of so many budgets, one is used in any one second.
    pub active_one_in: u32,
}

/// What it asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// On etcd's disk.
    etcd_gib: f64,
    /// In the memory of each server.
    server_gib: f64,
    /// Keys written in a second by servers that tell of themselves, and the events of it that etcd sends to all servers.
    beats: f64,
    beats_heard: f64,
    /// Keys written in a second for budgets that are used.
    saved_keys: f64,
    /// Seconds until the budgets of one server that died have owners again, after its lease.
    takeover_seconds: f64,
}

impl Size {
    fn asks(self, each: &Each) -> Asked {
        let (servers, budgets) = (f64::from(self.servers), f64::from(self.budgets));
        let beats = servers * BEATS_PER_SECOND;
        Asked {
            etcd_gib: budgets * each.etcd_bytes / GIB,
            server_gib: budgets * each.known_bytes / GIB,
            beats,
            beats_heard: beats * servers,
            saved_keys: budgets / f64::from(self.active_one_in) * KEYS_PER_SAVE,
            // However many servers claim, one etcd answers.
            takeover_seconds: budgets / servers / each.claims_per_second,
        }
    }

    /// A table of clusters of these sizes.
    pub fn table(sizes: &[Self], each: &Each) -> String {
        let mut lines = vec![format!(
            "{:>8} {:>11} {:>10} {:>11} {:>8} {:>13} {:>14} {:>10}",
            "servers",
            "budgets",
            "etcd GiB",
            "server GiB",
            "beats/s",
            "beats heard/s",
            "saved keys/s",
            "takeover s"
        )];
        for size in sizes {
            lines.push(format!("{size}{}", size.asks(each)));
        }
        lines.join("\n")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8} {:>11}", self.servers, self.budgets)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { etcd_gib, server_gib, beats, beats_heard, saved_keys, takeover_seconds } = self;
        write!(
            f,
            " {etcd_gib:>10.2} {server_gib:>11.2} {beats:>8.0} {beats_heard:>13.0} {saved_keys:>14.0} {takeover_seconds:>10.1}"
        )
    }
}
