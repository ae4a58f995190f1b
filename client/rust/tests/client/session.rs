//! One session, seen from the other end: what is sent, when, and what each answer becomes.

use std::{
    future::{Future, IntoFuture, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use permitd_client::{Client, Guard, Outcome, Priority, Report, Usage};
use permitd_proto::v1::{Outcome as WireOutcome, Priority as WirePriority, Refused, ReportResponse};

use crate::fake::{FakeServer, FakeSession, Item, soon, until};

/// A client with its session in the test's hands.
async fn connected() -> (FakeServer, FakeSession, Client) {
    let mut server = FakeServer::start();
    let client =
        Client::builder().endpoint(server.endpoint()).tenant("web").connect_lazy().expect("good settings");
    let session = server.welcomed(false).await;
    (server, session, client)
}

/// Polls once, so that the request is on its way.
async fn ask<F: Future + Unpin>(future: &mut F) {
    let mut future = pin!(future);
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Everything the caller says arrives, and everything the server says comes back.
#[tokio::test]
async fn a_permit_is_acquired_and_reported() {
    let (_server, mut session, client) = connected().await;
    assert_eq!(session.hello.tenant, "web");
    assert_eq!(session.hello.session_id.len(), 32);
    assert!(session.hello.client.starts_with("permitd-client-rust/"));

    let acquire = client
        .acquire("anthropic/prod")
        .model("claude-opus-4-5")
        .tenant("job")
        .estimate(Usage::new().input_tokens(900).max_output_tokens(300))
        .priority(Priority::Batch)
        .max_wait(Duration::from_secs(30));
    let mut acquiring = acquire.into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    assert_eq!((asked.provider.as_str(), asked.key.as_str()), ("anthropic", "prod"));
    assert_eq!((asked.model.as_str(), asked.tenant.as_str()), ("claude-opus-4-5", "job"));
    assert_eq!((asked.priority(), asked.count), (WirePriority::Batch, 1));
    let estimate = asked.estimate.expect("an estimate was given");
    assert_eq!(
        (estimate.input_tokens, estimate.max_output_tokens, estimate.tokens),
        (Some(900), Some(300), None)
    );
    let max_wait = asked.max_wait.expect("a wait was given");
    assert!((29..=30).contains(&max_wait.seconds), "{max_wait:?}");

    session.grant(asked.request_id, "p1").await;
    let guard = soon(acquiring).await.expect("it was granted");
    assert_eq!(guard.permit_id(), "p1");
    assert_eq!(guard.charged(), &Usage::new().requests(1).tokens(1_200));
    assert_eq!(guard.waited(), Duration::from_millis(7));
    assert_eq!(guard.expires_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)));
    assert!(guard.is_managed());

    let reporting = guard.report(Report::status(429).header("retry-after", "7").tokens(40));
    let report = session.report().await;
    assert_eq!((report.permit_id.as_str(), report.http_status), ("p1", 429));
    assert_eq!(report.headers["retry-after"], "7");
    assert_eq!(report.actual.as_ref().and_then(|actual| actual.tokens), Some(40));
    session
        .answer(ReportResponse {
            permit_id: "p1".to_owned(),
            outcome: WireOutcome::RateLimited as i32,
            settled: true,
            retry: true,
            retry_after: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
        })
        .await;
    let advice = soon(reporting).await.expect("it was answered");
    assert_eq!((advice.outcome, advice.settled, advice.retry), (Outcome::RateLimited, true, true));
    assert_eq!(advice.retry_after, Some(Duration::from_secs(7)));
}

/// What is ready together goes out together.
#[tokio::test]
async fn whatever_is_ready_is_one_message() {
    let (_server, mut session, client) = connected().await;
    until(|| client.is_connected()).await;
    let mut acquiring: Vec<_> = (0..100).map(|_| client.acquire("a").into_future()).collect();
    for future in &mut acquiring {
        ask(future).await;
    }
    let message = session.message().await.expect("a message");
    assert_eq!(message.acquire.len(), 100);
}

/// Who stops waiting leaves the queue; a grant that was already on its way goes back unused.
#[tokio::test]
async fn a_dropped_future_leaves_the_queue() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    drop(acquiring);
    assert_eq!(session.item().await, Some(Item::Cancel(asked.request_id)));

    session.grant(asked.request_id, "late").await;
    let report = session.report().await;
    assert_eq!((report.permit_id.as_str(), report.outcome()), ("late", WireOutcome::Cancelled));
}

/// A request that is taken back before it was sent costs the server nothing.
#[tokio::test]
async fn what_is_dropped_at_once_is_never_sent() {
    let (_server, mut session, client) = connected().await;
    until(|| client.is_connected()).await;
    let mut dropped = client.acquire("dropped").into_future();
    ask(&mut dropped).await;
    drop(dropped);
    let mut kept = client.acquire("kept").into_future();
    ask(&mut kept).await;
    assert_eq!(session.acquire().await.provider, "kept");
}

/// A grant that arrived, but that nobody took, was certainly not used.
#[tokio::test]
async fn a_grant_that_nobody_took_goes_back() {
    let (_server, mut session, client) = connected().await;
    let (mut first, mut second) = (client.acquire("a").into_future(), client.acquire("a").into_future());
    ask(&mut first).await;
    ask(&mut second).await;
    let (one, two) = (session.acquire().await, session.acquire().await);
    session.grant(one.request_id, "p1").await;
    session.grant(two.request_id, "p2").await;
    // The answers come in order: when the second is here, the first is too.
    let second = soon(second).await.expect("it was granted");
    drop(first);
    let report = session.report().await;
    assert_eq!((report.permit_id.as_str(), report.outcome()), ("p1", WireOutcome::Cancelled));
    drop(second);
}

/// The ways in which a guard ends without advice: its charge stays where the call may have been sent.
#[tokio::test]
async fn every_guard_settles() {
    let (_server, mut session, client) = connected().await;
    type End = fn(Guard);
    let ends: [(&str, End, WireOutcome); 3] = [
        ("dropped", drop, WireOutcome::Failed),
        ("cancelled", Guard::cancel, WireOutcome::Cancelled),
        ("detached", |guard| guard.report_detached(Report::success()), WireOutcome::Success),
    ];
    for (permit_id, end, outcome) in ends {
        let mut acquiring = client.acquire("a").into_future();
        ask(&mut acquiring).await;
        let asked = session.acquire().await;
        session.grant(asked.request_id, permit_id).await;
        end(soon(acquiring).await.expect("it was granted"));
        let report = session.report().await;
        assert_eq!((report.permit_id.as_str(), report.outcome()), (permit_id, outcome));
        assert_eq!(report.actual, None, "as charged");
        session.settle(&report).await;
    }
}

/// The server's no arrives with everything that it said.
#[tokio::test]
async fn a_refusal_says_why() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    session
        .refuse(Refused {
            request_id: asked.request_id,
            code: 11,
            reason: "LARGER_THAN_LIMIT".to_owned(),
            message: "9 tokens can never be granted: tokens/1m holds at most 5".to_owned(),
            limit: "tokens/1m".to_owned(),
            ..Refused::default()
        })
        .await;
    let error = soon(acquiring).await.expect_err("it was refused");
    assert!(error.is_refused() && error.is_impossible() && !error.is_timeout());
    assert_eq!((error.limit(), error.retry_after()), (Some("tokens/1m"), None));
    assert!(error.to_string().contains("can never be granted"));
}

/// A report that the server refuses still settles the permit, with its outcome alone; the caller hears what was wrong.
#[tokio::test]
async fn a_report_that_makes_no_sense_still_settles() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    session.grant(asked.request_id, "p1").await;
    let guard = soon(acquiring).await.expect("it was granted");
    let reporting = guard.report(Report::success().tokens(5).input_tokens(9));
    session.report().await;
    let reason = "INVALID_ARGUMENT".to_owned();
    session.refuse(Refused { permit_id: "p1".to_owned(), code: 3, reason, ..Refused::default() }).await;
    assert!(soon(reporting).await.expect_err("it was refused").is_invalid());
    let again = session.report().await;
    assert_eq!((again.permit_id.as_str(), again.outcome()), ("p1", WireOutcome::Success));
    assert_eq!(again.actual, None);
}

/// The client keeps its own deadline, whatever the server does, and tells the server.
#[tokio::test]
async fn a_deadline_is_kept_without_the_server() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").timeout(Duration::from_secs(1)).into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    let max_wait = asked.max_wait.expect("the server was told");
    assert!(max_wait.seconds <= 1, "{max_wait:?}");
    let error = soon(acquiring).await.expect_err("nobody answers");
    assert!(error.is_timeout() && !error.is_refused(), "{error}");
    assert_eq!(session.item().await, Some(Item::Cancel(asked.request_id)));
}

/// A guard that lives on keeps its permit.
#[tokio::test]
async fn a_long_call_is_extended() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    session.grant_for(asked.request_id, "p1", Duration::from_millis(80)).await;
    let guard = soon(acquiring).await.expect("it was granted");
    assert_eq!(session.item().await, Some(Item::Extend("p1".to_owned())));
    assert_eq!(session.item().await, Some(Item::Extend("p1".to_owned())));
    // The server does not know it any more: no use in asking on, but the report is still sent.
    session.refuse(Refused { permit_id: "p1".to_owned(), code: 5, ..Refused::default() }).await;
    drop(guard);
    let report = loop {
        match session.item().await {
            Some(Item::Report(report)) => break report,
            Some(Item::Extend(_)) => {}
            other => panic!("a report was expected, not {other:?}"),
        }
    };
    assert_eq!(report.permit_id, "p1");
}

/// Several permits of one request come one by one; who stops leaves the queue with the rest.
#[tokio::test]
async fn many_permits_trickle_in() {
    let (_server, mut session, client) = connected().await;
    let mut grants = client.acquire("a").many(3);
    let first = tokio::spawn(async move {
        let guard = grants.next().await;
        (grants, guard)
    });
    let asked = session.acquire().await;
    assert_eq!(asked.count, 3);
    session.grant(asked.request_id, "p1").await;
    let (mut grants, first) = soon(first).await.expect("no panic");
    let first = first.expect("not the end").expect("a grant");
    session.grant(asked.request_id, "p2").await;
    let second = soon(grants.next()).await.expect("not the end").expect("a grant");
    assert_eq!((first.permit_id(), second.permit_id()), ("p1", "p2"));
    drop(grants);
    assert_eq!(session.item().await, Some(Item::Cancel(asked.request_id)));

    let mut grants = client.acquire("a").many(0);
    assert!(soon(grants.next()).await.expect("not the end").expect_err("a bad count").is_invalid());
    assert!(soon(grants.next()).await.is_none());
}

/// Past the bound, requests wait inside the client, within their own time.
#[tokio::test]
async fn the_client_itself_is_bounded() {
    let mut server = FakeServer::start();
    let client =
        Client::builder().endpoint(server.endpoint()).waiting_max(1).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let (mut first, mut second) =
        (client.acquire("first").into_future(), client.acquire("second").into_future());
    ask(&mut first).await;
    ask(&mut second).await;
    let error =
        soon(client.acquire("third").max_wait(Duration::ZERO).into_future()).await.expect_err("no room");
    assert!(error.is_refused());
    assert_eq!(error.reason(), "CLIENT_FULL");

    let asked = session.acquire().await;
    assert_eq!(asked.provider, "first");
    session.grant(asked.request_id, "p1").await;
    let guard = soon(first).await.expect("it was granted");
    let second = tokio::spawn(second);
    let asked = session.acquire().await;
    assert_eq!(asked.provider, "second");
    session.grant(asked.request_id, "p2").await;
    drop((guard, soon(second).await));
}

/// The end is polite: reports are answered first, then the stream is half-closed; who waits is told.
#[tokio::test]
async fn closing_waits_for_reports() {
    let (_server, mut session, client) = connected().await;
    let (mut acquiring, mut waiting) = (client.acquire("a").into_future(), client.acquire("a").into_future());
    ask(&mut acquiring).await;
    ask(&mut waiting).await;
    let asked = session.acquire().await;
    let still_waiting = session.acquire().await;
    session.grant(asked.request_id, "p1").await;
    soon(acquiring).await.expect("it was granted").report_detached(Report::success());
    let closing = tokio::spawn(client.clone().close());
    let report = session.report().await;
    assert_eq!(report.permit_id, "p1");
    assert_eq!(session.item().await, Some(Item::Cancel(still_waiting.request_id)));
    assert!(!closing.is_finished());
    session.settle(&report).await;
    assert_eq!(session.item().await, None, "half-closed");
    drop(session);
    soon(closing).await.expect("no panic");
    assert!(soon(waiting).await.expect_err("the client is closed").is_closed());
    assert!(soon(client.acquire("a").into_future()).await.expect_err("the client is closed").is_closed());
}

/// The last clone and the last guard end the session; until then a guard alone keeps it.
#[tokio::test]
async fn the_session_lives_as_long_as_its_guards() {
    let (_server, mut session, client) = connected().await;
    let mut acquiring = client.acquire("a").into_future();
    ask(&mut acquiring).await;
    let asked = session.acquire().await;
    session.grant(asked.request_id, "p1").await;
    let guard = soon(acquiring).await.expect("it was granted");
    drop(client);
    let reporting = guard.report(Report::success());
    let report = session.report().await;
    session.settle(&report).await;
    assert!(soon(reporting).await.expect("it was answered").settled);
    assert_eq!(session.item().await, None, "half-closed");
}
