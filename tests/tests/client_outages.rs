//! The Rust client while connections break, servers die and servers leave: its callers see no error as long as some server is up, nothing
//! is counted twice and nothing is lost.

use std::{
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use permitd_client::{Client, ClientBuilder, Guard, OutagePolicy, Report, Source};
use permitd_tests::{DAY, Peer, Permitd, Proxy, Server, ask, in_flight, rate, soon, steady_port, until};

const ONE_AT_A_TIME: &str = r#"
[server]
drain = "1s"
[budgets."p/k"]
limits = ["in_flight=1"]
"#;

/// Patient: an outage is nothing that a test means unless it says so.
fn builder<const N: usize>(endpoints: [String; N]) -> ClientBuilder {
    Client::builder()
        .endpoints(endpoints)
        .outage_after(Duration::from_secs(120))
        .connect_timeout(Duration::from_secs(2))
}

async fn connect<const N: usize>(endpoints: [String; N]) -> Client {
    soon("a session", builder(endpoints).connect()).await.expect("a server")
}

async fn acquire(client: &Client) -> Guard {
    soon("a permit", client.acquire("p/k").into_future()).await.expect("no error")
}

async fn settle(guard: Guard) {
    let advice = soon("an answer to a report", guard.report(Report::success())).await.expect("no error");
    assert!(advice.settled);
}

/// An acquire under way, seen to wait.
async fn waits(client: &Client, server: &Peer) -> tokio::task::JoinHandle<Guard> {
    let before = server.state("k").await.waiting;
    let client = client.clone();
    let waiting = tokio::spawn(async move { acquire(&client).await });
    until("a place in the queue", async || server.state("k").await.waiting > before).await;
    waiting
}

/// Goal: a connection cut in mid-wait costs nothing but the way back: the place is kept, and the grant arrives.
#[tokio::test]
async fn cut_in_mid_wait() {
    let server = Server::with(vec![in_flight(1)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    let held = server.granted_now(ask("k")).await;
    let waiting = waits(&client, &server).await;
    let (mut behind, _) = server.waiting(ask("k")).await;
    for _ in 0..3 {
        let connections = proxy.accepted();
        proxy.cut();
        until("another connection", async || proxy.accepted() > connections).await;
    }
    server.settle(&held).await;
    let guard = soon("the grant", waiting).await.expect("no panic");
    assert_eq!(server.state("k").await.waiting, 1, "it kept its place before the other");
    settle(guard).await;
    behind.permit().await;
    client.close().await;
    server.stop().await;
}

/// Goal: a grant that was made while nobody could be told is not lost.
#[tokio::test]
async fn granted_while_away() {
    let server = Server::with(vec![in_flight(1)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    let held = server.granted_now(ask("k")).await;
    let waiting = waits(&client, &server).await;
    proxy.close();
    server.settle(&held).await;
    until("the grant", async || server.state("k").await.waiting == 0).await;
    proxy.open();
    settle(soon("the grant", waiting).await.expect("no panic")).await;
    assert_eq!(server.state("k").await.granted_total, 2);
    client.close().await;
    server.stop().await;
}

/// Goal: with connections cut again and again under load, every call succeeds, each is charged once, and nothing is left in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_under_load() {
    const CALLERS: u64 = 20;
    const CALLS: u64 = 30;
    let server = Server::with(vec![in_flight(8), rate("requests", 10_000, DAY)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    let done = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (client.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..CALLS {
                    settle(acquire(&client).await).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for cut in 1..=6 {
        until("some calls", async || done.load(Ordering::Relaxed) >= cut * CALLERS * CALLS / 8).await;
        proxy.cut();
    }
    for caller in callers {
        soon("the calls", caller).await.expect("no panic, and so no error");
    }
    let state = server.state("k").await;
    assert_eq!((state.in_flight, state.waiting), (0, 0));
    assert_eq!(state.granted_total, CALLERS * CALLS, "each was granted once");
    // What came back within the minute or so that this may have taken.
    let used = 10_000 - server.level("k", "requests").await;
    assert!((590..=600).contains(&used), "each was charged once: {used}");
    client.close().await;
    server.stop().await;
}

/// Goal: bytes that are held back for a while are no outage: whatever was asked is answered when they flow again.
#[tokio::test]
async fn stalled() {
    let server = Server::with(vec![in_flight(3)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    let held = acquire(&client).await;
    proxy.stall();
    let another = tokio::spawn({
        let client = client.clone();
        async move { acquire(&client).await }
    });
    let settling = tokio::spawn(settle(held));
    // Another caller is served meanwhile.
    let permit = server.granted_now(ask("k")).await;
    server.settle(&permit).await;
    proxy.flow();
    soon("the answer", settling).await.expect("no panic");
    settle(soon("the grant", another).await.expect("no panic")).await;
    assert_eq!(server.state("k").await.in_flight, 0);
    client.close().await;
    server.stop().await;
}

/// Goal: a connection whose server is gone without a word is found out and replaced; the caller waits on and sees no error.
#[tokio::test]
async fn half_open() {
    let server = Server::with(vec![in_flight(1)]).await;
    let proxy = Proxy::start(server.address).await;
    let quick = builder([proxy.url()]).keepalive(Duration::from_millis(300));
    let client = soon("a session", quick.connect()).await.expect("a server");
    let held = server.granted_now(ask("k")).await;
    let waiting = waits(&client, &server).await;
    let connections = proxy.accepted();
    proxy.orphan();
    server.settle(&held).await;
    until("another connection", async || proxy.accepted() > connections).await;
    settle(soon("the grant", waiting).await.expect("no panic")).await;
    client.close().await;
    server.stop().await;
}

/// Goal: a report that was on its way when the connection broke counts once, and its caller gets the answer.
#[tokio::test]
async fn reports_survive() {
    let server = Server::with(vec![rate("tokens", 1_000, DAY)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    for round in 1..=8 {
        let guard = soon("a permit", client.acquire("p/k").tokens(10).into_future()).await.expect("no error");
        let reporting = guard.report(Report::success().tokens(5));
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        proxy.cut();
        assert!(soon("an answer", reporting).await.expect("no error").settled);
        assert_eq!(server.level("k", "tokens").await, 1_000 - 5 * round);
    }
    assert_eq!(server.state("k").await.in_flight, 0);
    client.close().await;
    server.stop().await;
}

/// Goal: a future that is dropped while the connection is down leaves nothing behind when it is up again.
#[tokio::test]
async fn dropped_while_away() {
    let server = Server::with(vec![in_flight(1)]).await;
    let proxy = Proxy::start(server.address).await;
    let client = connect([proxy.url()]).await;
    let held = server.granted_now(ask("k")).await;
    let waiting = waits(&client, &server).await;
    proxy.close();
    waiting.abort();
    assert!(waiting.await.expect_err("aborted").is_cancelled());
    server.settle(&held).await;
    proxy.open();
    until("the slot to be free again", async || {
        let state = server.state("k").await;
        (state.in_flight, state.waiting) == (0, 0)
    })
    .await;
    settle(acquire(&client).await).await;
    client.close().await;
    server.stop().await;
}

/// Goal: a server killed in mid-wait and started again on the same port: the caller waits on and is granted by the new one.
#[tokio::test]
async fn killed_and_started_again() {
    let port = steady_port();
    let first = Permitd::start_at(port, ONE_AT_A_TIME).await;
    let client = connect([first.url()]).await;
    let held = acquire(&client).await;
    let waiting = waits(&client, &first).await;
    first.kill().await;
    let second = Permitd::start_at(port, ONE_AT_A_TIME).await;
    let guard = soon("the grant of the new one", waiting).await.expect("no panic");
    assert_eq!(guard.permit().source(), Source::Server);
    settle(guard).await;
    // Its server is gone: nobody knows this permit, and nobody is hurt.
    let advice = soon("an answer", held.report(Report::success())).await.expect("no error");
    assert!(!advice.settled);
    settle(acquire(&client).await).await;
    client.close().await;
    second.stop().await;
}

/// Goal: a server killed under load, with another endpoint up: no caller sees an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_another_up() {
    let config = ONE_AT_A_TIME.replace("in_flight=1", "in_flight=4");
    let first = Permitd::start(&config).await;
    let second = Permitd::start(&config).await;
    let client = connect([first.url(), second.url()]).await;
    let done = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, done) = (client.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..25 {
                    let guard = acquire(&client).await;
                    // Of a permit of the server that died, the other one knows nothing.
                    soon("an answer", guard.report(Report::success())).await.expect("no error");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("some calls", async || done.load(Ordering::Relaxed) >= 50).await;
    first.kill().await;
    for caller in callers {
        soon("the calls", caller).await.expect("no panic, and so no error");
    }
    assert!(second.state("k").await.granted_total > 0);
    assert_eq!(second.state("k").await.in_flight, 0);
    client.close().await;
    second.stop().await;
}

/// Goal: a server that drains while calls wait, with another endpoint up: they are granted there, and no caller sees an error.
#[tokio::test]
async fn drained_with_another_up() {
    let first = Permitd::start(ONE_AT_A_TIME).await;
    let second = Permitd::start(ONE_AT_A_TIME).await;
    let client = connect([first.url(), second.url()]).await;
    let held = acquire(&client).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(waits(&client, &first).await);
    }
    first.terminate();
    // Not before it drains: until then, a report makes room for the next on the first one.
    until("the calls to move", async || second.state("k").await.granted_total > 0).await;
    // Taken by the first one if the client is still there; the other one knows nothing of it. No error, either way.
    soon("an answer to a report", held.report(Report::success())).await.expect("no error");
    for call in waiting {
        settle(soon("a grant of the other one", call).await.expect("no panic")).await;
    }
    assert!(first.exit().await.success());
    assert_eq!(second.state("k").await.granted_total, 5);
    settle(acquire(&client).await).await;
    client.close().await;
    second.stop().await;
}

/// Goal: an endpoint that is down, refuses connections or never answers is passed over.
#[tokio::test]
async fn endpoints_that_are_down() {
    let server = Server::with(vec![in_flight(1)]).await;
    let nobody = format!("http://127.0.0.1:{}", steady_port());
    let closed = Proxy::start(server.address).await;
    closed.close();
    let stalled = Proxy::start(server.address).await;
    stalled.stall();
    let impatient = builder([nobody, closed.url(), stalled.url(), server.url()])
        .connect_timeout(Duration::from_millis(200));
    let client = soon("a session", impatient.connect()).await.expect("the last one is up");
    settle(acquire(&client).await).await;
    client.close().await;
    server.stop().await;
}

/// Goal: with no server for longer than the caller wants to wait, the outage policy says what happens, and it ends with the outage.
#[tokio::test]
async fn outage_policies() {
    for policy in [OutagePolicy::FailClosed, OutagePolicy::FailOpen, OutagePolicy::LocalShare] {
        let second = Duration::from_secs(1);
        let server = Server::with(vec![rate("requests", 1_000, second), in_flight(10)]).await;
        let proxy = Proxy::start(server.address).await;
        let short = builder([proxy.url()]).outage_after(Duration::from_millis(200)).outage_policy(policy);
        let client = soon("a session", short.connect()).await.expect("a server");
        settle(acquire(&client).await).await;
        proxy.close();
        until("the end of the session", async || !client.is_connected()).await;
        let answer = soon("an answer in the outage", client.acquire("p/k").into_future()).await;
        match policy {
            OutagePolicy::FailClosed => {
                assert!(answer.expect_err("no server").is_unavailable());
            }
            OutagePolicy::FailOpen => {
                let guard = answer.expect("unmanaged");
                assert_eq!((guard.is_managed(), guard.permit().source()), (false, Source::Unmanaged));
                soon("an answer", guard.report(Report::success())).await.expect("nothing to do");
            }
            _ => {
                // The share is bounded: it has slots, and the last of them is the last.
                let mut held = vec![answer.expect("of the share")];
                loop {
                    let next = client.acquire("p/k").max_wait(Duration::from_millis(50));
                    match soon("an answer in the outage", next.into_future()).await {
                        Ok(guard) => held.push(guard),
                        Err(refused) => {
                            assert!(refused.is_timeout() || refused.is_refused(), "{refused}");
                            break;
                        }
                    }
                    assert!(held.len() <= 10, "never more than the limit itself");
                }
                assert!(held.iter().all(|guard| guard.permit().source() == Source::LocalShare));
            }
        }
        proxy.open();
        until("the end of the outage", async || client.is_connected()).await;
        let guard = acquire(&client).await;
        assert_eq!(guard.permit().source(), Source::Server);
        settle(guard).await;
        client.close().await;
        server.stop().await;
    }
}

/// Goal (invariant 1): when the only server dies, all clients together stay within the limit on their local shares, in every window that
/// begins before the outage or in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_shares_stay_within_the_limit() {
    const PER_SECOND: u32 = 60;
    let server = Permitd::start("[budgets.\"p/k\"]\nlimits = [\"requests=60/1s,burst=20\"]\n").await;
    let (served, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for _ in 0..2 {
        let sharing = builder([server.url()])
            .outage_after(Duration::from_millis(200))
            .outage_policy(OutagePolicy::LocalShare);
        let client = soon("a session", sharing.connect()).await.expect("a server");
        callers.push(tokio::spawn(calls_until_served_alone(client, Arc::clone(&served), Arc::clone(&done))));
    }
    // A session that joins has to wait for its share until the older ones have had the time to hear of theirs. The second one that joins
    // waits once more, so that nobody's first share can still be on its way when it has its own.
    until("each to be served", async || served.load(Ordering::Relaxed) == 2).await;
    for _ in 0..2 {
        let mut newest = server.session("").await;
        newest.ask(1, ask("k")).await;
        newest.permit(1).await;
        while newest.shares.is_empty() {
            newest.read().await.expect("a share");
        }
    }
    server.kill().await;
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(soon("the calls", caller).await.expect("no panic, and so no error"));
    }
    calls.sort_by_key(|(_, granted)| *granted);
    for &(begin, _) in &calls {
        let within = calls.iter().filter(|(sent, _)| *sent >= begin);
        for (sum, (_, granted)) in (1_u32..).zip(within) {
            let most = 20.0 + f64::from(PER_SECOND) * granted.duration_since(begin).as_secs_f64() + 0.01;
            assert!(f64::from(sum) <= most, "{sum} within {:?}", granted.duration_since(begin));
        }
    }
}

/// One call after the other, until all callers had 20 grants of their local share: the times before and after each. Counts the callers
/// that were served at all, and those that had their 20.
async fn calls_until_served_alone(
    client: Client,
    served: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
) -> Vec<(Instant, Instant)> {
    let mut calls = Vec::new();
    let mut alone = 0;
    while alone < 20 || done.load(Ordering::Relaxed) < 2 {
        let sent = Instant::now();
        let guard = acquire(&client).await;
        calls.push((sent, Instant::now()));
        if calls.len() == 1 {
            served.fetch_add(1, Ordering::Relaxed);
        }
        if guard.permit().source() == Source::LocalShare {
            alone += 1;
            if alone == 20 {
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        guard.report_detached(Report::success());
    }
    calls
}
