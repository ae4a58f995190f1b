//! A real etcd of one member, and what it has written so far.

use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    bench::{Error, cpu_of_process},
    http,
};

/// One that does not answer by then has not started.
const START_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Below which the servers write what is left of each budget: once for each save.
const BALANCES: &str = "permitd/kept/balances/";

/// A running etcd. Dropped, it is killed.
pub(crate) struct Etcd {
    clients: SocketAddr,
    child: Child,
    folder: PathBuf,
}

/// What it has written, or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Budgets that were saved.
    pub(crate) saves: u64,
    /// Keys that were put or deleted.
    pub(crate) keys: u64,
    /// Entries of its log: transactions for the most part.
    pub(crate) entries: u64,
    /// Bytes on its disk.
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    /// How often the key was written.
    version: String,
}

impl Etcd {
    /// Starts one, with nothing in it.
    pub(crate) fn start() -> Result<Self, Error> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("permitd-lab-etcd-{}-{number}", std::process::id()));
        let [clients, peers] = free_ports()?;
        let [client_url, peer_url] = [clients, peers].map(|address| format!("http://{address}"));
        let child = Command::new("etcd")
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--logger", "zap"])
            .arg("--data-dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    "etcd is needed: install it with `apt-get install etcd-server`, or `make setup`"
                        .to_owned()
                }
                _ => format!("etcd can't be started: {error}"),
            })?;
        let mut etcd = Self { clients, child, folder };
        let until = Instant::now() + START_MAX;
        while http::get(clients, "/health").is_err() {
            if let Some(ended) = etcd.child.try_wait()? {
                return Err(format!("etcd ended with {ended}").into());
            }
            if Instant::now() > until {
                return Err(format!("etcd did not answer within {START_MAX:?}").into());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(etcd)
    }

    /// Where it is, as servers want it.
    pub(crate) fn url(&self) -> String {
        format!("etcd://{}", self.clients)
    }

    /// What it has used of the processors until now.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        cpu_of_process(self.child.id())
    }

    /// What it has written until now.
    pub(crate) fn written(&self) -> Result<Written, Error> {
        let metrics = http::get(self.clients, "/metrics")?;
        let count = |name: &str| -> Result<u64, Error> {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let number: f64 = line.ok_or_else(|| format!("etcd has no metric {name}"))?.parse()?;
            Ok(number as u64)
        };
        Ok(Written {
            saves: self.saves()?,
            keys: count("etcd_debugging_mvcc_put_total")? + count("etcd_debugging_mvcc_delete_total")?,
            entries: count("etcd_server_proposals_applied_total")?,
            bytes: count("etcd_mvcc_db_total_size_in_bytes")?,
        })
    }

    fn saves(&self) -> Result<u64, Error> {
        let mut end = BALANCES.as_bytes().to_vec();
        *end.last_mut().ok_or("no prefix")? += 1;
        let [key, range_end] = [BALANCES.as_bytes(), &end].map(|bytes| STANDARD.encode(bytes));
        let ask = serde_json::json!({ "key": key, "range_end": range_end, "keys_only": true });
        let range: Range =
            serde_json::from_str(&http::post(self.clients, "/v3/kv/range", &ask.to_string())?)?;
        range.kvs.iter().map(|kv| Ok(kv.version.parse::<u64>()?)).sum()
    }
}

impl Written {
    /// Since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            saves: self.saves.saturating_sub(earlier.saves),
            keys: self.keys.saturating_sub(earlier.keys),
            entries: self.entries.saturating_sub(earlier.entries),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Nothing to do about a process, or a folder, that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ports that nobody has at this moment.
fn free_ports() -> io::Result<[SocketAddr; 2]> {
    let [one, other] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([one.local_addr()?, other.local_addr()?])
}
