//! Against the real server: the two halves agree on what the words mean.

use std::{
    future::{Future, IntoFuture, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use permitd_budget::{BudgetSpec, LimitSpec};
use permitd_client::{Client, OutagePolicy, Outcome, Report, Request, Source};
use permitd_server::{
    Error, Listeners,
    config::{Config, Data},
    run,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::fake::{soon, until};

/// A window in which nothing comes back by itself while a test runs.
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    /// With the budget `api/prod`.
    pub(crate) async fn start(limits: Vec<LimitSpec>) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), limits).await
    }

    async fn start_at(address: SocketAddr, limits: Vec<LimitSpec>) -> Self {
        let mut config = Config::default();
        config.server.listen = address;
        config.server.http = None;
        config.server.data = Data::Memory;
        config.server.drain = Duration::from_millis(50);
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("a sound spec");
        config.budgets.insert("api/prod".parse().expect("a name"), spec);
        let mut listeners = Listeners::bind(&config.server).await.expect("a free port");
        let (address, ready) = (listeners.grpc_address(), listeners.ready());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(config, listeners, async { drop(stopped.await) }));
        soon(ready).await.expect("it runs");
        Self { address, stop, running }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn client(&self) -> Client {
        soon(Client::connect([format!("http://{}", self.address)])).await.expect("it listens")
    }

    /// Politely, as for an upgrade.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.stop.send(()).expect("it runs");
        soon(self.running).await.expect("no panic").expect("a clean end");
        self.address
    }
}

fn now(client: &Client) -> permitd_client::Acquire {
    client.acquire("api/prod").max_wait(Duration::ZERO)
}

/// A permit is charged, and settled for what was used: what was not comes back.
#[tokio::test]
async fn what_is_not_used_comes_back() {
    let server = Server::start(vec![LimitSpec::rate("tokens", 100, DAY)]).await;
    let client = server.client().await;
    let guard = soon(now(&client).tokens(80).into_future()).await.expect("it fits");
    assert_eq!(guard.charged().tokens, Some(80));
    assert!(guard.expires_at().is_some() && guard.is_managed());
    let error = soon(now(&client).tokens(80).into_future()).await.expect_err("20 are left");
    assert!(error.is_refused() && error.is_timeout(), "{error:?}");
    assert!(error.limit().expect("a limit refused").starts_with("tokens/"), "{error:?}");
    assert!(error.retry_after().is_some());
    let advice = soon(guard.report(Report::success().tokens(10)).into_future()).await.expect("it answers");
    assert_eq!((advice.outcome, advice.settled, advice.retry), (Outcome::Success, true, false));
    soon(now(&client).tokens(80).into_future()).await.expect("90 are left").cancel();
    let error = soon(now(&client).tokens(101).into_future()).await.expect_err("never");
    assert!(error.is_impossible(), "{error:?}");
    let error = soon(client.acquire("unheard/of").into_future()).await.expect_err("no such budget");
    assert_eq!(error.reason(), "BUDGET_UNKNOWN");
    assert!(error.to_string().contains("permitd budgets set"), "{error}");
    soon(client.close()).await;
    server.stop().await;
}

/// A slot goes to whoever waits when a guard is dropped, and a future that is dropped does not take one.
#[tokio::test]
async fn slots_go_round() {
    let server = Server::start(vec![LimitSpec::in_flight(1)]).await;
    let client = server.client().await;
    let guard = soon(client.acquire("api/prod").into_future()).await.expect("it is free");
    let mut gone = client.acquire("api/prod").into_future();
    poll_fn(|context| {
        assert!(Pin::new(&mut gone).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    let next = tokio::spawn(client.acquire("api/prod").into_future());
    drop(gone);
    drop(guard);
    drop(soon(next).await.expect("no panic").expect("the slot is free"));
    server.stop().await;
}

/// Several permits of one request come as others end.
#[tokio::test]
async fn many_come_as_others_end() {
    let server = Server::start(vec![LimitSpec::in_flight(2)]).await;
    let client = server.client().await;
    let mut grants = client.acquire("api/prod").many(5);
    for _ in 0..5 {
        let guard = soon(grants.next()).await.expect("not the end").expect("a grant");
        soon(guard.report(Report::success()).into_future()).await.expect("it answers");
    }
    assert!(soon(grants.next()).await.is_none());
    server.stop().await;
}

/// What the provider answers is read by the server, and its advice is followed.
#[tokio::test]
async fn calls_are_made_again_on_the_servers_advice() {
    let server = Server::start(vec![LimitSpec::in_flight(10)]).await;
    let client = server.client().await;
    let mut statuses = [503, 200].into_iter();
    let caller = client.caller().classify(|result: &Result<u16, ()>| {
        let status = *result.as_ref().expect("it always answers");
        Report::status(status).header("retry-after-ms", "1")
    });
    let result =
        caller.call(Request::new("api/prod"), |_| std::future::ready(Ok(statuses.next().expect("two"))));
    assert_eq!(soon(result).await.expect("the second works"), 200);
    let mut statuses = [400, 200].into_iter();
    let result =
        caller.call(Request::new("api/prod"), |_| std::future::ready(Ok(statuses.next().expect("two"))));
    assert_eq!(soon(result).await.expect("the call's own"), 400);
    server.stop().await;
}

/// A server that is stopped and started again is not noticed by who waits.
#[tokio::test]
async fn a_restart_is_not_noticed() {
    let server = Server::start(vec![LimitSpec::in_flight(1)]).await;
    let client = Client::builder()
        .endpoint(format!("http://{}", server.address))
        .outage_after(Duration::from_secs(60))
        .connect_lazy()
        .expect("good settings");
    let guard = soon(client.acquire("api/prod").into_future()).await.expect("it is free");
    let waiting = tokio::spawn(client.acquire("api/prod").into_future());
    let address = server.stop().await;
    let server = Server::start_at(address, vec![LimitSpec::in_flight(1)]).await;
    drop(guard);
    drop(soon(waiting).await.expect("no panic").expect("granted by the new server"));
    soon(client.close()).await;
    server.stop().await;
}

/// Two servers: the one that stops hands its clients on.
#[tokio::test]
async fn another_server_takes_over() {
    let limits = || vec![LimitSpec::rate("requests", 5, DAY)];
    let (first, second) = (Server::start(limits()).await, Server::start(limits()).await);
    let endpoints = [&first, &second].map(|server| format!("http://{}", server.address));
    let client = soon(Client::connect(endpoints)).await.expect("they listen");
    soon(now(&client).into_future()).await.expect("it fits").report_detached(Report::success());
    first.stop().await;
    soon(client.acquire("api/prod").into_future()).await.expect("it fits").report_detached(Report::success());
    soon(client.close()).await;
    second.stop().await;
}

/// The server's share lets the client go on without it, at no more than the limits.
#[tokio::test]
async fn the_servers_share_is_used_without_it() {
    let server = Server::start(vec![LimitSpec::rate("requests", 6_000, Duration::from_secs(60))]).await;
    let client = Client::builder()
        .endpoint(format!("http://{}", server.address))
        .outage_policy(OutagePolicy::LocalShare)
        .outage_after(Duration::from_millis(50))
        .connect_lazy()
        .expect("good settings");
    for _ in 0..3 {
        let guard = soon(client.acquire("api/prod").into_future()).await.expect("it fits");
        soon(guard.report(Report::success()).into_future()).await.expect("it answers");
    }
    server.stop().await;
    until(|| !client.is_connected()).await;
    let guard = soon(client.acquire("api/prod").into_future()).await.expect("the share grants it");
    assert_eq!(guard.permit().source(), Source::LocalShare);
    let error = soon(client.acquire("api/other").into_future()).await.expect_err("no share");
    assert!(error.is_unavailable(), "{error}");
}
