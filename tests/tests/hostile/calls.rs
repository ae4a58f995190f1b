//! Calls that are too many, or too large in their heads.

use std::time::{Duration, Instant};

use permitd_proto::v1::{
    AcquireRequest, ListBudgetsRequest, ReportRequest, SessionRequest,
    admin_service_client::AdminServiceClient,
};
use permitd_tests::{Server, Session, acquires, ask, facts, hello, in_flight, success};
use tonic::{Code, Request};

/// Goal: who makes calls faster than a connection may is told when to come again; another connection notices nothing, and a session
/// is one call however much it asks.
#[tokio::test]
async fn too_many_calls() {
    let server = Server::start_with(|config| config.server.bounds.calls_per_second = 1).await;
    let mut hasty = AdminServiceClient::new(server.channel().await);
    let mut refused = None;
    for _ in 0..20 {
        if let Err(status) = hasty.list_budgets(ListBudgetsRequest::default()).await {
            refused = Some(facts(&status));
            break;
        }
    }
    let refused = refused.expect("twenty calls take less than twenty seconds");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "TOO_MANY_CALLS"));
    assert!(refused.retry_after.is_some_and(|wait| wait.as_secs() <= 1), "{refused:?}");

    server.set("k", vec![in_flight(100)]).await;
    let mut session = server.session("").await;
    for request_id in 1..=50 {
        session.ask(request_id, ask("k")).await;
    }
    for _ in 1..=50 {
        session.next_granted().await;
    }
    server.stop().await;
}

/// Goal: a connection whose sessions ask faster than they may is read later, without an error; reports on another are not held up
/// by it.
#[tokio::test]
async fn too_many_items_a_second() {
    let server = Server::start_with(|config| config.server.bounds.items_per_second = 50).await;
    server.set("k", vec![in_flight(1_000)]).await;
    let mut hasty = server.session("hasty").await;
    // The first message has more than may come in a second, so the second one is read later.
    let asked = |first: u64| {
        acquires((first..first + 75).map(|id| AcquireRequest { request_id: id, ..ask("k") }).collect())
    };
    let begin = Instant::now();
    hasty.send(asked(1)).await;
    hasty.send(asked(76)).await;
    for _ in 0..75 {
        hasty.next_granted().await;
    }
    let mut other = server.session("other").await;
    other.ask(1, ask("k")).await;
    let permit = other.permit(1).await;
    other.settle(&permit).await;
    for _ in 0..75 {
        hasty.next_granted().await;
    }
    // 75 of which 50 might come at once, before the second message was read.
    assert!(begin.elapsed() >= Duration::from_millis(500), "it was not read at once");
    server.stop().await;
}

/// Goal: who opens one stream after the other, and asks in the first message of each, is no faster than who asks in one.
#[tokio::test]
async fn too_many_items_in_first_messages() {
    let server = Server::start_with(|config| config.server.bounds.items_per_second = 50).await;
    server.set("k", vec![in_flight(1_000)]).await;
    let channel = server.channel().await;
    let begin = Instant::now();
    for _ in 0..2 {
        let asked = acquires((1..=75).map(|id| AcquireRequest { request_id: id, ..ask("k") }).collect());
        let first = SessionRequest { hello: Some(hello("")), ..asked };
        let mut session = Session::open_with(channel.clone(), first).await;
        for _ in 0..75 {
            session.next_granted().await;
        }
    }
    // 75 of which 50 might come at once, before the second one was read.
    assert!(begin.elapsed() >= Duration::from_millis(500), "it was not read at once");
    server.stop().await;
}

/// Goal: a connection that reports thousands of permits which it never got has all its answers, but is read later; reports on another are
/// not held up by it.
#[tokio::test]
async fn too_many_forged_permits() {
    let server = Server::start().await;
    server.set("k", vec![in_flight(2)]).await;
    let mut forger = server.session("forger").await;
    // Every second one makes no sense besides.
    let forged = |id: u32| ReportRequest { http_status: id % 2, ..success(&format!("p1{id}")) };
    let forged = || (0..7_500).map(forged).collect();
    let begin = Instant::now();
    for _ in 0..2 {
        forger.send(SessionRequest { report: forged(), ..SessionRequest::default() }).await;
    }
    forger.ask(1, ask("k")).await;
    let mut other = server.session("other").await;
    other.ask(1, ask("k")).await;
    let permit = other.permit(1).await;
    other.settle(&permit).await;
    for _ in 0..7_500 {
        assert!(!forger.next_reported().await.settled);
    }
    forger.permit(1).await;
    assert_eq!(forger.refused.len(), 7_500);
    // 15,000 of which 10,000 might come at once, before it was read what is asked for.
    assert!(begin.elapsed() >= Duration::from_millis(500), "it was not read at once");
    server.stop().await;
}

/// Goal: a call with more in its head than a server reads is refused, and the connection lives on.
#[tokio::test]
async fn too_large_heads() {
    let server = Server::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let mut request = Request::new(ListBudgetsRequest::default());
    request.metadata_mut().insert("x-large", "x".repeat(64 * 1024).parse().expect("ASCII"));
    admin.list_budgets(request).await.expect_err("too large");
    admin.list_budgets(ListBudgetsRequest::default()).await.expect("the connection lives on");
    server.stop().await;
}
