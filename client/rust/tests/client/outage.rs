//! No server: what each policy makes of it. Once the server is dead the clock is paused, so that waits are exact and take no time.

use std::{future::IntoFuture, time::Duration};

use permitd_client::{Client, OutagePolicy, Report, Source};
use permitd_proto::v1::{Limit, LocalShare, Outcome as WireOutcome};
use tokio::time::Instant;

use crate::fake::{FakeServer, FakeSession, closed_port, soon, until};

fn rate(unit: &str, amount: u64, burst: u64) -> Limit {
    let per = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    Limit { unit: unit.to_owned(), amount, burst, per, ..Limit::default() }
}

fn in_flight(amount: u64) -> Limit {
    Limit { unit: "in_flight".to_owned(), amount, ..Limit::default() }
}

/// A client with a share that is cut off from its server; the clock is paused.
struct CutOff {
    client: Client,
    address: std::net::SocketAddr,
}

async fn start(policy: OutagePolicy) -> (FakeServer, FakeSession, Client) {
    let mut server = FakeServer::start();
    let client = Client::builder()
        .endpoint(server.endpoint())
        .outage_policy(policy)
        .outage_after(Duration::from_millis(100))
        .connect_lazy()
        .expect("good settings");
    let session = server.welcomed(false).await;
    until(|| client.is_connected()).await;
    (server, session, client)
}

async fn cut_off_with(limits: Vec<Limit>) -> CutOff {
    let (server, mut session, client) = start(OutagePolicy::LocalShare).await;
    learn(&mut session, &client, limits).await;
    cut_off(server, client).await
}

async fn cut_off(server: FakeServer, client: Client) -> CutOff {
    let address = server.kill();
    until(|| !client.is_connected()).await;
    tokio::time::pause();
    CutOff { client, address }
}

/// Sends a share, and something after it that is answered, so that the share is known.
async fn learn(session: &mut FakeSession, client: &Client, limits: Vec<Limit>) {
    let valid_for = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let share = LocalShare { provider: "anthropic".to_owned(), key: "prod".to_owned(), limits, valid_for };
    session.share(share).await;
    let acquiring = tokio::spawn(client.acquire("anthropic/prod").into_future());
    let asked = session.acquire().await;
    session.grant(asked.request_id, "before").await;
    let guard = soon(acquiring).await.expect("no panic").expect("it was granted");
    let reporting = guard.report(Report::success());
    let report = session.report().await;
    session.settle(&report).await;
    soon(reporting).await.expect("it was answered");
}

/// Asks, and says how long it took on the paused clock.
async fn acquire_within(client: &Client, tokens: u64) -> (permitd_client::Guard, Duration) {
    let began = Instant::now();
    let guard = client.acquire("anthropic/prod").tokens(tokens).await.expect("the share grants it");
    (guard, began.elapsed())
}

/// Closed is the default: requests fail with an error that says what to do, and so do those that were waiting.
#[tokio::test]
async fn fail_closed_says_that_nobody_can_be_asked() {
    let (server, mut session, client) = start(OutagePolicy::FailClosed).await;
    let waiting = tokio::spawn(client.acquire("a").into_future());
    session.acquire().await;
    let CutOff { client, address } = cut_off(server, client).await;
    for error in [waiting.await.expect("no panic"), client.acquire("a").await]
        .map(|result| result.expect_err("closed"))
    {
        assert!(error.is_unavailable() && !error.is_refused());
        assert_eq!(error.reason(), "NO_SERVER");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("permitd serve"), "{text}");
    }

    let nobody = || Client::builder().endpoint(format!("http://{}", closed_port()));
    assert!(nobody().connect().await.expect_err("nobody listens").is_unavailable());
    let open = nobody()
        .outage_policy(OutagePolicy::FailOpen)
        .connect()
        .await
        .expect("an outage does not keep it from starting");
    assert!(!open.is_connected());
}

/// Open: calls go on, and can tell that nobody counts them.
#[tokio::test]
async fn fail_open_grants_what_nobody_manages() {
    let (server, mut session, client) = start(OutagePolicy::FailOpen).await;
    let mut waiting = client.acquire("a").tokens(7).many(2);
    let first = tokio::spawn(async move {
        let first = waiting.next().await;
        (waiting, first)
    });
    session.acquire().await;
    let CutOff { client, address } = cut_off(server, client).await;
    let (mut waiting, first) = first.await.expect("no panic");
    for guard in [first, waiting.next().await] {
        let guard = guard.expect("not the end").expect("granted");
        assert!(!guard.is_managed());
        assert_eq!((guard.permit().source(), guard.charged().tokens), (Source::Unmanaged, Some(7)));
        assert_eq!(guard.permit_id(), "");
        let advice = guard.report(Report::status(429)).await.expect("nobody has to be asked");
        assert!(!advice.settled && !advice.retry);
    }

    tokio::time::resume();
    let mut server = FakeServer::start_at(address);
    let mut session = server.welcomed(false).await;
    until(|| client.is_connected()).await;
    let managed = tokio::spawn(client.acquire("a").into_future());
    let asked = session.acquire().await;
    session.grant(asked.request_id, "p1").await;
    assert!(soon(managed).await.expect("no panic").expect("it was granted").is_managed());
}

/// The share starts empty, because the server may just have granted all of it, and is then enforced to the letter.
#[tokio::test]
async fn a_local_share_starts_empty_and_holds() {
    let CutOff { client, .. } = cut_off_with(vec![rate("requests", 60, 2), rate("tokens", 6_000, 600)]).await;
    let (first, waited) = acquire_within(&client, 50).await;
    assert!(waited >= Duration::from_secs(1), "60 a minute from nothing: {waited:?}");
    assert_eq!((first.permit().source(), first.is_managed()), (Source::LocalShare, false));
    assert_eq!(first.charged().tokens, Some(50));

    // Tokens bind: 300 at 100 a second.
    let (second, waited) = acquire_within(&client, 300).await;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    let advice = second.report(Report::success().tokens(600)).await.expect("settled here");
    assert!(advice.settled && !advice.retry);
    // The debit of 300 is paid first.
    let (third, waited) = acquire_within(&client, 100).await;
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    drop((first, third));

    let error =
        client.acquire("anthropic/prod").tokens(601).await.expect_err("more than the share ever holds");
    assert!(error.is_impossible() && error.is_refused(), "{error}");
    let error =
        client.acquire("anthropic/prod").max_wait(Duration::ZERO).tokens(500).await.expect_err("not now");
    assert!(error.is_refused() && error.is_timeout(), "{error}");
    assert!(error.to_string().contains("local share"), "{error}");
    let error = client.acquire("openai/prod").await.expect_err("no share of it");
    assert!(error.is_unavailable(), "{error}");
    assert_eq!(error.reason(), "NO_LOCAL_SHARE");
}

/// Permits that the server gave before count against the share's concurrency until they end.
#[tokio::test]
async fn permits_from_before_count_against_the_share() {
    let (server, mut session, client) = start(OutagePolicy::LocalShare).await;
    learn(&mut session, &client, vec![in_flight(2)]).await;
    let mut before = Vec::new();
    for permit_id in ["p1", "p2", "p3"] {
        let acquiring = tokio::spawn(client.acquire("anthropic/prod").into_future());
        let asked = session.acquire().await;
        session.grant(asked.request_id, permit_id).await;
        before.push(soon(acquiring).await.expect("no panic").expect("it was granted"));
    }
    let CutOff { client, .. } = cut_off(server, client).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = || client.acquire("anthropic/prod").max_wait(Duration::ZERO).into_future();
    assert!(now().await.expect_err("three of two are taken").is_refused());
    // One was over the share: its end frees nothing.
    before.pop();
    assert!(now().await.expect_err("two of two are taken").is_refused());
    let waiting = tokio::spawn(client.acquire("anthropic/prod").into_future());
    before.pop();
    let local = waiting.await.expect("no panic").expect("a slot is free");
    assert!(now().await.expect_err("two of two are taken").is_refused());
    local.cancel();
    drop(now().await.expect("a slot is free"));
}

/// A share is good for as long as the server said, and no longer; who waits then is told.
#[tokio::test]
async fn a_share_expires() {
    let CutOff { client, .. } = cut_off_with(vec![rate("requests", 1, 1)]).await;
    let (guard, _) = acquire_within(&client, 0).await;
    drop(guard);
    let mut waiting: Vec<_> =
        (0..20).map(|_| tokio::spawn(client.acquire("anthropic/prod").into_future())).collect();
    let last = waiting.pop().expect("there are twenty").await.expect("no panic");
    let error = last.expect_err("at one a minute, the share ends before it");
    assert!(error.is_unavailable(), "{error}");
    assert!(client.acquire("anthropic/prod").await.expect_err("the share has ended").is_unavailable());
}

/// A server that is back takes over: who waits locally waits there, and local permits are nobody's business.
#[tokio::test]
async fn a_server_that_is_back_takes_over() {
    let CutOff { client, address } = cut_off_with(vec![rate("requests", 60, 1)]).await;
    let (local, _) = acquire_within(&client, 0).await;
    tokio::time::resume();
    let waiting = tokio::spawn(client.acquire("anthropic/prod").tokens(5).into_future());
    let mut server = FakeServer::start_at(address);
    let mut session = server.welcomed(false).await;
    let advice = soon(local.report(Report::success()).into_future()).await.expect("nobody has to be asked");
    assert_eq!(advice.outcome, permitd_client::Outcome::Success);
    // What is granted locally before the client has heard of the server is a matter of luck; in the end it asks.
    let asking = async {
        while !client.acquire("anthropic/prod").tokens(6).await.expect("it was granted").is_managed() {}
        drop(waiting.await.expect("no panic").expect("it was granted"));
    };
    let answering = async {
        loop {
            let asked = session.acquire().await;
            session.grant(asked.request_id, &format!("p{}", asked.request_id)).await;
        }
    };
    soon(async {
        tokio::select! {
            () = asking => {}
            () = answering => {}
        }
    })
    .await;
}

/// A report that finds no server is kept: the caller is not held up, and the next server hears of it.
#[tokio::test]
async fn a_report_waits_for_the_next_server() {
    let (server, mut session, client) = start(OutagePolicy::FailClosed).await;
    let acquiring = tokio::spawn(client.acquire("a").into_future());
    let asked = session.acquire().await;
    session.grant(asked.request_id, "p1").await;
    let guard = soon(acquiring).await.expect("no panic").expect("it was granted");
    let CutOff { client, address } = cut_off(server, client).await;
    let error = guard.report(Report::rate_limited()).await.expect_err("nobody answers");
    assert!(error.is_unavailable() && error.to_string().contains("kept"), "{error}");

    tokio::time::resume();
    let mut server = FakeServer::start_at(address);
    let mut session = server.welcomed(false).await;
    let report = session.report().await;
    assert_eq!((report.permit_id.as_str(), report.outcome()), ("p1", WireOutcome::RateLimited));
    session.settle(&report).await;
    soon(client.close()).await;
}
