//! How many permits one client gets and reports in a second through its one session, from a real server on loopback that always has room;
//! how long one caller waits that is alone; and what a million permits leave behind. Server, client and callers share this machine's
//! cores, and one process.
//!
//! `cargo bench -p permitd-client`, with `-- SECONDS` for longer runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use permitd_budget::{BudgetSpec, LimitSpec};
use permitd_client::{Client, Report};
use permitd_server::{
    Listeners,
    config::{Config, Data},
    run,
};
use tokio::{runtime, sync::oneshot};

/// Callers at the same time.
const CONCURRENCY: [usize; 4] = [1, 16, 256, 4_096];
/// Acquires of a caller that is alone.
const ALONE: usize = 20_000;
/// Permits over which memory has to stay flat, after a tenth of them.
const PERMITS: u64 = 1_000_000;

fn main() {
    // `cargo bench` passes `--bench`.
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let (address, stop) = serve();
    let one_thread = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    one_thread.block_on(async {
        let client = Client::connect([address]).await.expect("it listens");
        for callers in CONCURRENCY {
            measure(&client, callers, Duration::from_secs(seconds)).await;
        }
        uncontended(&client).await;
        flat(&client).await;
        client.close().await;
    });
    stop.send(()).expect("it runs");
}

/// A server on a thread of its own, as it would be a process of its own.
fn serve() -> (String, oneshot::Sender<()>) {
    let mut config = Config::default();
    config.server.listen = "127.0.0.1:0".parse().expect("an address");
    config.server.http = None;
    config.server.data = Data::Memory;
    config.server.workers = 1;
    let room = vec![
        LimitSpec::in_flight(1_000_000),
        LimitSpec::rate("requests", u64::MAX / 2, Duration::from_secs(60)),
    ];
    let spec = BudgetSpec { limits: room, ..BudgetSpec::default() }.check().expect("a sound spec");
    config.budgets.insert("api/prod".parse().expect("a name"), spec);
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listeners = Listeners::bind(&config.server).await.expect("a free port");
            tell.send(format!("http://{}", listeners.grpc_address())).expect("the bench waits");
            run(config, listeners, async { drop(stopped.await) }).await.expect("it runs");
        });
    });
    (told.recv().expect("it listens"), stop)
}

async fn measure(client: &Client, callers: usize, span: Duration) {
    let (count, elapsed) = call_for(client, callers, span).await;
    let rate = u128::from(count) * 1_000 / elapsed.as_millis().max(1);
    println!("{callers:>6} callers: {rate:>9} acquired and reported/s");
}

async fn uncontended(client: &Client) {
    let mut waits = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        let began = Instant::now();
        let guard = client.acquire("api/prod").tokens(100).await.expect("there is room");
        waits.push(began.elapsed());
        guard.report(Report::success()).await.expect("it is answered");
    }
    waits.sort_unstable();
    println!("an acquire with nobody else: median {:?}, p99 {:?}", waits[ALONE / 2], waits[ALONE * 99 / 100]);
}

async fn flat(client: &Client) {
    let mut resident = Vec::new();
    for permits in [PERMITS / 10, PERMITS] {
        let mut done = 0;
        while done < permits {
            done += call_for(client, 256, Duration::from_millis(500)).await.0;
        }
        resident.push(resident_kib());
    }
    println!(
        "resident after {} permits: {} KiB, after {PERMITS} more: {} KiB",
        PERMITS / 10,
        resident[0],
        resident[1]
    );
}

/// As Linux tells it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is told");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// How many permits, and in how much time.
async fn call_for(client: &Client, callers: usize, span: Duration) -> (u64, Duration) {
    let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();
    let mut calling = Vec::new();
    for _ in 0..callers {
        let (client, done, over) = (client.clone(), Arc::clone(&done), Arc::clone(&over));
        calling.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let guard = client.acquire("api/prod").tokens(100).await.expect("there is room");
                guard.report_detached(Report::success().tokens(90));
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(span).await;
    let (count, elapsed) = (done.load(Ordering::Relaxed), began.elapsed());
    over.store(true, Ordering::Relaxed);
    for calling in calling {
        calling.await.expect("no panic");
    }
    (count, elapsed)
}
