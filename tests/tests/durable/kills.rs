//! `kill -9` at random moments under load. The referee knows only what callers saw.
//!
//! `PERMITD_KILLS=50` kills more often, as `make soak` does.

use std::{
    collections::BTreeSet,
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use permitd_proto::v1::{Limit, Window};
use permitd_tests::{
    DAY, Draws, Folder, Permitd, Plan, Seen, budget, every_kind, in_flight, judge, rate, steady_port, until,
};
use tokio::{task::JoinSet, time::sleep};

const DAILY: u64 = 86_400_000;
/// What the day's limit comes to in a second.
const DAILY_A_SECOND: u64 = 1_000;
const CALLERS: u64 = 16;
/// Clocks of this test and of the server are the same, read at different moments; a new process may be off by what its clock drifts.
const CLOCK: Duration = Duration::from_millis(2);

/// Asks, calls, reports, until told to stop; whatever fails because nobody is there is tried again.
async fn caller(
    server: Arc<Mutex<Arc<Permitd>>>,
    number: u64,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<Mutex<bool>>,
) {
    let mut draws = Draws(number);
    while !*stop.lock().expect("no panic") {
        let peer = Arc::clone(&server.lock().expect("no panic"));
        let Some((call, said)) = Plan::draw(&mut draws).follow(&peer).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        // Said once; if nobody heard, the permit ends by itself. The call is over all the same.
        drop(peer.try_report(said).await);
        seen.lock().expect("no panic").push(call);
    }
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
    // Never short, and nothing of it comes back meanwhile: what it has lost in the end is what crashes cost.
    let daily = Limit { window: Window::Sliding.into(), ..rate("requests", DAILY, DAY) };
    server.declare(every_kind(vec![daily])).await;
    let server = Arc::new(Mutex::new(Arc::new(server)));
    let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(false)));
    let mut crowd = JoinSet::new();
    for number in 0..CALLERS {
        crowd.spawn(caller(Arc::clone(&server), number, Arc::clone(&seen), Arc::clone(&stop)));
    }
    let mut acknowledged = BTreeSet::new();
    let mut moments = Draws(seed);
    for round in 0..kills {
        let ends = Instant::now() + Duration::from_millis(300 + moments.below(1_500));
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
        let next = Arc::new(Permitd::start_at(port, &config).await);
        // Callers go on at once, however long it takes to look at all changes.
        *server.lock().expect("no panic") = Arc::clone(&next);
        for (key, amount) in &acknowledged {
            let limits =
                next.try_state(key).await.unwrap_or_else(|_| panic!("{key} was acknowledged")).limits;
            assert_eq!(limits[0].effective_amount, *amount, "{key} as acknowledged");
        }
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
    judge(&calls, CLOCK);
}
