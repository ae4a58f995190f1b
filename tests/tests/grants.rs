//! What many concurrent clients saw, judged by an independent checker. A grant happened at some moment between the sending of its request
//! and the reading of its answer; only what must have happened within a window counts against it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use permitd_proto::v1::{
    AcquireRequest, Budget, Limit, Outcome, Permit, ReportRequest, Tenant, Usage, Window,
    acquire_response::Event,
};
use permitd_tests::{
    DAY, HOUR, Server, Session, ask, budget, in_flight, rate, report, soon, span, success, until,
};
use tokio::task::JoinSet;

/// The clocks of server and test are the same one, read at different moments; nothing else is tolerated.
const CLOCK: Duration = Duration::from_micros(50);

/// One call as its caller saw it.
#[derive(Clone, Debug)]
struct Seen {
    /// Before the request was sent.
    sent: Instant,
    /// After the grant was read.
    granted: Instant,
    /// Before the report was sent.
    reported: Instant,
    model: String,
    tenant: String,
    /// What it used in the end.
    requests: u64,
    tokens: u64,
}

impl Seen {
    fn used(&self, unit: &str) -> u64 {
        match unit {
            "requests" => self.requests,
            _ => self.tokens,
        }
    }
}

/// Within any stretch of time, at most `burst + rate x stretch`; `within` is the stretch that matters if only one does.
fn check_rate(name: &str, calls: &[(Instant, Instant, u64)], most: impl Fn(Duration) -> f64) {
    let mut by_end = calls.to_vec();
    by_end.sort_by_key(|(_, granted, _)| *granted);
    let mut checked = 0_u64;
    for &(begin, ..) in calls {
        let mut sum = 0.0;
        for &(sent, granted, used) in &by_end {
            if sent < begin {
                continue;
            }
            sum += used as f64;
            checked += 1;
            let stretch = granted.duration_since(begin) + CLOCK;
            let most = most(stretch);
            assert!(sum <= most, "{name}: {sum} within {stretch:?}, where {most} is the most");
        }
    }
    println!("{name}: {checked} windows");
}

/// At no moment are more permits certainly live than there are slots.
fn check_in_flight(name: &str, calls: &[Seen], slots: i64) {
    let begins = calls.iter().map(|call| (call.granted, 1));
    let ends = calls.iter().map(|call| (call.reported, -1));
    let mut edges: Vec<(Instant, i64)> = begins.chain(ends).collect();
    // At the same reading, an end counts first.
    edges.sort();
    let mut live = 0;
    for (_, change) in edges {
        live += change;
        assert!(live <= slots, "{name}: {live} at once, where {slots} is the most");
    }
}

fn of<'a>(calls: &'a [Seen], unit: &'a str, keep: impl Fn(&Seen) -> bool) -> Vec<(Instant, Instant, u64)> {
    calls.iter().filter(|call| keep(call)).map(|call| (call.sent, call.granted, call.used(unit))).collect()
}

/// Numbers that look random and are the same each time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What one caller does over and over until the time is up.
#[derive(Clone, Copy)]
struct Habits {
    tokens_max: u64,
    /// Whether reports tell less than was charged.
    refunds: bool,
}

/// Many callers for so long, each over a stream of its own, and everything that they saw.
async fn crowd(server: &Arc<Server>, callers: u64, lasts: Duration, habits: Habits) -> Vec<Seen> {
    let ends = Instant::now() + lasts;
    let mut crowd = JoinSet::new();
    for caller in 0..callers {
        let server = Arc::clone(server);
        crowd.spawn(async move { one_caller(&server, caller, ends, habits).await });
    }
    let mut calls = Vec::new();
    while let Some(seen) = soon("the crowd", crowd.join_next()).await {
        calls.extend(seen.expect("no panic"));
    }
    calls
}

async fn one_caller(server: &Server, caller: u64, ends: Instant, habits: Habits) -> Vec<Seen> {
    let mut draws = Draws(caller + 1);
    let mut way =
        if caller.is_multiple_of(2) { Way::Calls } else { Way::Session(Box::new(server.session("").await)) };
    let mut calls = Vec::new();
    let tenant = format!("t{}", caller % 3);
    for request_id in 1.. {
        if Instant::now() >= ends {
            break;
        }
        let model = ["a-1", "b-1"][usize::try_from(draws.below(2)).expect("small")];
        let tokens = 1 + draws.below(habits.tokens_max);
        let wait = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(500)];
        let request = AcquireRequest {
            request_id,
            tokens,
            model: model.to_owned(),
            tenant: tenant.clone(),
            max_wait: span(wait[usize::try_from(draws.below(3)).expect("small")]),
            ..ask("k")
        };
        let changes_its_mind = draws.below(6) == 0;
        let sent = Instant::now();
        let Some(permit) = way.acquire(server, request, changes_its_mind).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let granted = Instant::now();
        let (said, requests, used) = if draws.below(8) == 0 {
            (report(&permit.permit_id, Outcome::Cancelled), 0, 0)
        } else {
            let used = if habits.refunds { draws.below(tokens + 1) } else { tokens };
            let actual = Usage { tokens: Some(used), ..Usage::default() };
            (ReportRequest { actual: Some(actual), ..success(&permit.permit_id) }, 1, used)
        };
        let reported = Instant::now();
        assert!(server.report(said).await.settled, "settled once");
        let (model, tenant) = (model.to_owned(), tenant.clone());
        calls.push(Seen { sent, granted, reported, model, tenant, requests, tokens: used });
    }
    calls
}

/// How a caller asks.
enum Way {
    Calls,
    Session(Box<Session>),
}

impl Way {
    /// Asks for one permit. Who changes its mind takes the request back at once, and gets none whichever comes first: only sessions can,
    /// since nobody knows what a call that is dropped had been told.
    async fn acquire(
        &mut self,
        server: &Server,
        request: AcquireRequest,
        changes_its_mind: bool,
    ) -> Option<Permit> {
        let id = request.request_id;
        match self {
            Self::Calls => {
                let mut call = server.acquire(request).await.ok()?;
                loop {
                    match call.next().await {
                        Ok(Some(Event::Granted(permit))) => return Some(permit),
                        Ok(Some(Event::Queued(_))) => {}
                        Ok(None) | Err(_) => return None,
                    }
                }
            }
            Self::Session(session) => {
                session.ask(id, request).await;
                if changes_its_mind {
                    session.cancel(id).await;
                }
                loop {
                    if let Some(refused) = session.refused.pop_front() {
                        assert_eq!(refused.request_id, id, "{refused:?}");
                        session.granted.clear();
                        return None;
                    }
                    if let Some(granted) = session.granted.pop_front()
                        && !changes_its_mind
                    {
                        assert_eq!(granted.request_id, id, "{granted:?}");
                        return granted.permit;
                    }
                    session.queued.clear();
                    soon("an answer", session.read()).await.expect("a session");
                }
            }
        }
    }
}

/// Goal (invariants 1, 5, 6): never over, in any window of any limit, whatever callers do; and in the end every limit was charged exactly
/// what the calls used: nothing was taken and not used, by waiting, by going away or by being refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_over() {
    for refunds in [false, true] {
        let second = Duration::from_secs(1);
        let limits = vec![
            Limit { burst: 20, ..rate("requests", 150, second) },
            Limit { models: "a-*".to_owned(), ..rate("tokens", 2_000, second) },
            Limit { tenants: "each".to_owned(), burst: 300, ..rate("tokens", 900, second) },
            Limit { window: Window::Sliding.into(), ..rate("tokens", 400, Duration::from_millis(200)) },
            Limit {
                models: "b-*".to_owned(),
                window: Window::Quantised.into(),
                quantum: span(second / 10),
                ..rate("requests", 600, second * 10)
            },
            in_flight(6),
            // Nothing comes back while the test runs: what is left tells what was taken.
            rate("requests", 10_000, DAY * 365),
            rate("tokens", 1_000_000, DAY * 365),
        ];
        let server = Arc::new(Server::with(limits).await);
        let began = Instant::now();
        let habits = Habits { tokens_max: 60, refunds };
        let calls = crowd(&server, 24, second * 3, habits).await;
        println!("{} calls", calls.len());
        assert!(calls.len() > 50, "the limits were worth looking at");

        let bucket =
            |burst: f64, per_second: f64| move |stretch: Duration| burst + per_second * stretch.as_secs_f64();
        check_rate("requests/1s", &of(&calls, "requests", |_| true), bucket(20.0, 150.0));
        check_rate(
            "tokens/1s a-*",
            &of(&calls, "tokens", |call| call.model.starts_with("a-")),
            bucket(2_000.0, 2_000.0),
        );
        for tenant in ["t0", "t1", "t2"] {
            check_rate(
                "tokens/1s each",
                &of(&calls, "tokens", |call| call.tenant == tenant),
                bucket(300.0, 900.0),
            );
        }
        let within = |window: Duration, most: f64| {
            move |stretch: Duration| if stretch <= window { most } else { f64::INFINITY }
        };
        check_rate("sliding", &of(&calls, "tokens", |_| true), within(second / 5, 400.0));
        check_rate(
            "quantised",
            &of(&calls, "requests", |call| call.model.starts_with("b-")),
            within(second / 10, 6.0),
        );
        check_in_flight("in_flight", &calls, 6);

        let state = server.state("k").await;
        assert_eq!((state.in_flight, state.waiting), (0, 0), "nothing is left behind");
        let used: (u64, u64) =
            calls.iter().fold((0, 0), |sum, call| (sum.0 + call.requests, sum.1 + call.tokens));
        let left = |unit: &str| {
            let mut limits = state.limits.iter().filter(|limit| {
                limit
                    .configured
                    .as_ref()
                    .is_some_and(|limit| limit.unit == unit && limit.per == span(DAY * 365))
            });
            limits.next().expect("declared").level
        };
        assert!(began.elapsed() < HOUR / 2, "within which one request comes back");
        let (requests, tokens) = (i64::try_from(used.0).expect("few"), i64::try_from(used.1).expect("few"));
        assert_eq!(left("requests"), 10_000 - requests, "charged as used, to the last one");
        // 1,000,000 a year are 2 a minute.
        let tokens_left = left("tokens") - (1_000_000 - tokens);
        assert!((0..=4).contains(&tokens_left), "charged as used, to the last one, but for {tokens_left}");
        Arc::into_inner(server).expect("nobody else has it").stop().await;
    }
}

/// Goal (invariant 1): the bound holds through live changes of the limits, in both directions, and across pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_over_across_changes() {
    let second = Duration::from_secs(1);
    let limits = move |amount| vec![Limit { burst: 10, ..rate("requests", amount, second) }];
    let server = Arc::new(Server::with(limits(100)).await);
    let changing = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for round in 0..60 {
                server.set("k", limits([100, 40, 70][round % 3])).await;
                if round % 10 == 5 {
                    server.pause("k").await;
                    server.resume("k").await;
                }
                tokio::time::sleep(second / 30).await;
            }
        })
    };
    let calls = crowd(&server, 12, second * 2, Habits { tokens_max: 5, refunds: false }).await;
    soon("the changes", changing).await.expect("no panic");
    assert!(calls.len() > 50);
    // Never more than the largest of them allowed; no change mints anything.
    check_rate("requests/1s", &of(&calls, "requests", |_| true), |stretch| {
        10.0 + 100.0 * stretch.as_secs_f64()
    });
    Arc::into_inner(server).expect("nobody else has it").stop().await;
}

/// Goal (SEMANTICS 2): a fixed window of known phase holds its amount in each of its windows, and gives all of it in each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_windows() {
    let window = Duration::from_millis(500);
    let phase = SystemTime::UNIX_EPOCH + Duration::from_millis(123);
    let server = Arc::new(Server::start().await);
    let fixed =
        Limit { window: Window::Fixed.into(), phase: Some(phase.into()), ..rate("requests", 20, window) };
    server.set("k", vec![fixed]).await;
    // Both clocks at the same moment, so that instants can be placed in windows.
    let (wall, began) = (SystemTime::now(), Instant::now());
    let calls = crowd(&server, 8, Duration::from_secs(3), Habits { tokens_max: 5, refunds: false }).await;
    let index = |at: Instant| {
        let since = (wall + at.duration_since(began)).duration_since(phase).expect("later");
        since.as_nanos() / window.as_nanos()
    };
    let mut windows: HashMap<u128, u64> = HashMap::new();
    for call in &calls {
        // Those that may have been in either of two windows count in none.
        if index(call.sent) == index(call.granted) {
            *windows.entry(index(call.sent)).or_default() += call.requests;
        }
    }
    println!("per window: {windows:?}");
    assert!(windows.values().all(|granted| *granted <= 20), "{windows:?}");
    assert!(windows.len() >= 4);
    Arc::into_inner(server).expect("nobody else has it").stop().await;
}

/// Goal (invariant 2): a request that waits for refill is granted soon after that is possible; how late is printed. All of the rate is
/// given away while anybody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_conserving() {
    const GRANTS: u32 = 300;
    const PER_SECOND: u32 = 100;
    let limit = Limit { burst: 1, ..rate("requests", PER_SECOND.into(), Duration::from_secs(1)) };
    let server = Server::with(vec![limit]).await;
    let mut session = server.session("").await;
    let first = Instant::now();
    session.ask(1, AcquireRequest { count: GRANTS, ..ask("k") }).await;
    let mut late = Vec::new();
    for nth in 0..GRANTS {
        session.permit(1).await;
        let seen = first.elapsed();
        let possible = Duration::from_secs(1) * nth / PER_SECOND;
        assert!(seen + CLOCK >= possible, "number {nth} after {seen:?}, before it was possible");
        late.push(seen.saturating_sub(possible));
    }
    late.sort();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!("late by: median {:?}, 90 % {:?}, 99 % {:?}, most {:?}", at(50), at(90), at(99), at(100));
    assert!(at(50) < Duration::from_secs(2), "not by seconds: {:?}", at(50));
    server.stop().await;
}

/// Goal (invariant 4): a request of all that a limit holds, of a light tenant in the lowest class, is granted amid a flood of small ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_starvation() {
    let limit = Limit { burst: 200, ..rate("tokens", 2_000, Duration::from_secs(1)) };
    let server = Server::start().await;
    let heavy = Tenant { weight: 50, ..Tenant::default() };
    server
        .declare(Budget { tenants: [("flood".to_owned(), heavy)].into(), ..budget("k", vec![limit]) })
        .await;
    let flood = server.session("").await;
    let small = |request_id| AcquireRequest {
        request_id,
        tokens: 5,
        tenant: "flood".to_owned(),
        priority: permitd_proto::v1::Priority::Interactive.into(),
        ..ask("k")
    };
    // For half a minute, if nobody else gets anything.
    for batch in 0..12 {
        flood.send(permitd_tests::acquires((batch * 1_000..(batch + 1) * 1_000).map(small).collect())).await;
    }
    until("the flood", async || server.state("k").await.waiting > 5_000).await;
    let large = AcquireRequest {
        tokens: 200,
        tenant: "light".to_owned(),
        priority: permitd_proto::v1::Priority::Batch.into(),
        ..ask("k")
    };
    let permit = server.granted(large).await;
    println!("the large one waited {:?}", permit.waited);
    assert!(server.state("k").await.waiting > 0, "while the flood still waits");
    server.stop().await;
}

/// Goal (invariant 3): over seconds, tenants that have work waiting get service by weight, whatever the sizes of their requests, at every
/// moment within start-time fair queueing's bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fair_over_seconds() {
    let limit = Limit { burst: 50, ..rate("tokens", 3_000, Duration::from_secs(1)) };
    let server = Server::start().await;
    let tenants = [("one", 1_u32, 10_u64), ("two", 2, 25), ("five", 5, 50)];
    let declared = tenants.map(|(name, weight, _)| (name.to_owned(), Tenant { weight, ..Tenant::default() }));
    server.declare(Budget { tenants: declared.into(), ..budget("k", vec![limit]) }).await;
    server.pause("k").await;
    let mut session = server.session("").await;
    for (number, (name, _, size)) in (0_u64..).zip(tenants) {
        let request = |id| AcquireRequest {
            request_id: number * 1_000_000 + id,
            tokens: size,
            tenant: name.to_owned(),
            ..ask("k")
        };
        session.send(permitd_tests::acquires((0..1_000).map(request).collect())).await;
    }
    until("all wait", async || server.state("k").await.waiting == 3_000).await;
    server.resume("k").await;
    let mut served = [0.0_f64; 3];
    let began = Instant::now();
    let mut grants = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let granted = session.next_granted().await;
        grants += 1;
        let number = usize::try_from(granted.request_id / 1_000_000).expect("small");
        served[number] += tenants[number].2 as f64;
        for (f, &(_, f_weight, f_size)) in tenants.iter().enumerate() {
            for (g, &(_, g_weight, g_size)) in tenants.iter().enumerate().take(f) {
                let (f_weight, g_weight) = (f64::from(f_weight), f64::from(g_weight));
                let apart = (served[f] / f_weight - served[g] / g_weight).abs();
                let bound = f_size as f64 / f_weight + g_size as f64 / g_weight;
                assert!(
                    apart <= bound + 0.001,
                    "{apart} apart, where {bound} is the bound: {served:?} after {grants}"
                );
            }
        }
    }
    println!("tokens by weight 1, 2, 5: {served:?} in {grants} grants");
    server.stop().await;
}

/// Goal (invariant 6): whoever reports a permit, however often and from wherever at the same time, it is settled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled_once() {
    let server = Arc::new(Server::with(vec![in_flight(100), rate("tokens", 100_000, DAY * 366)]).await);
    let mut before = 100_000;
    for round in 0..20 {
        let permit = server.granted_now(AcquireRequest { tokens: 100, ..ask("k") }).await;
        let reports = (1..=8).map(|n| {
            let actual = Usage { tokens: Some(round * 8 + n), ..Usage::default() };
            let said = ReportRequest { actual: Some(actual), ..success(&permit.permit_id) };
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.report(said).await })
        });
        let answers = futures_util::future::join_all(reports).await;
        assert!(
            answers.into_iter().all(|answer| answer.expect("no panic").settled),
            "all are told of the first"
        );
        let after = server.level("k", "tokens").await;
        let used = u64::try_from(before - after).expect("it used some");
        assert!(
            (round * 8 + 1..=round * 8 + 8).contains(&used),
            "{used} in round {round}: what one of them said"
        );
        before = after;
    }
    assert_eq!(server.state("k").await.in_flight, 0);
    Arc::into_inner(server).expect("nobody else has it").stop().await;
}

/// Goal (invariant 6): calls that go away while they wait leave nothing; of those that go away in the moment of their grant, none holds a
/// slot for longer than a permit lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_go_away() {
    let server = Server::start().await;
    let short = Budget { permit_ttl: span(Duration::from_secs(1)), ..budget("k", vec![in_flight(1)]) };
    server.declare(short).await;
    let held = server.granted_now(ask("k")).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(server.waiting(ask("k")).await.0);
    }
    drop(waiting);
    until("their places to be left", async || server.state("k").await.waiting == 0).await;
    assert_eq!(server.state("k").await.granted_total, 1);
    server.report(success(&held.permit_id)).await;
    let mut lost = 0;
    for _ in 0..20 {
        let held = server.granted(ask("k")).await;
        let (waiting, _) = server.waiting(ask("k")).await;
        let leaving = async move { drop(waiting) };
        let (settled, ()) = tokio::join!(server.report(success(&held.permit_id)), leaving);
        assert!(settled.settled);
        until("the place to be left", async || server.state("k").await.waiting == 0).await;
        lost += server.state("k").await.in_flight;
        if lost >= 2 {
            break;
        }
    }
    println!("granted to nobody, until they expired: {lost}");
    until("lost permits to expire", async || server.state("k").await.in_flight == 0).await;
    server.stop().await;
}
