//! Callers of a cluster: by single calls through any server, and by sessions of the client library. What each saw is all that the
//! referee knows.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use permitd_client::{Client, Report};
use permitd_proto::v1::{AcquireRequest, Budget, Limit, Outcome, ReportRequest, Usage, Window};
use permitd_tests::{
    Peer, ask, budget, check_in_flight, check_rate, in_flight, rate, report, soon, span, success, until,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::fleet::Fleet;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const SLOTS: u64 = 12;
/// Of permits: slots that nobody gave back are free again soon.
const TTL: Duration = Duration::from_secs(5);
/// Clocks of this test and of the servers are the same, read at different moments; one server's may be off from another's by what
/// they drift.
const CLOCK: Duration = Duration::from_millis(5);
/// A caller that gets no answer within this asks again. Long enough for any answer that comes at all.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Callers by single calls, and by sessions.
const CALLERS: usize = 9;
const CLIENTS: usize = 6;

/// One call as its caller saw it.
#[derive(Clone, Debug)]
struct Seen {
    permit: String,
    /// Before the request was sent.
    sent: Instant,
    /// After the grant was read.
    granted: Instant,
    /// When it was over.
    ended: Instant,
    /// Its tokens; `None` for a call that was never made.
    used: Option<u64>,
}

/// Random numbers of one's own.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Everybody who calls, until they are stopped.
pub(crate) struct Crowd {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

/// The budget that they share, `p/k`.
pub(crate) fn shared_budget() -> Budget {
    let limits = vec![
        Limit { burst: 60, ..rate("requests", 3_000, MINUTE) },
        Limit { window: Window::Sliding.into(), ..rate("requests", 450, SECOND * 10) },
        Limit {
            window: Window::Fixed.into(),
            phase: Some(prost_types::Timestamp::default()),
            ..rate("tokens", 9_000, SECOND * 10)
        },
        in_flight(SLOTS),
    ];
    Budget { permit_ttl: span(TTL), ..budget("k", limits) }
}

impl Crowd {
    /// Begins. Who they are and what they do is the same for the same seed.
    pub(crate) fn begin(fleet: &Arc<Fleet>, seed: u64) -> Self {
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let draw = Draw(seed.wrapping_add(number as u64));
            callers.spawn(call_singly(Arc::clone(fleet), draw, Arc::clone(&seen), Arc::clone(&stop)));
        }
        for number in 0..CLIENTS {
            let draw = Draw(seed.wrapping_add((CALLERS + number) as u64));
            let mut urls = fleet.urls();
            let first = number % urls.len();
            urls.rotate_left(first);
            callers.spawn(call_by_session(urls, draw, Arc::clone(&seen), Arc::clone(&stop)));
        }
        Self { seen, stop, callers }
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    /// Waits until things go on as if nothing had happened.
    pub(crate) async fn goes_on(&self, after: &str) {
        let before = self.calls();
        until(&format!("calls after {after}"), async || self.calls() > before + 60).await;
    }

    /// Nobody waits for ever: everybody ends. Then no window and no slot was given away twice.
    pub(crate) async fn end_and_judge(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        soon("the end of all callers", async {
            while let Some(ended) = self.callers.join_next().await {
                ended.expect("no panic");
            }
        })
        .await;
        let calls = self.seen.lock().expect("no panic").clone();
        println!("{} calls", calls.len());
        judge(&calls);
    }
}

async fn call_singly(fleet: Arc<Fleet>, mut draw: Draw, seen: Arc<Mutex<Vec<Seen>>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let places = fleet.len() as u64;
        // A connection of its own: one that hangs is nobody else's.
        let peer = Peer::new(fleet.server(draw.below(places) as usize).address);
        if !peer.reach().await {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        for _ in 0..20 {
            let tokens = 1 + draw.below(80);
            let request = AcquireRequest { tokens, max_wait: span(SECOND), ..ask("k") };
            let sent = Instant::now();
            let Ok(Ok(permit)) = timeout(ANSWER_MAX, peer.try_granted(request)).await else {
                sleep(Duration::from_millis(5)).await;
                break;
            };
            let granted = Instant::now();
            let id = permit.permit_id.clone();
            sleep(Duration::from_millis(draw.below(40))).await;
            let used = draw.below(tokens + 1);
            let (said, used) = match draw.below(5) {
                0 => (report(&permit.permit_id, Outcome::Cancelled), None),
                _ => {
                    let actual = Some(Usage { tokens: Some(used), ..Usage::default() });
                    (ReportRequest { actual, ..success(&permit.permit_id) }, Some(used))
                }
            };
            let ended = Instant::now();
            // Said once, to any server; if nobody heard, the permit ends by itself. The call is over all the same.
            let other = Peer::new(fleet.server(draw.below(places) as usize).address);
            if other.reach().await {
                drop(timeout(ANSWER_MAX, other.try_report(said)).await);
            }
            seen.lock().expect("no panic").push(Seen { permit: id, sent, granted, ended, used });
        }
    }
}

async fn call_by_session(
    urls: Vec<String>,
    mut draw: Draw,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
) {
    let client = Client::builder().endpoints(urls).keepalive(SECOND).connect_lazy().expect("sound addresses");
    while !stop.load(Ordering::Relaxed) {
        let tokens = 1 + draw.below(80);
        let sent = Instant::now();
        let asked = client.acquire("p/k").tokens(tokens).max_wait(SECOND);
        let Ok(Ok(guard)) = timeout(ANSWER_MAX, asked).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let granted = Instant::now();
        let permit = guard.permit_id().to_owned();
        sleep(Duration::from_millis(draw.below(40))).await;
        let used = draw.below(tokens + 1);
        let ended = Instant::now();
        let used = if draw.below(5) == 0 {
            guard.cancel();
            None
        } else {
            drop(timeout(ANSWER_MAX, guard.report(Report::success().tokens(used))).await);
            Some(used)
        };
        seen.lock().expect("no panic").push(Seen { permit, sent, granted, ended, used });
    }
}

/// No permit was given twice, and no window holds more than it may, whatever happened in between.
fn judge(calls: &[Seen]) {
    let mut permits: Vec<&str> = calls.iter().map(|call| call.permit.as_str()).collect();
    permits.sort_unstable();
    let twice = permits.windows(2).find(|two| two[0] == two[1]);
    assert_eq!(twice, None, "a permit is for one request");
    let made: Vec<&Seen> = calls.iter().filter(|call| call.used.is_some()).collect();
    let of = |used: fn(&Seen) -> u64| {
        made.iter().map(|call| (call.sent, call.granted, used(call))).collect::<Vec<_>>()
    };
    let within = |most: f64| move |stretch| if stretch < SECOND * 10 { most } else { f64::INFINITY };
    let requests = of(|_| 1);
    check_rate("bucket", &requests, CLOCK, |stretch| 60.0 + 50.0 * stretch.as_secs_f64());
    check_rate("sliding", &requests, CLOCK, within(450.0));
    // Around the edge of two fixed windows twice the amount may fall.
    check_rate("fixed", &of(|call| call.used.unwrap_or(0)), CLOCK, within(18_000.0));
    let held = calls.iter().map(|call| (call.granted, call.ended.min(call.sent + TTL)));
    // Who heard of a grant after its life was over held nothing.
    check_in_flight("in_flight", held.filter(|(begin, end)| begin < end), SLOTS.cast_signed());
}
