//! Writes that come to etcd later than those that were made after them.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use permitd_tests::{Etcd, Permitd, Proxy, ask, ask_etcd, rate};
use serde_json::Value;

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// At which revisions a key was made and written last, by etcd's JSON gateway.
async fn revisions(etcd: SocketAddr, key: &str) -> (i64, i64) {
    let body = format!("{{\"key\":\"{}\"}}", BASE64_STANDARD.encode(key));
    let answer = ask_etcd(etcd, "kv/range", &body).await;
    let kv = &serde_json::from_str::<Value>(&answer).expect("JSON")["kvs"][0];
    let revision = |name: &str| kv[name].as_str().expect("there").parse().expect("a number");
    (revision("create_revision"), revision("mod_revision"))
}

/// Goal (invariant 1): a write that is given up may come all the same, after newer ones, and would bring an older balance back. So the claim
/// is written anew before the next one, and what comes late names a claim that is not the latest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_write_is_refused() {
    let etcd = Etcd::start(1).await;
    let member = etcd.addresses()[0];
    let ways = [Proxy::start(member).await, Proxy::start(member).await];
    // A lease that outlasts what is done here.
    let told =
        format!("[cluster]\netcd = \"etcd://{},{}\"\nlease = \"30s\"\n", ways[0].address, ways[1].address);
    let server = Permitd::start_at(permitd_tests::steady_port(), &told).await;
    server.set("k", vec![rate("requests", 10, DAY)]).await;
    server.settle(&server.granted(ask("k")).await).await;
    let owner = "permitd/live/owners/p/k";
    let (made, before) = revisions(member, owner).await;
    // Whichever way it goes first, at least one write is given up there and made the other way.
    for way in &ways {
        way.stall();
        server.settle(&server.granted(ask("k")).await).await;
        way.flow();
    }
    server.settle(&server.granted(ask("k")).await).await;
    let (still, after) = revisions(member, owner).await;
    assert_eq!(still, made, "the same claim");
    assert!(after > before, "which was written anew");
    assert_eq!(server.level("k", "requests").await, 6);
    server.stop().await;
}
