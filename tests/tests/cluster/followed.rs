//! Who owns what, as clients are told that want to know, and the Rust client that asks there.

use std::time::Duration;

use permitd_client::{Client, Report};
use permitd_proto::v1::{AcquireRequest, Hello, MoveBudgetRequest};
use permitd_tests::{Session, acquires, ask, hello, in_flight, soon, success, until};

use crate::fleet::Fleet;

/// Three servers, and budget `k` on one of them; its place.
async fn fleet(slots: u64) -> (Fleet, usize) {
    let fleet = Fleet::start(3, 1).await;
    fleet.server(0).set("k", vec![in_flight(slots)]).await;
    fleet.is_known("k").await;
    let owner = fleet.owned("k").await;
    (fleet, owner)
}

fn wants_owners(session_id: &str) -> Hello {
    Hello { owners: true, ..hello(session_id) }
}

async fn moved(fleet: &Fleet, to: usize) {
    let server = fleet.server(to).address.to_string();
    let asked = MoveBudgetRequest { provider: "p".to_owned(), key: "k".to_owned(), server };
    soon("a moved budget", fleet.server(to).cluster().await.move_budget(asked)).await.expect("moved");
}

/// How many sessions the server has, those that break included.
async fn sessions(fleet: &Fleet, place: usize) -> u64 {
    let metrics = permitd_tests::http_get(fleet.server(place).http, "/metrics", None).await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("permitd_sessions "));
    line.expect("a gauge").parse().expect("a number")
}

/// Goal: a session is told the owner of what it asks for elsewhere, once, and again when that is another server; whoever did not ask
/// to be told is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_told() {
    let (fleet, owner) = fleet(9).await;
    let urls = fleet.urls();
    let (asked, third) = ((owner + 1) % 3, (owner + 2) % 3);
    let mut quiet = Session::open(fleet.server(asked).channel().await, hello("quiet")).await;
    let mut session = Session::open(fleet.server(asked).channel().await, wants_owners("told")).await;
    assert_eq!(session.welcome.address, urls[asked]);
    for request_id in 1..=2 {
        for session in [&mut quiet, &mut session] {
            session.send(acquires(vec![AcquireRequest { request_id, ..ask("k") }])).await;
            let permit = session.permit(request_id).await;
            assert!(session.report(success(&permit.permit_id)).await.settled);
        }
    }
    let told = session.owners.pop_front().expect("told");
    assert_eq!((&*told.provider, &*told.key, &*told.address), ("p", "k", &*urls[owner]));
    assert_eq!((session.owners.pop_front(), quiet.owners.pop_front()), (None, None));

    moved(&fleet, third).await;
    session.send(acquires(vec![AcquireRequest { request_id: 3, ..ask("k") }])).await;
    session.permit(3).await;
    while session.owners.is_empty() {
        session.barrier().await;
    }
    assert_eq!(session.owners.pop_front().expect("told").address, urls[third]);
    // At the owner there is nothing to tell.
    let mut there = Session::open(fleet.server(third).channel().await, wants_owners("there")).await;
    there.send(acquires(vec![AcquireRequest { request_id: 1, ..ask("k") }])).await;
    there.permit(1).await;
    assert_eq!(there.owners.pop_front(), None);
}

async fn client(fleet: &Fleet, place: usize) -> Client {
    let urls = fleet.urls();
    let endpoints = (0..urls.len()).map(|at| urls[(place + at) % urls.len()].clone());
    Client::builder().endpoints(endpoints).connect().await.expect("a session")
}

/// A call's worth: no request of these tests may fail.
async fn call(client: &Client) {
    let guard = soon("a permit", client.acquire("p/k").max_wait(Duration::from_secs(20)).into_future()).await;
    let settled = guard.expect("no request fails").report(Report::success()).await;
    settled.expect("an answer to the report");
}

/// Goal: the client asks for a budget at its owner, once it is told, and follows it when it moves: also back to the client's own server,
/// where one session is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_follows() {
    let (fleet, owner) = fleet(5).await;
    let (asked, third) = ((owner + 1) % 3, (owner + 2) % 3);
    let client = client(&fleet, asked).await;
    for place in [owner, third] {
        if place == third {
            moved(&fleet, third).await;
        }
        until("a session with the owner", async || {
            call(&client).await;
            client.owners().len() == 1 && client.owners()[0] == fleet.urls()[place]
        })
        .await;
    }
    moved(&fleet, asked).await;
    until("nobody to follow", async || {
        call(&client).await;
        client.owners().is_empty()
    })
    .await;
    client.close().await;
    for place in 0..3 {
        until("the end of all sessions", async || sessions(&fleet, place).await == 0).await;
    }
}

/// Goal: whatever becomes of the owner, no request fails, and what was granted there is settled: it is killed, and replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_comes_back() {
    let (fleet, owner) = fleet(5).await;
    let client = client(&fleet, (owner + 1) % 3).await;
    let follows = async || {
        until("a session with an owner", async || {
            call(&client).await;
            !client.owners().is_empty()
        })
        .await;
    };
    follows().await;
    let held = client.acquire("p/k").await.expect("a permit of the owner");
    fleet.replace(owner).await;
    held.report(Report::success()).await.expect("settled by whoever owns it now");
    for _ in 0..20 {
        call(&client).await;
    }
    let owner = fleet.owned("k").await;
    call(&client).await;
    fleet.server(owner).kill_now();
    for _ in 0..20 {
        call(&client).await;
    }
    fleet.restart(owner).await;
    client.close().await;
}
