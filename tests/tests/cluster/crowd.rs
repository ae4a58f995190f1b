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
use permitd_tests::{Draws, Peer, Plan, Seen, judge, soon, until};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::fleet::Fleet;

const SECOND: Duration = Duration::from_secs(1);
/// Clocks of this test and of the servers are the same, read at different moments; one server's may be off from another's by what
/// they drift.
const CLOCK: Duration = Duration::from_millis(5);
/// A caller that gets no answer within this asks again. Long enough for any answer that comes at all.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Callers by single calls, and by sessions.
const CALLERS: usize = 9;
const CLIENTS: usize = 6;

/// Everybody who calls, until they are stopped.
pub(crate) struct Crowd {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Crowd {
    /// Begins. Who they are and what they do is the same for the same seed.
    pub(crate) fn begin(fleet: &Arc<Fleet>, seed: u64) -> Self {
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let draw = Draws(seed.wrapping_add(number as u64));
            callers.spawn(call_singly(Arc::clone(fleet), draw, Arc::clone(&seen), Arc::clone(&stop)));
        }
        for number in 0..CLIENTS {
            let draw = Draws(seed.wrapping_add((CALLERS + number) as u64));
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
        judge(&calls, CLOCK);
    }
}

async fn call_singly(fleet: Arc<Fleet>, mut draw: Draws, seen: Arc<Mutex<Vec<Seen>>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let places = fleet.len() as u64;
        // A connection of its own: one that hangs is nobody else's.
        let peer = Peer::new(fleet.server(draw.below(places) as usize).address);
        if !peer.reach().await {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        for _ in 0..20 {
            let plan = Plan::draw(&mut draw);
            let Ok(Some((call, said))) = timeout(ANSWER_MAX, plan.follow(&peer)).await else {
                sleep(Duration::from_millis(5)).await;
                break;
            };
            // Said once, to any server; if nobody heard, the permit ends by itself. The call is over all the same.
            let other = Peer::new(fleet.server(draw.below(places) as usize).address);
            if other.reach().await {
                drop(timeout(ANSWER_MAX, other.try_report(said)).await);
            }
            seen.lock().expect("no panic").push(call);
        }
    }
}

async fn call_by_session(
    urls: Vec<String>,
    mut draw: Draws,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
) {
    let client = Client::builder().endpoints(urls).keepalive(SECOND).connect_lazy().expect("sound addresses");
    while !stop.load(Ordering::Relaxed) {
        let Plan { tokens, lasts, used } = Plan::draw(&mut draw);
        let sent = Instant::now();
        let asked = client.acquire("p/k").tokens(tokens).max_wait(SECOND);
        let Ok(Ok(guard)) = timeout(ANSWER_MAX, asked).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let granted = Instant::now();
        let permit = guard.permit_id().to_owned();
        sleep(lasts).await;
        let ended = Instant::now();
        match used {
            None => guard.cancel(),
            Some(used) => drop(timeout(ANSWER_MAX, guard.report(Report::success().tokens(used))).await),
        }
        seen.lock().expect("no panic").push(Seen { permit, sent, granted, ended, used });
    }
}
