//! What one budget asks of etcd and of servers, measured: a cluster is started, so many budgets are made in it, and a server joins that
//! owns none of them.

use std::{fmt, path::Path, time::Instant};

use tokio::runtime;

use crate::{bench::Error, cluster::Field};

/// Servers that own the budgets.
const SERVERS: usize = 3;

/// Of one budget, on average.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// Budgets that were made.
    pub budgets: usize,
    /// On etcd's disk, as it is written: before anything is compacted.
    pub etcd_bytes: f64,
    /// In the memory of a server that knows it, and does not own it.
    pub known_bytes: f64,
    /// In the memory of its owner, and of the others.
    pub shared_bytes: f64,
    /// Claimed, and made, by all servers in a second.
    pub claims_per_second: f64,
}

impl Each {
    /// Measures it with so many budgets.
    ///
    /// # Errors
    /// If there is no etcd, or a server can't be started.
    pub fn measure(binary: &Path, budgets: usize) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut field = Field::without_servers(binary.to_owned(), budgets)?;
        let resident = |field: &Field| -> Result<f64, Error> {
            let bytes = field.servers.iter().map(|server| server.resident()).sum::<Result<u64, Error>>()?;
            Ok(bytes as f64)
        };
        for _ in 0..SERVERS {
            field.add_server()?;
        }
        let (empty, written) = (resident(&field)?, field.etcd.written()?);
        let begin = Instant::now();
        runtime.block_on(field.make_budgets())?;
        let taken = begin.elapsed();
        let (full, bytes) = (resident(&field)?, field.etcd.written()?.since(written).bytes);
        let late = field.add_server()?.resident()? as f64;
        let each = |bytes: f64| (bytes / budgets as f64).max(0.0);
        Ok(Self {
            budgets,
            etcd_bytes: each(bytes as f64),
            known_bytes: each(late - empty / SERVERS as f64),
            shared_bytes: each((full - empty) / SERVERS as f64),
            claims_per_second: budgets as f64 / taken.as_secs_f64(),
        })
    }
}

impl fmt::Display for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "measured with {} budgets at {SERVERS} servers, for each", self.budgets)?;
        writeln!(f, "{:>8.0} bytes on etcd's disk", self.etcd_bytes)?;
        writeln!(
            f,
            "{:>8.0} bytes at a server that owns none, {:.0} at one that owns a third",
            self.known_bytes, self.shared_bytes
        )?;
        writeln!(f, "{:>8.0} claimed and made in a second", self.claims_per_second)
    }
}
