//! The way out: told in order, reports still taken, and over in time.

use std::time::{Duration, Instant};

use permitd_budget::LimitSpec;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{Server, ask, soon, success};

/// Goal: health says so first, those waiting are told with a hint, new ones are refused, reports are still taken, and a
/// session ends once its last permit is reported.
#[tokio::test]
async fn drains_in_order() {
    let mut server = Server::start_with(&[("k", vec![LimitSpec::in_flight(1)])], |config| {
        config.server.drain = Duration::from_secs(9);
    })
    .await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("a watch").into_inner();
    let mut status =
        async || soon("health", watch.message()).await.expect("open").expect("a status").status();
    assert_eq!(status().await, ServingStatus::Serving);
    let mut client = server.permits().await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let held = session.permit(1).await;
    session.ask(2, "k").await;
    session.nothing_granted().await;
    let mut waiting = client.acquire(ask(0, "k")).await.expect("queued").into_inner();
    soon("a place", waiting.message()).await.expect("open");
    let mut idle = server.session("").await;

    server.tell_to_stop();
    assert_eq!(status().await, ServingStatus::NotServing);
    let refused = session.refused().await;
    assert_eq!(
        (refused.request_id, refused.code, refused.reason.as_str()),
        (2, Code::Unavailable as u32, "DRAINING")
    );
    assert!(refused.retry_after.is_some());
    let ended = soon("the end", waiting.message()).await.expect_err("draining");
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.get_error_details().retry_info().is_some());
    assert_eq!(idle.failure().await.0, Code::Unavailable, "nothing to wait for");
    let status = client.acquire(ask(0, "k")).await.expect_err("too late");
    assert_eq!(
        (status.code(), status.get_error_details().error_info().expect("one").reason.as_str()),
        (Code::Unavailable, "DRAINING")
    );
    session.ask(3, "k").await;
    assert_eq!(session.refused().await.reason, "DRAINING");
    assert!(session.report(&held.permit_id).await.settled);
    assert_eq!(session.failure().await.0, Code::Unavailable);
    server.stopped().await.expect("a clean end");
}

/// Goal: reports by unary calls are taken too, and the server does not wait once the last permit is settled.
#[tokio::test]
async fn unary_reports_while_draining() {
    let mut server = Server::start_with(&[("k", vec![LimitSpec::in_flight(1)])], |config| {
        config.server.drain = Duration::from_secs(9);
    })
    .await;
    let mut client = server.permits().await;
    let mut stream = client.acquire(ask(0, "k")).await.expect("granted").into_inner();
    let message = soon("a grant", stream.message()).await.expect("open").expect("an event");
    let Some(permitd_proto::v1::acquire_response::Event::Granted(permit)) = message.event else {
        panic!("a grant")
    };
    let began = Instant::now();
    server.tell_to_stop();
    assert!(client.report(success(&permit.permit_id)).await.expect("an answer").into_inner().settled);
    server.stopped().await.expect("a clean end");
    assert!(began.elapsed() < Duration::from_secs(9), "it did not wait for nothing");
}

/// Goal: it ends with sessions open that hold permits, with watches open, and with clients that never answer.
#[tokio::test]
async fn ends_whoever_is_left() {
    let mut server = Server::start(&[("k", vec![LimitSpec::in_flight(1)])]).await;
    let mut health = HealthClient::new(server.channel().await);
    let _watch = health.watch(HealthCheckRequest::default()).await.expect("a watch");
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    session.permit(1).await;
    let _silent = tokio::net::TcpStream::connect(server.address).await.expect("it listens");
    let began = Instant::now();
    server.tell_to_stop();
    server.stopped().await.expect("a clean end");
    assert!(began.elapsed() < Duration::from_secs(10), "the promise to whoever stops it");
    assert_eq!(session.failure().await.0, Code::Unavailable);
}

/// Goal: a session whose client is gone is nothing to wait for, although its grace is long.
#[tokio::test]
async fn broken_sessions_do_not_hold_up() {
    let mut server = Server::start_with(&[("k", vec![LimitSpec::in_flight(1)])], |config| {
        config.server.drain = Duration::from_secs(9);
        config.server.grace = Duration::from_secs(600);
    })
    .await;
    let mut session = server.session("mine").await;
    session.ask(1, "k").await;
    let held = session.permit(1).await;
    session.break_off();
    let mut client = server.permits().await;
    assert!(client.report(success(&held.permit_id)).await.expect("an answer").into_inner().settled);
    let began = Instant::now();
    server.tell_to_stop();
    server.stopped().await.expect("a clean end");
    assert!(began.elapsed() < Duration::from_secs(9), "it did not wait for nothing");
}
