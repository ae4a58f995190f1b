//! The unary acquire: its stream, its refusals, and what becomes of it when the caller goes away.

use std::time::Duration;

use permitd_budget::{BudgetSpec, LimitSpec};
use permitd_proto::v1::{AcquireRequest, AcquireResponse, Permit, Queued, acquire_response::Event};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::{DAY, Server, acquires, ask, soon, success};

const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn next(stream: &mut Streaming<AcquireResponse>) -> Option<Result<Event, Status>> {
    let message = soon("an answer", stream.message()).await.transpose()?;
    Some(message.map(|message| message.event.expect("an event")))
}

async fn permit(stream: &mut Streaming<AcquireResponse>) -> Permit {
    match next(stream).await {
        Some(Ok(Event::Granted(permit))) => permit,
        other => panic!("a grant, not {other:?}"),
    }
}

async fn queued(stream: &mut Streaming<AcquireResponse>) -> Queued {
    match next(stream).await {
        Some(Ok(Event::Queued(queued))) => queued,
        other => panic!("a place, not {other:?}"),
    }
}

/// Goal: granted at once, then the stream ends; the next one is told its place and granted when the first is reported.
#[tokio::test]
async fn waits_in_line() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(1)])]).await;
    let mut client = server.permits().await;
    let mut first = client.acquire(ask(0, "k")).await.expect("granted").into_inner();
    let held = permit(&mut first).await;
    assert!(next(&mut first).await.is_none(), "the stream ends");
    let mut second = client.acquire(ask(0, "k")).await.expect("queued").into_inner();
    let place = queued(&mut second).await;
    assert_eq!((place.position, place.held_by.as_str()), (0, "in_flight"));
    assert!(client.report(success(&held.permit_id)).await.expect("an answer").into_inner().settled);
    let after = permit(&mut second).await;
    assert!(next(&mut second).await.is_none());
    assert!(client.report(success(&after.permit_id)).await.expect("an answer").into_inner().settled);
    server.stop().await;
}

/// Goal: what becomes possible with time alone is granted with time alone, in a call and in a session.
#[tokio::test]
async fn refills_grant_by_themselves() {
    let server = Server::start(&[(
        "k",
        vec![LimitSpec { burst: 1, ..LimitSpec::rate("requests", 1_000, TEN_SECONDS) }],
    )])
    .await;
    let mut client = server.permits().await;
    let mut stream =
        client.acquire(AcquireRequest { count: 20, ..ask(0, "k") }).await.expect("begun").into_inner();
    let mut waited = Duration::ZERO;
    while let Some(event) = next(&mut stream).await {
        if let Event::Granted(permit) = event.expect("no refusal") {
            let wait = permit.waited.expect("told");
            waited = waited.max(wait.try_into().expect("not negative"));
        }
    }
    assert!(waited >= Duration::from_millis(190), "19 refills of 10 ms, not {waited:?}");
    let mut session = server.session("").await;
    session.send(acquires((0..20).map(|id| ask(id, "k")).collect())).await;
    for request_id in 0..20 {
        session.permit(request_id).await;
    }
    server.stop().await;
}

/// Goal: several permits trickle in, each once.
#[tokio::test]
async fn many_permits_trickle() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(2)])]).await;
    let mut client = server.permits().await;
    let request = AcquireRequest { count: 5, ..ask(0, "k") };
    let mut stream = client.acquire(request).await.expect("begun").into_inner();
    let mut granted = 0;
    while let Some(event) = next(&mut stream).await {
        if let Event::Granted(permit) = event.expect("no refusal") {
            granted += 1;
            assert!(client.report(success(&permit.permit_id)).await.expect("an answer").into_inner().settled);
        }
    }
    assert_eq!(granted, 5);
    server.stop().await;
}

/// Goal: a caller that goes away leaves the queue, and a grant that it did not take goes back.
#[tokio::test]
async fn dropped_streams_take_nothing() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(1)])]).await;
    let mut client = server.permits().await;
    let mut holder = client.acquire(ask(0, "k")).await.expect("granted").into_inner();
    let held = permit(&mut holder).await;
    for _ in 0..20 {
        let mut waiting = client.acquire(ask(0, "k")).await.expect("queued").into_inner();
        queued(&mut waiting).await;
        drop(waiting);
    }
    let mut last = client.acquire(ask(0, "k")).await.expect("queued").into_inner();
    queued(&mut last).await;
    assert!(client.report(success(&held.permit_id)).await.expect("an answer").into_inner().settled);
    permit(&mut last).await;
    server.stop().await;
}

/// Goal: refusals are the call's status, each with one ErrorInfo and the details that fit.
#[tokio::test]
async fn refusals_are_statuses() {
    let limits = vec![LimitSpec::rate("tokens", 100, DAY)];
    let server = Server::start(&[("k", limits)]).await;
    let mut client = server.permits().await;
    let cases = [
        (AcquireRequest { tokens: 101, ..ask(0, "k") }, Code::OutOfRange, "LARGER_THAN_LIMIT"),
        (ask(0, "unknown"), Code::NotFound, "BUDGET_UNKNOWN"),
        (
            AcquireRequest { provider: String::new(), ..ask(0, "k") },
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (AcquireRequest { count: u32::MAX, ..ask(0, "k") }, Code::InvalidArgument, "INVALID_ARGUMENT"),
    ];
    for (request, code, reason) in cases {
        let status = client.acquire(request).await.expect_err(reason);
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!(
            (status.code(), info.reason.as_str(), info.domain.as_str()),
            (code, reason, "permitd.dev")
        );
        assert!(details.retry_info().is_none(), "no wait helps");
    }
    let status = client.acquire(AcquireRequest { tokens: 101, ..ask(0, "k") }).await.expect_err("too large");
    assert!(status.get_error_details().error_info().expect("one").metadata["limit"].starts_with("tokens/"));
    let status = client.acquire(ask(0, "unknown")).await.expect_err("unknown");
    assert!(status.message().contains("permitd budgets set p/unknown --limit"), "{}", status.message());

    let mut all =
        client.acquire(AcquireRequest { tokens: 100, ..ask(0, "k") }).await.expect("granted").into_inner();
    permit(&mut all).await;
    let now = Some(prost_types::Duration::default());
    let status =
        client.acquire(AcquireRequest { tokens: 50, max_wait: now, ..ask(0, "k") }).await.expect_err("empty");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wait = status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("a hint");
    assert!(wait > Duration::from_secs(3_600), "half a day");
    server.stop().await;
}

/// Goal: the caller's own deadline counts like max_wait: what can't be in time is refused at once.
#[tokio::test]
async fn the_callers_deadline_counts() {
    let server = Server::start(&[("k", vec![LimitSpec::rate("requests", 1, DAY)])]).await;
    let mut client = server.permits().await;
    permit(&mut client.acquire(ask(0, "k")).await.expect("granted").into_inner()).await;
    let mut request = Request::new(ask(0, "k"));
    request.set_timeout(Duration::from_secs(600));
    let status = client.acquire(request).await.expect_err("in a day");
    assert_eq!(status.get_error_details().error_info().expect("one").reason, "NOT_IN_TIME");
    server.stop().await;
}

/// Goal: a key that nobody declared is made from its provider's defaults.
#[tokio::test]
async fn provider_defaults_make_budgets() {
    let server = Server::start_with(&[], |config| {
        let limits = vec![LimitSpec::rate("requests", 1, DAY)];
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("a sound spec");
        config.providers.insert("p".to_owned(), spec);
        config.server.bounds.budgets = 2;
    })
    .await;
    let mut client = server.permits().await;
    for key in ["", "other"] {
        let granted = permit(&mut client.acquire(ask(0, key)).await.expect("granted").into_inner()).await;
        assert_eq!(granted.key, if key.is_empty() { "default" } else { key });
    }
    let status = client.acquire(ask(0, "third")).await.expect_err("two at most");
    assert_eq!(status.get_error_details().error_info().expect("one").reason, "TOO_MANY_BUDGETS");
    server.stop().await;
}
