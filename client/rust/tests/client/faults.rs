//! Connections that are cut while much is going on: whatever happens, every permit is settled once and none is lost.

use std::{
    future::{Future, IntoFuture, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use permitd_budget::LimitSpec;
use permitd_client::{Client, Report};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{fake::soon, real::Server};

/// Slots in the budget, callers, and what each of them does.
const SLOTS: u32 = 4;
const CALLERS: u64 = 40;
const ROUNDS: u64 = 25;
/// Connections that are cut.
const CUTS: u64 = 6;

/// Passes bytes on, until it is told to cut its connections.
struct Proxy {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut outside = TcpStream::connect(to).await.expect("the server listens");
                    tokio::select! {
                        // Either end may have gone first.
                        passed = tokio::io::copy_bidirectional(&mut inside, &mut outside) => drop(passed),
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// A small generator (splitmix64): the same seed does the same things.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Every way in which a request and its guard can end.
async fn caller(client: Client, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..ROUNDS {
        let mut acquiring = client.acquire("api/prod").into_future();
        match random.below(6) {
            0 => {
                let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut acquiring).poll(context))).await;
                assert!(polled.is_pending());
                if random.below(2) == 0 {
                    tokio::task::yield_now().await;
                }
                drop(acquiring);
            }
            1 => drop(acquiring.await.expect("it waits as long as it takes")),
            2 => acquiring.await.expect("it waits as long as it takes").cancel(),
            3 => acquiring.await.expect("it waits as long as it takes").report_detached(Report::success()),
            _ => {
                let guard = acquiring.await.expect("it waits as long as it takes");
                guard.report(Report::success()).await.expect("a server is never away for long");
            }
        }
    }
}

/// With connections cut at random, nobody gets an error, and in the end every slot is free: a permit that was lost would keep
/// its slot for ten minutes.
#[tokio::test]
async fn cut_connections_lose_nothing() {
    let server = Server::start(vec![LimitSpec::in_flight(SLOTS.into())]).await;
    let proxy = Arc::new(Proxy::start(server.address()).await);
    let client = Client::builder()
        .endpoint(format!("http://{}", proxy.address))
        .outage_after(Duration::from_secs(60))
        .connect_lazy()
        .expect("good settings");
    let mut callers = JoinSet::new();
    for seed in 0..CALLERS {
        callers.spawn(caller(client.clone(), seed));
    }
    // One cut for every so many callers that are through; the last ones go without.
    let mut ended = 0;
    let mut cuts = 0;
    while cuts < CUTS {
        crate::fake::until(|| client.is_connected()).await;
        proxy.cut();
        cuts += 1;
        while ended < cuts * CALLERS / (CUTS * 2) {
            soon(callers.join_next()).await.expect("some are left").expect("no panic");
            ended += 1;
        }
    }
    while let Some(ended) = soon(callers.join_next()).await {
        ended.expect("no panic");
    }

    let mut grants = client.acquire("api/prod").many(SLOTS);
    let mut guards = Vec::new();
    for _ in 0..SLOTS {
        guards.push(soon(grants.next()).await.expect("not the end").expect("every slot is free"));
    }
    let error = soon(client.acquire("api/prod").max_wait(Duration::ZERO).into_future()).await;
    assert!(error.expect_err("every slot is taken").is_refused());
    drop(guards);
    soon(client.close()).await;
    server.stop().await;
}
