//! `kill -9` at random moments under load. The referee knows only what callers saw.
//!
//! `PERMITD_KILLS=50` kills more often, as `make soak` does.

use std::{
    collections::BTreeSet,
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Outcome, ReportRequest, Usage, Window};
use permitd_tests::{
    DAY, Folder, Permitd, ask, budget, check_in_flight, check_rate, in_flight, rate, report, span,
    steady_port, success, until,
};
use tokio::{task::JoinSet, time::sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const SLOTS: u64 = 12;
const DAILY: u64 = 86_400_000;
/// What the day's limit comes to in a second.
const DAILY_A_SECOND: u64 = 1_000;
const CALLERS: u64 = 16;
const TTL: Duration = Duration::from_secs(5);
/// Clocks of this test and of the server are the same, read at different moments; a new process may be off by what its clock drifts.
const CLOCK: Duration = Duration::from_millis(2);

/// One call as its caller saw it.
#[derive(Clone, Debug)]
struct Seen {
    /// Before the request was sent.
    sent: Instant,
    /// After the grant was read.
    granted: Instant,
    /// When it was over.
    ended: Instant,
    /// Its tokens; `None` for a call that was never made.
    used: Option<u64>,
}

fn limits() -> Vec<Limit> {
    vec![
        Limit { burst: 60, ..rate("requests", 3_000, MINUTE) },
        Limit { window: Window::Sliding.into(), ..rate("requests", 450, SECOND * 10) },
        Limit {
            window: Window::Fixed.into(),
            phase: Some(prost_types::Timestamp::default()),
            ..rate("tokens", 9_000, SECOND * 10)
        },
        in_flight(SLOTS),
        // Never short, and nothing of it comes back meanwhile: what it has lost in the end is what crashes cost.
        Limit { window: Window::Sliding.into(), ..rate("requests", DAILY, DAY) },
    ]
}

/// Asks, calls, reports, until told to stop; whatever fails because nobody is there is tried again.
async fn caller(
    server: Arc<Mutex<Arc<Permitd>>>,
    number: u64,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<Mutex<bool>>,
) {
    let mut draw = number;
    let mut below = |most: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % most
    };
    while !*stop.lock().expect("no panic") {
        let peer = Arc::clone(&server.lock().expect("no panic"));
        let tokens = 1 + below(80);
        let request = AcquireRequest { tokens, max_wait: span(SECOND), ..ask("k") };
        let sent = Instant::now();
        let Ok(permit) = peer.try_granted(request).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let granted = Instant::now();
        sleep(Duration::from_millis(below(40))).await;
        let used = below(tokens + 1);
        let said = match below(5) {
            0 => report(&permit.permit_id, Outcome::Cancelled),
            _ => ReportRequest {
                actual: Some(Usage { tokens: Some(used), ..Usage::default() }),
                ..success(&permit.permit_id)
            },
        };
        let used = if said.outcome == i32::from(Outcome::Cancelled) { None } else { Some(used) };
        let ended = Instant::now();
        // Said once; if nobody heard, the permit ends by itself. The call is over all the same.
        drop(peer.try_report(said).await);
        seen.lock().expect("no panic").push(Seen { sent, granted, ended: ended.min(granted + TTL), used });
    }
}

/// No window holds more than it may, whatever happened in between.
fn judge(calls: &[Seen]) {
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
    let calls = calls.iter().map(|call| (call.granted, call.ended));
    check_in_flight("in_flight", calls, SLOTS.cast_signed());
}

/// What is gone of the day's limit that no call has used.
async fn lost(server: &Permitd, calls: &[Seen]) -> u64 {
    let limits = server.state("k").await.limits.into_iter();
    let daily = limits.filter(|limit| limit.configured.as_ref().is_some_and(|limit| limit.amount == DAILY));
    let left: i64 = daily.map(|limit| limit.level).sum();
    let made = calls.iter().filter(|call| call.used.is_some()).count() as u64;
    DAILY - u64::try_from(left).expect("far from used up") - made
}

/// Goal (invariants 1, 6, 9): however often it is killed, under load and at whatever moment, no window and no slot is given away
/// twice, every change that was acknowledged is there, and a crash costs less than two seconds of a rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again() {
    let kills =
        env::var("PERMITD_KILLS").map_or(5, |text| text.parse::<u64>().expect("PERMITD_KILLS is a number"));
    let seed = u64::from(std::process::id());
    println!("{kills} kills; the moments by seed {seed}");
    let (folder, port) = (Folder::new(), steady_port());
    let config = format!("[server]\ndata = \"{}\"\n", folder.path("data").display());
    let server = Permitd::start_at(port, &config).await;
    let declared = Budget { permit_ttl: span(TTL), ..budget("k", limits()) };
    server.declare(declared).await;
    let server = Arc::new(Mutex::new(Arc::new(server)));
    let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(false)));
    let mut crowd = JoinSet::new();
    for number in 0..CALLERS {
        crowd.spawn(caller(Arc::clone(&server), number, Arc::clone(&seen), Arc::clone(&stop)));
    }
    let mut acknowledged = BTreeSet::new();
    let mut moment = seed;
    for round in 0..kills {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let ends = Instant::now() + Duration::from_millis(300 + (moment >> 33) % 1_500);
        let peer = Arc::clone(&server.lock().expect("no panic"));
        // Changes up to the very moment.
        let changing = tokio::spawn(async move {
            let mut answered = Vec::new();
            for number in 0_u64.. {
                let key = format!("live-{round}-{number}");
                match peer.try_declare(budget(&key, vec![in_flight(number + 1)])).await {
                    Ok(_) => answered.push((key, number + 1)),
                    Err(_) => return answered,
                }
                sleep(Duration::from_millis(20)).await;
            }
            answered
        });
        sleep(ends.saturating_duration_since(Instant::now())).await;
        server.lock().expect("no panic").kill_now();
        acknowledged.extend(changing.await.expect("no panic"));
        let next = Permitd::start_at(port, &config).await;
        for (key, amount) in &acknowledged {
            let limits =
                next.try_state(key).await.unwrap_or_else(|_| panic!("{key} was acknowledged")).limits;
            assert_eq!(limits[0].effective_amount, *amount, "{key} as acknowledged");
        }
        *server.lock().expect("no panic") = Arc::new(next);
    }
    // The last process has to grant as well.
    let before = seen.lock().expect("no panic").len();
    until("the last process to grant", async || seen.lock().expect("no panic").len() > before + 50).await;
    *stop.lock().expect("no panic") = true;
    while let Some(ended) = crowd.join_next().await {
        ended.expect("no panic");
    }
    let calls = seen.lock().expect("no panic").clone();
    let last = Arc::clone(&server.lock().expect("no panic"));
    let lost = lost(&last, &calls).await;
    let seconds = lost as f64 / (DAILY_A_SECOND * kills) as f64;
    println!("{lost} of {DAILY} lost: {seconds:.2} s of the rate a crash");
    // A caller may miss an answer: a grant that it never saw, or a report that nobody heard.
    assert!(lost < (2 * DAILY_A_SECOND + 2 * CALLERS) * kills, "{lost} lost in {kills} crashes");
    println!("{} calls, {} changes", calls.len(), acknowledged.len());
    assert!(calls.len() as u64 > 20 * kills, "there was load");
    judge(&calls);
}
