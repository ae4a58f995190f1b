//! A whole server in storms: connections that are cut, stalled, slow and half-open, a process that is paused and killed, messages that come
//! twice and out of order, all at once. The storm follows a seed, which is printed; what the scheduler makes of it is its own. The
//! referee knows only what callers saw (invariants 1, 5, 6 and 8).
//!
//! `PERMITD_STORM_STEPS=3000` lasts longer, as `make soak` does; `PERMITD_PROPTEST_SEED=7` begins elsewhere.

mod callers;
mod weather;

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use permitd_proto::v1::{Budget, Limit};
use permitd_tests::{
    Draws, Folder, Permitd, Proxy, ask, budget, check_in_flight, check_rate, in_flight, rate, soon, span,
    steady_port, until,
};
use tokio::task::JoinSet;

use crate::{callers::Seen, weather::Weather};

const SLOTS: u64 = 8;
/// How long a permit lives that nobody reports.
const TTL: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
/// Clocks of this test and of the server are the same, read at different moments; a new process may be off by what its clock drifts.
const CLOCK: Duration = Duration::from_millis(2);

/// What all callers share.
#[derive(Debug, Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    over: AtomicBool,
}

impl Log {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn add(&self, seen: Seen) {
        self.seen.lock().expect("no panic").push(seen);
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Goal: whatever happens to connections, processes and messages, no window and no slot is given away twice, no permit goes to two
/// requests, and when the storm is over everybody is served and every slot comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm() {
    let seed = number("PERMITD_PROPTEST_SEED", 1);
    let steps = number("PERMITD_STORM_STEPS", 40);
    println!("seed {seed}, {steps} steps");
    let (folder, port) = (Folder::new(), steady_port());
    let config =
        format!("[server]\ndata = \"{}\"\ngrace = \"2s\"\ndrain = \"0s\"\n", folder.path("data").display());
    let server = Permitd::start_at(port, &config).await;
    let limits = vec![Limit { burst: 40, ..rate("requests", 6_000, MINUTE) }, in_flight(SLOTS)];
    server.declare(Budget { permit_ttl: span(TTL), ..budget("k", limits) }).await;
    let mut proxies = Vec::new();
    for _ in 0..4 {
        proxies.push(Proxy::start(server.address).await);
    }
    let log = Arc::new(Log::default());
    let mut crowd = JoinSet::new();
    for (at, proxy) in proxies.iter().enumerate() {
        crowd.spawn(callers::polite(proxy.url(), Draws(seed << 8 | at as u64), Arc::clone(&log)));
        crowd.spawn(callers::polite(proxy.url(), Draws(seed << 8 | at as u64 | 0x10), Arc::clone(&log)));
        let name = format!("careless-{at}");
        crowd.spawn(callers::careless(
            proxy.url(),
            name,
            Draws(seed << 8 | at as u64 | 0x20),
            Arc::clone(&log),
        ));
    }
    let mut weather = Weather { server, port, config, proxies, draws: Draws(seed), kills: 0, acted: 0 };
    for _ in 0..steps {
        weather.turn().await;
    }
    weather.clear_up().await;
    let before = log.seen.lock().expect("no panic").len();
    until("calls after the storm", async || log.seen.lock().expect("no panic").len() > before + 30).await;
    log.over.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("the end of the crowd", crowd.join_next()).await {
        ended.expect("no panic");
    }
    let server = weather.server;
    until("every slot", async || server.level("k", "in_flight").await == SLOTS.cast_signed()).await;
    server.settle(&server.granted(ask("k")).await).await;
    server.stop().await;
    let calls = log.seen.lock().expect("no panic").clone();
    println!("{} faults, {} of them kills; {} calls", weather.acted, weather.kills, calls.len());
    assert!(calls.len() as u64 > steps, "there was load");
    judge(&calls);
}

fn judge(calls: &[Seen]) {
    let made: Vec<(Instant, Instant, u64)> =
        calls.iter().filter(|call| call.made).map(|call| (call.sent, call.granted, 1)).collect();
    check_rate("requests", &made, CLOCK, |stretch| 40.0 + 100.0 * stretch.as_secs_f64());
    let held = calls.iter().map(|call| (call.granted, call.ended.min(call.sent + TTL)));
    // Who heard of a grant after its life was over held nothing.
    check_in_flight("in_flight", held.filter(|(begin, end)| begin < end), SLOTS.cast_signed());
    let mut permits: Vec<&str> = calls.iter().map(|call| call.permit.as_str()).collect();
    permits.sort_unstable();
    let all = permits.len();
    permits.dedup();
    assert_eq!(permits.len(), all, "a permit is for one request");
}
