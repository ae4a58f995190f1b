//! Never over, all or nothing, settled once (invariants 1, 5, 6).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, ReportRequest, Usage, Window};
use permitd_tests::{
    DAY, HOUR, Server, ask, budget, check_in_flight, check_rate, in_flight, rate, soon, span, success, until,
};

use crate::support::{CLOCK, Habits, crowd, of};

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
        check_rate("requests/1s", &of(&calls, "requests", |_| true), CLOCK, bucket(20.0, 150.0));
        check_rate(
            "tokens/1s a-*",
            &of(&calls, "tokens", |call| call.model.starts_with("a-")),
            CLOCK,
            bucket(2_000.0, 2_000.0),
        );
        for tenant in ["t0", "t1", "t2"] {
            check_rate(
                "tokens/1s each",
                &of(&calls, "tokens", |call| call.tenant == tenant),
                CLOCK,
                bucket(300.0, 900.0),
            );
        }
        let within = |window: Duration, most: f64| {
            move |stretch: Duration| if stretch <= window { most } else { f64::INFINITY }
        };
        check_rate("sliding", &of(&calls, "tokens", |_| true), CLOCK, within(second / 5, 400.0));
        check_rate(
            "quantised",
            &of(&calls, "requests", |call| call.model.starts_with("b-")),
            CLOCK,
            within(second / 10, 6.0),
        );
        check_in_flight("in_flight", calls.iter().map(|call| (call.granted, call.reported)), 6);

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
    check_rate("requests/1s", &of(&calls, "requests", |_| true), CLOCK, |stretch| {
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
