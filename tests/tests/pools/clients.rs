//! The Rust client: its guard says which key to use.

use std::future::IntoFuture as _;

use permitd_client::{Client, Report};
use permitd_tests::{ask, soon, until};

use crate::{IN_ORDER, pool, start, waiting};

/// Goal: a guard of a pool names the member, its report settles there, and who waits has the key of whoever comes first.
#[tokio::test]
async fn a_guard_names_the_key() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let client =
        soon("a session", Client::builder().endpoint(server.url()).connect()).await.expect("a server");
    let mut guards = Vec::new();
    for key in ["a", "b", "c"] {
        let guard = soon("a permit", client.acquire("p/any").into_future()).await.expect("a permit");
        assert_eq!((guard.permit().provider(), guard.permit().key()), ("p", key));
        guards.push(guard);
    }
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.acquire("p/any").into_future().await.expect("a permit") }
    });
    until("a place in the queues", async || waiting(&server).await == [1; 3]).await;
    let freed = guards.remove(1);
    assert!(soon("an answer", freed.report(Report::success())).await.expect("taken").settled);
    let guard = soon("the permit", waits).await.expect("no panic");
    assert_eq!(guard.permit().key(), "b");
    drop((guard, guards));
    until("everything settled", async || server.try_granted_now(ask("c")).await.is_ok()).await;
    server.stop().await;
}
