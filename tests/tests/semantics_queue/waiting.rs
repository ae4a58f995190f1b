//! How long a request waits, and how it is refused (8 to 10, 13).

use std::{collections::HashMap, time::Duration};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Permit, Queue, Tenant, Usage};
use permitd_tests::{Call, DAY, Facts, HOUR, Server, ask, budget, estimate, in_flight, rate, span, tokens};
use tonic::{Code, Request};

use crate::support::{NOT_IN_TIME, hint, model, tenant};

/// Goal (8): max_wait absent is the budget's default, which is no cap; 0 is now or never; negative makes no sense.
#[tokio::test]
async fn s08_how_long_to_wait() {
    let server = Server::start().await;
    let impatient = Queue { max_wait: span(Duration::ZERO), ..Queue::default() };
    server.declare(Budget { queue: Some(impatient), ..budget("k", vec![in_flight(1)]) }).await;
    let held = server.granted_now(ask("k")).await;
    assert_eq!(server.refused(ask("k")).await.says(), NOT_IN_TIME, "the default");
    assert_eq!(server.refused_now(ask("k")).await.says(), NOT_IN_TIME, "asked for");
    let patient = AcquireRequest { max_wait: span(HOUR), ..ask("k") };
    let (mut call, _) = server.waiting(patient).await;
    server.settle(&held).await;
    call.permit().await;
    for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, 0), (-1, 5)] {
        let max_wait = Some(prost_types::Duration { seconds, nanos });
        let refused = server.refused(AcquireRequest { max_wait, ..ask("k") }).await;
        assert!(refused.names("max_wait"), "{seconds} s {nanos} ns: {refused:?}");
    }
    server.stop().await;
}

/// Goal (8): without a default, requests wait as long as it takes; the caller's own deadline counts as well as max_wait.
#[tokio::test]
async fn s08_the_callers_deadline_counts() {
    let server = Server::with(vec![rate("requests", 1, DAY)]).await;
    server.granted_now(ask("k")).await;
    let (waiting, _) = server.waiting(ask("k")).await;
    drop(waiting);
    let mut hurried = Request::new(ask("k"));
    hurried.set_timeout(HOUR);
    assert_eq!(server.refused(hurried).await.says(), NOT_IN_TIME, "a day is more than an hour");
    let mut shorter = Request::new(AcquireRequest { max_wait: span(DAY * 30), ..ask("k") });
    shorter.set_timeout(HOUR);
    assert_eq!(server.refused(shorter).await.says(), NOT_IN_TIME, "the shorter one counts");
    server.stop().await;
}

/// Goal (9): what can't be in time even alone is refused at once, with the time at which it could be.
#[tokio::test]
async fn s09_not_in_time_even_alone() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 100)).await;
    for max_wait in [Duration::ZERO, HOUR] {
        let refused = server.refused(AcquireRequest { max_wait: span(max_wait), ..tokens("k", 50) }).await;
        assert_eq!(refused.says(), NOT_IN_TIME);
        let days = hint(&refused).as_secs_f64() / DAY.as_secs_f64();
        assert!((0.49..=0.51).contains(&days), "half the budget comes back in half a day, not in {days}");
        assert_eq!(refused.limit, "tokens/1d");
    }
    assert_eq!(server.state("k").await.waiting, 0);
    server.stop().await;
}

/// Goal (9): where only in_flight is full, the hint is the earliest expiry.
#[tokio::test]
async fn s09_the_earliest_expiry() {
    let server = Server::start().await;
    let ttl = |ttl| Budget { permit_ttl: span(ttl), ..budget("k", vec![in_flight(2)]) };
    server.declare(ttl(HOUR)).await;
    server.granted_now(ask("k")).await;
    server.declare(ttl(HOUR / 2)).await;
    server.granted_now(ask("k")).await;
    let refused = server.refused_now(ask("k")).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    assert_eq!(refused.limit, "in_flight");
    let hint = hint(&refused);
    // To the second: permits end on a grid of a millisecond.
    assert!(
        hint.as_secs() <= 1_800 && hint > HOUR / 3,
        "the second permit ends first, in half an hour: {hint:?}"
    );
    server.stop().await;
}

/// Goal (9): a request whose time runs out leaves the queue, with a hint, and takes nothing.
#[tokio::test]
async fn s09_time_runs_out_while_waiting() {
    let server = Server::with(vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    let held = server.granted_now(tokens("k", 10)).await;
    let (mut call, _) = server
        .waiting(AcquireRequest { max_wait: span(Duration::from_millis(200)), ..tokens("k", 10) })
        .await;
    let refused = call.refusal().await;
    assert_eq!(refused.says(), NOT_IN_TIME, "DEADLINE_EXCEEDED is left to the client's own deadline");
    hint(&refused);
    assert_eq!(server.state("k").await.waiting, 0);
    assert_eq!(server.level("k", "tokens").await, 90);
    server.settle(&held).await;
    assert_eq!(server.state("k").await.in_flight, 0, "nobody was granted anything");
    server.stop().await;
}

fn assert_impossible(refused: &Facts, limit: &str) {
    assert_eq!(refused.says(), (Code::OutOfRange, "LARGER_THAN_LIMIT"), "{refused:?}");
    assert_eq!(refused.retry_after, None, "no wait helps");
    assert_eq!(refused.limit, limit);
    assert!(refused.message.contains(limit), "{refused:?} names the limit to people");
}

/// Goal (10): what can never be granted is refused at once and for good, with the limit named, however long the queue.
#[tokio::test]
async fn s10_impossible_is_not_not_yet() {
    let opus = Limit { models: "opus-*".to_owned(), ..rate("tokens", 50, HOUR) };
    let burst = Limit { burst: 20, ..rate("points", 100, HOUR) };
    let server = Server::with(vec![rate("tokens", 100, DAY), opus, burst]).await;
    let points = Usage { other: [("points".to_owned(), 21)].into(), ..Usage::default() };
    let cases = [
        (tokens("k", 101), "tokens/1d"),
        (tokens("k", u64::MAX), "tokens/1d"),
        (model("opus-4", tokens("k", 51)), "tokens/1h model=opus-*"),
        (estimate("k", points), "points/1h"),
    ];
    for (request, limit) in cases {
        assert_impossible(&server.refused(request.clone()).await, limit);
        assert_impossible(&server.refused_now(request).await, limit);
    }
    server.granted_now(model("sonnet", tokens("k", 51))).await;
    let (_waiting, _) = server.waiting(tokens("k", 100)).await;
    assert_impossible(&server.refused(tokens("k", 101)).await, "tokens/1d");
    server.stop().await;
}

/// Goal (10): a waiting request that a change makes impossible is told so at once; what still fits goes on waiting.
#[tokio::test]
async fn s10_impossible_by_a_change() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 100)).await;
    let (mut large, _) = server.waiting(tokens("k", 80)).await;
    let (_small, _) = server.waiting(tokens("k", 40)).await;
    server.set("k", vec![rate("tokens", 50, DAY)]).await;
    assert_impossible(&large.refusal().await, "tokens/1d");
    assert_eq!(server.state("k").await.waiting, 1);
    server.stop().await;
}

/// Goal (13): OVERFLOW_REJECT refuses what gives no max_wait as if it had given 0; who gives one waits.
#[tokio::test]
async fn s13_overflow_reject() {
    let server = Server::start().await;
    let queue = Queue {
        overflow: permitd_proto::v1::Overflow::Reject.into(),
        max_wait: span(HOUR),
        ..Queue::default()
    };
    server.declare(Budget { queue: Some(queue), ..budget("k", vec![in_flight(1)]) }).await;
    let held = server.granted(ask("k")).await;
    let refused = server.refused(ask("k")).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    hint(&refused);
    let (mut call, _) = server.waiting(AcquireRequest { max_wait: span(HOUR), ..ask("k") }).await;
    server.settle(&held).await;
    call.permit().await;
    server.stop().await;
}

/// Goal (13, 12): a full queue refuses, the budget's as well as a tenant's; 0 means the budget's; nobody who waits is hurt.
#[tokio::test]
async fn s13_full_queues() {
    let server = Server::start().await;
    let small = Tenant { max_waiting: 1, ..Tenant::default() };
    let tenants = [("small".to_owned(), small), ("zero".to_owned(), Tenant::default())];
    let queue = Queue { max_waiting: 4, ..Queue::default() };
    let declared = Budget { queue: Some(queue), tenants: tenants.into(), ..budget("k", vec![in_flight(1)]) };
    server.declare(declared).await;
    let mut held = server.granted_now(ask("k")).await;
    let mut calls: Vec<Call> = vec![server.waiting(tenant("small", ask("k"))).await.0];
    let refused = server.refused(tenant("small", ask("k"))).await;
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.reason.ends_with("QUEUE_FULL"), "{refused:?}");
    for _ in 0..3 {
        calls.push(server.waiting(tenant("zero", ask("k"))).await.0);
    }
    for name in ["zero", "another"] {
        let refused = server.refused(tenant(name, ask("k"))).await;
        assert_eq!(refused.says(), (Code::ResourceExhausted, "QUEUE_FULL"));
    }
    let mut granted = HashMap::new();
    for at in 0..calls.len() {
        server.settle(&held).await;
        // In fair order, whichever that is: each of them has one.
        held = permitd_tests::soon("a grant", next_of(&mut calls, &mut granted)).await;
        assert_eq!(granted.len(), at + 1);
    }
    server.stop().await;
}

/// The next permit of any of these calls.
async fn next_of(calls: &mut [Call], granted: &mut HashMap<usize, ()>) -> Permit {
    let waiting = calls.iter_mut().enumerate().filter(|(at, _)| !granted.contains_key(at));
    let each = waiting.map(|(at, call)| Box::pin(async move { (at, call.permit().await) }));
    let ((at, permit), ..) = futures_util::future::select_all(each).await;
    granted.insert(at, ());
    permit
}

/// Goal (5, 8): of several permits without time to wait, those that fit are granted, and the rest is refused.
#[tokio::test]
async fn s08_some_of_several_now() {
    let server = Server::with(vec![in_flight(2)]).await;
    let four = AcquireRequest { count: 4, max_wait: span(Duration::ZERO), ..ask("k") };
    let mut call = server.acquire(four.clone()).await.expect("two of them");
    let permits = [call.permit().await, call.permit().await];
    assert_eq!(call.refusal().await.says(), NOT_IN_TIME);
    let state = server.state("k").await;
    assert_eq!((state.in_flight, state.waiting), (2, 0));
    for permit in &permits {
        server.settle(permit).await;
    }
    let mut session = server.session("").await;
    session.ask(1, four).await;
    let permits = [session.permit(1).await, session.permit(1).await];
    assert_eq!(session.refusal(1).await.says(), NOT_IN_TIME);
    for permit in &permits {
        session.settle(permit).await;
    }
    assert_eq!(server.state("k").await.in_flight, 0);
    server.stop().await;
}

/// Goal (DESIGN, "The wire"): a live change looks at everyone waiting again: what it makes possible is granted at once.
#[tokio::test]
async fn raises_apply_at_once() {
    let server = Server::with(vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 100)).await;
    let (mut for_tokens, _) = server.waiting(tokens("k", 50)).await;
    // Of another tenant, or it would stand in line behind the first one.
    let (mut for_a_slot, _) = server.waiting(tenant("other", tokens("k", 0))).await;
    server.set("k", vec![in_flight(3), rate("tokens", 100, DAY)]).await;
    for_a_slot.permit().await;
    // Without the limit on tokens there is nothing to wait for.
    server.set("k", vec![in_flight(3)]).await;
    for_tokens.permit().await;
    server.stop().await;
}
