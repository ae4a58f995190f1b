//! Work-conserving, no starvation, fair (invariants 2 to 4).

use std::time::{Duration, Instant};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Tenant};
use permitd_tests::{Server, ask, budget, rate, until};

use crate::support::CLOCK;

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
