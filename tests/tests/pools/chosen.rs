//! Which member it is, where one can grant at once.

use std::collections::BTreeMap;

use permitd_proto::v1::{AcquireRequest, Outcome, ReportRequest, SessionRequest};
use permitd_tests::{acquires, ask, report, span, success};
use std::time::Duration;

use crate::{IN_ORDER, pool, standing, start};

/// Goal: a member that the provider refused with 429 and one whose quota is used up are passed over, the permit names the one that is left,
/// its report settles there, and the others serve again as soon as they can.
#[tokio::test]
async fn fails_over_and_back() {
    let server = start(&pool(["requests=1000/1m", "in_flight=5", "in_flight=5"], IN_ORDER)).await;
    let first = server.granted_now(ask("any")).await;
    assert_eq!((first.provider.as_str(), first.key.as_str()), ("p", "a"));
    let headers = [("retry-after".to_owned(), "600".to_owned())].into();
    let refused =
        ReportRequest { http_status: 429, headers, ..report(&first.permit_id, Outcome::Unspecified) };
    assert!(server.report(refused).await.settled);

    let second = server.granted_now(ask("any")).await;
    assert_eq!(second.key, "b", "a is frozen");
    server.report(report(&second.permit_id, Outcome::QuotaExhausted)).await;

    let third = server.granted_now(ask("any")).await;
    assert_eq!(third.key, "c", "and b is exhausted");
    assert_eq!(server.state("c").await.in_flight, 1);
    server.settle(&third).await;
    assert_eq!(server.state("c").await.in_flight, 0, "settled with the member");

    let pool = standing(&server).await;
    let over: Vec<_> = pool.members.iter().map(|member| member.passed_over.join(" ")).collect();
    assert!(over[0].contains("requests/1m is frozen for another"), "{over:?}");
    assert!(over[1].contains("its quota is used up"), "{over:?}");
    assert_eq!(over[2], "");
    assert_eq!(pool.members.iter().map(|member| member.next).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(pool.members.iter().map(|member| member.granted).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(server.state("b").await.refused_total, 0, "who is passed over refused nobody");

    server.resume("b").await;
    assert_eq!(server.granted_now(ask("any")).await.key, "b", "back as soon as it can");
    server.stop().await;
}

/// Goal: members alike share by weight; those with another preference have what is left.
#[tokio::test]
async fn shares_by_weight() {
    let members = "{ budget = \"p/a\", weight = 3 }, \"p/b\", { budget = \"p/c\", prefer = 2 }";
    let server = start(&pool(["requests=1000000/1d"; 3], members)).await;
    let mut session = server.session("").await;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for request_id in 1..=400 {
        session.ask(request_id, ask("any")).await;
        *counts.entry(session.permit(request_id).await.key).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 300), ("b".to_owned(), 100)]));
    server.pause("a").await;
    server.pause("b").await;
    assert_eq!(server.granted_now(ask("any")).await.key, "c");
    server.stop().await;
}

/// Goal: a repeated request has the same permit again, as of a budget; and whoever asks a member by its own name gets that one.
#[tokio::test]
async fn repeats_and_members_by_name() {
    let server = start(&pool(["in_flight=9"; 3], IN_ORDER)).await;
    let mut session = server.session("").await;
    session.ask(1, ask("any")).await;
    let permit = session.permit(1).await;
    session.ask(1, ask("any")).await;
    assert_eq!(session.permit(1).await.permit_id, permit.permit_id);
    session.ask(2, ask("b")).await;
    assert_eq!(session.permit(2).await.key, "b");
    session.extend(&permit.permit_id).await;
    session.settle(&permit).await;
    assert!(session.refused.is_empty(), "it was live");
    server.stop().await;
}

/// Goal: what a message reports of a member is room for what the same message asks of the pool.
#[tokio::test]
async fn reports_of_a_message_go_first() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let mut session = server.session("").await;
    let mut held = Vec::new();
    for request_id in 1..=3 {
        session.ask(request_id, ask("any")).await;
        held.push(session.permit(request_id).await);
    }
    let at_once = AcquireRequest { request_id: 4, max_wait: span(Duration::ZERO), ..ask("any") };
    let report = vec![success(&held[1].permit_id)];
    session.send(SessionRequest { report, ..acquires(vec![at_once]) }).await;
    assert!(session.next_reported().await.settled);
    assert_eq!(session.permit(4).await.key, "b");
    server.stop().await;
}

/// Goal: what none can serve in time is refused at once, with the wait of the member that can soonest.
#[tokio::test]
async fn refuses_at_once_with_the_soonest() {
    let server = start(&pool(["requests=1/1d", "requests=1/1h", "requests=1/1d"], IN_ORDER)).await;
    for _ in 0..3 {
        server.granted_now(ask("any")).await;
    }
    let refused = server.refused_now(ask("any")).await;
    assert_eq!(refused.reason, "NOT_IN_TIME");
    assert!(refused.message.contains("no member of p/any takes it; p/b: "), "{}", refused.message);
    // A bucket begins to refill a moment after a pause.
    let hour = Duration::from_secs(3_601);
    let wait = refused.retry_after.expect("it is known");
    assert!(wait <= hour && wait > hour / 2, "{wait:?}");
    let short = permitd_proto::v1::AcquireRequest { max_wait: span(Duration::from_secs(5)), ..ask("any") };
    assert_eq!(server.refused(short).await.reason, "NOT_IN_TIME", "hopeless even alone");
    server.stop().await;
}
