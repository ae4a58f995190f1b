//! Calls that do it all: acquired, made, reported, and made again while the server advises it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use permitd_client::{CallError, Client, Report, Request};
use permitd_proto::v1::{Outcome as WireOutcome, Refused};

use crate::fake::{FakeServer, FakeSession, Item, settled, soon};

async fn connected() -> (FakeServer, FakeSession, Client) {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let session = server.welcomed(false).await;
    (server, session, client)
}

/// Grants everything and answers every report with `retry`; gives back the reports.
async fn grant_all(mut session: FakeSession, retry: bool) -> Vec<permitd_proto::v1::ReportRequest> {
    let mut reports = Vec::new();
    while let Some(item) = session.item().await {
        match item {
            Item::Acquire(asked) => session.grant(asked.request_id, &format!("p{}", asked.request_id)).await,
            Item::Report(report) => {
                session.answer(settled(&report, retry && report.outcome() != WireOutcome::Success)).await;
                reports.push(report);
            }
            Item::Cancel(_) | Item::Extend(_) => {}
        }
    }
    reports
}

/// A failed call is made again, with a permit of its own each time, while it is advised and attempts are left.
#[tokio::test]
async fn it_is_made_again_while_that_is_advised() {
    let (_server, session, client) = connected().await;
    let server = tokio::spawn(grant_all(session, true));
    let made = AtomicU32::new(0);
    let caller = client.caller().attempts(5).classify(|result: &Result<u32, &str>| match result {
        Ok(tokens) => Report::success().tokens((*tokens).into()),
        Err(_) => Report::status(429),
    });
    let result = caller.call(Request::new("anthropic/prod").tokens(10), |permit| {
        assert_eq!(permit.provider(), "anthropic");
        let attempt = made.fetch_add(1, Ordering::Relaxed) + 1;
        async move { if attempt < 3 { Err("429") } else { Ok(attempt) } }
    });
    assert_eq!(soon(result).await.expect("the third works"), 3);
    drop(caller);
    soon(client.close()).await;
    let reports = soon(server).await.expect("no panic");
    let statuses: Vec<_> = reports.iter().map(|report| (report.http_status, report.outcome())).collect();
    assert_eq!(
        statuses,
        [(429, WireOutcome::Unspecified), (429, WireOutcome::Unspecified), (0, WireOutcome::Success)]
    );
    assert!(reports.iter().all(|report| report.latency.is_some()));
    let mut permits: Vec<_> = reports.iter().map(|report| &report.permit_id).collect();
    permits.dedup();
    assert_eq!(permits.len(), 3);
}

/// Attempts are bounded, and the last result is the call's own, also where it is an `Ok` that holds a refusal.
#[tokio::test]
async fn attempts_are_bounded() {
    let (_server, session, client) = connected().await;
    let server = tokio::spawn(grant_all(session, true));
    let made = AtomicU32::new(0);
    let caller = client.caller().attempts(2).classify(|_: &Result<u16, ()>| Report::status(503));
    let result = caller.call("a", |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async { Ok(503) }
    });
    assert_eq!(soon(result).await.expect("the call's own"), 503);
    assert_eq!(made.load(Ordering::Relaxed), 2);
    drop(caller);
    soon(client.close()).await;
    assert_eq!(soon(server).await.expect("no panic").len(), 2);
}

/// Without the advice there is no second attempt.
#[tokio::test]
async fn it_is_not_made_again_unadvised() {
    let (_server, session, client) = connected().await;
    let server = tokio::spawn(grant_all(session, false));
    let made = AtomicU32::new(0);
    let result = client.call("a", |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async { Err::<(), _>("no such page") }
    });
    let error = soon(result).await.expect_err("the call fails");
    assert_eq!((error.permit().is_none(), error.to_string().as_str()), (true, "no such page"));
    assert_eq!((error.into_call(), made.load(Ordering::Relaxed)), (Some("no such page"), 1));
    soon(client.close()).await;
    assert_eq!(soon(server).await.expect("no panic")[0].outcome(), WireOutcome::Failed);
}

/// Without a permit the call is not made.
#[tokio::test]
async fn without_a_permit_it_is_not_made() {
    let (_server, mut session, client) = connected().await;
    let refusing = tokio::spawn(async move {
        let asked = session.acquire().await;
        let reason = "QUEUE_FULL".to_owned();
        session.refuse(Refused { request_id: asked.request_id, code: 8, reason, ..Refused::default() }).await;
        session
    });
    let result = client.call("a", |_| async { Err::<(), &str>("was made") });
    match soon(result).await.expect_err("no permit") {
        CallError::Permit(error) => assert_eq!(error.reason(), "QUEUE_FULL"),
        CallError::Call(made) => panic!("{made}"),
    }
    drop(soon(refusing).await);
}

/// The deadline covers the call too; what it interrupts was sent, so its charge stays.
#[tokio::test]
async fn a_deadline_covers_the_call() {
    let (_server, session, client) = connected().await;
    let server = tokio::spawn(grant_all(session, true));
    // Time enough for the grant, also on a busy machine.
    let request = Request::new("a").timeout(Duration::from_secs(2));
    let result = client.call(request, |_| std::future::pending::<Result<(), &str>>());
    let error = soon(result).await.expect_err("it never ends");
    assert!(error.permit().expect("the deadline's error").is_timeout());
    soon(client.close()).await;
    assert_eq!(soon(server).await.expect("no panic")[0].outcome(), WireOutcome::Failed);
}
