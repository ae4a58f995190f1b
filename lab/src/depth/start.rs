//! How soon a server is there that has many budgets stored: the real binary and a store in a folder of its own, from the start of the
//! process until the first permit.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use permitd_proto::v1::{Budget, Limit, SetBudgetRequest, admin_service_client::AdminServiceClient};
use tokio::runtime;

use super::ladder;
use crate::{
    bench::{Error, PROVIDER, connect, key_of, median, unary},
    server::Server,
};

/// Budgets are declared by so many callers at a time, on so many connections.
const CALLERS: usize = 256;
const CONNECTIONS: usize = 4;
/// How often it is started; the median counts.
const STARTS: usize = 3;

/// One size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) budgets: usize,
    /// Bytes of the store.
    pub(super) stored: u64,
    /// Until the server says that it is ready, in seconds.
    pub(super) ready: f64,
    /// And until it has granted a permit of one of these budgets.
    pub(super) granted: f64,
    /// Bytes of memory that it then has.
    pub(super) resident: u64,
}

/// With up to so many budgets, with three limits each; the first is without any. Tells `progress` what it is at.
///
/// # Errors
/// If a server can't be started, or a budget is refused.
pub(super) fn measure(
    binary: &Path,
    most: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Start>, Error> {
    let folder = Folder::new()?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut starts: Vec<Start> = Vec::new();
    let mut stored = 0;
    for budgets in std::iter::once(1).chain(ladder(1_000, most)) {
        let config = format!("[server.bounds]\nbudgets = {budgets}\n");
        let mut server = Server::with_store(binary, &config, &folder.0)?;
        runtime.block_on(declare(server.address, stored..budgets, progress))?;
        server.stop()?;
        stored = budgets;
        let mut measured = Vec::new();
        for number in 1..=STARTS {
            progress(&format!("{budgets} budgets stored: start {number} of {STARTS}"));
            let begin = Instant::now();
            let mut server = Server::with_store(binary, &config, &folder.0)?;
            let ready = begin.elapsed();
            runtime.block_on(async { unary(connect(server.address).await?).await })?;
            let granted = begin.elapsed();
            measured.push((ready.as_secs_f64(), granted.as_secs_f64(), server.resident()?));
            server.stop()?;
        }
        let of = |figure: fn(&(f64, f64, u64)) -> f64| median(measured.iter().map(figure));
        starts.push(Start {
            budgets,
            stored: folder.bytes()?,
            ready: of(|start| start.0),
            granted: of(|start| start.1),
            resident: of(|start| start.2 as f64) as u64,
        });
    }
    Ok(starts)
}

/// Declares the budgets of these numbers, as an administrator does: each is durable when it is answered.
async fn declare(
    server: SocketAddr,
    numbers: std::ops::Range<usize>,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let mut admins = Vec::new();
    for _ in 0..CONNECTIONS {
        admins.push(AdminServiceClient::new(connect(server).await?));
    }
    let all: Vec<usize> = numbers.collect();
    let mut told = Instant::now();
    for part in all.chunks(CALLERS) {
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            progress(&format!("budget {} is declared", part[0]));
        }
        try_join_all(part.iter().map(|number| {
            let mut admin = admins[number % CONNECTIONS].clone();
            let request = SetBudgetRequest { budget: Some(budget(*number)), ..SetBudgetRequest::default() };
            async move { admin.set_budget(request).await }
        }))
        .await?;
    }
    Ok(())
}

const TOLD_EVERY: Duration = Duration::from_secs(5);

fn budget(number: usize) -> Budget {
    let minute = prost_types::Duration { seconds: 60, nanos: 0 };
    let limit = |unit: &str, amount, per| Limit { unit: unit.to_owned(), amount, per, ..Limit::default() };
    let limits = vec![
        limit("requests", 1_000, Some(minute)),
        limit("tokens", 400_000, Some(minute)),
        limit("in_flight", 100, None),
    ];
    Budget { provider: PROVIDER.to_owned(), key: key_of(number), limits, ..Budget::default() }
}

/// Of the store; gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("permitd-depth-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn bytes(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.0)? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a folder that is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}
