//! A server that is told to stop sends everybody away as soon as the others have what it had: there is nothing to stay for.

use std::time::Duration;

use permitd_proto::v1::Budget;
use permitd_tests::{Etcd, Permitd, Session, ask, budget, facts, hello, in_flight, span, success};

/// A server that would wait for reports for as long as it may.
fn config(etcd: &Etcd, drain: &str) -> String {
    format!("[server]\ndrain = \"{drain}\"\n{}", crate::fleet::config(&etcd.url()))
}

/// One slot, whose permits live for less than a server drains.
fn short_lived() -> Budget {
    Budget { permit_ttl: span(Duration::from_secs(4)), ..budget("k", vec![in_flight(1)]) }
}

/// Goal: a session at the server that stops goes on at another, with its permits and with whoever waits, and nothing of it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_where_their_budgets_went() {
    let etcd = Etcd::start(1).await;
    let stops = Permitd::start(&config(&etcd, "9s")).await;
    stops.declare(short_lived()).await;
    let stays = Permitd::start(&config(&etcd, "9s")).await;
    let mut session = Session::open(stops.channel().await, hello("goes on")).await;
    session.ask(1, ask("k")).await;
    let permit = session.permit(1).await;
    session.ask(2, ask("k")).await;
    session.barrier().await;
    let (mut waiting, _) = stops.waiting(ask("k")).await;

    stops.terminate();
    let ended = facts(&session.end().await.expect_err("sent away"));
    assert_eq!(ended.reason, "DRAINING");
    assert!(session.refused.is_empty(), "{:?}", session.refused);
    assert_eq!(waiting.refusal().await.reason, "DRAINING");

    let mut session = Session::open(stays.channel().await, hello("goes on")).await;
    session.ask(2, ask("k")).await;
    assert!(session.report(success(&permit.permit_id)).await.settled, "well within its life");
    let next = session.permit(2).await;
    session.settle(&next).await;
    assert!(stops.exit().await.success());
    stays.stop().await;
}

/// Goal: servers that are not to wait for anybody hand over and end well all the same, whoever is there, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_it_ends_well() {
    let etcd = Etcd::start(1).await;
    let stops = Permitd::start(&config(&etcd, "0s")).await;
    for number in 0..40 {
        stops.set(&format!("k{number}"), vec![in_flight(1)]).await;
    }
    let stays = Permitd::start(&config(&etcd, "0s")).await;
    let mut session = Session::open(stops.channel().await, hello("stays")).await;
    session.ask(1, ask("k0")).await;
    session.permit(1).await;
    session.ask(2, ask("k0")).await;
    session.barrier().await;
    stops.stop().await;
    // It may be taking what the other had at this moment.
    stays.stop().await;
}
