//! Floods: of requests, of connections, of bytes that trickle. Whoever is not part of one is served all the same, and memory is bounded.

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, ExplainBudgetRequest, ListBudgetsRequest};
use permitd_tests::{Permitd, Proxy, acquires, ask, http_get, raise_open_files, soon, span};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::World;

/// What a request that waits may take of the server's memory, everything counted: a generous several times what it takes.
const WAITING_BYTES_MAX: u64 = 2_000;

/// Goal: a tenant that fills a budget's queue is told so, takes bounded memory, and keeps nobody else of it from being served.
#[tokio::test]
async fn a_queue_that_is_flooded() {
    const WAITING: u64 = 60_000;
    let server = Permitd::start(
        "[server]\ndrain = \"0s\"\n[budgets.\"p/k\"]\nlimits = [\"in_flight=1\"]\nqueue.max_waiting = 100_000\n\
         tenants.flood = { max_waiting = 60_000 }\n",
    )
    .await;
    let held = server.granted_now(ask("k")).await;
    let before = server.resident_kib();
    let flood = |request_id| AcquireRequest { request_id, tenant: "flood".to_owned(), ..ask("k") };
    let mut sessions = Vec::new();
    for number in 0..7 {
        let mut session = server.session(&format!("flood-{number}")).await;
        for first in (1..=9_000_u64).step_by(1_000) {
            session.send(acquires((first..first + 1_000).map(flood).collect())).await;
        }
        session.barrier().await;
        sessions.push(session);
    }
    let state = server.state("k").await;
    let flooded = state.tenants.iter().find(|tenant| tenant.tenant == "flood").expect("it waits");
    assert_eq!(u64::from(flooded.waiting), WAITING);
    let last = sessions.last_mut().expect("seven of them");
    assert_eq!(last.next_refused().await.reason, "TENANT_QUEUE_FULL");
    if let (Some(before), Some(after)) = (before, server.resident_kib()) {
        let each = (after - before) * 1_024 / WAITING;
        assert!(each < WAITING_BYTES_MAX, "{each} bytes for each request that waits");
    }
    // Tenants share equally, however many wait: the second grant, at the latest, is another's.
    let (mut call, _) = server.waiting(AcquireRequest { tenant: "other".to_owned(), ..ask("k") }).await;
    server.settle(&held).await;
    let first = tokio::select! {
        granted = sessions[0].next_granted() => Some(granted.permit.expect("a permit")),
        _ = call.permit() => None,
    };
    if let Some(first) = first {
        server.settle(&first).await;
        call.permit().await;
    }
    server.stop().await;
}

/// Goal: where all connections are taken, those who have one are served, and a new one is once another goes.
#[tokio::test]
async fn connections_that_are_all_taken() {
    raise_open_files();
    let server = Permitd::start(
        "[server]\ndrain = \"0s\"\n[server.bounds]\nconnections = 40\n[budgets.\"p/k\"]\nlimits = [\"in_flight=9\"]\n",
    )
    .await;
    let mut session = server.session("").await;
    let mut taken = Vec::new();
    for _ in 0..90 {
        // The system accepts more than the server does.
        let mut stream = soon("a connection", TcpStream::connect(server.address)).await.expect("it listens");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("it takes them");
        taken.push(stream);
    }
    session.ask(1, ask("k")).await;
    let permit = session.permit(1).await;
    session.settle(&permit).await;
    // The last one hears nothing until others go.
    let mut last = taken.pop().expect("ninety");
    drop(taken);
    let heard = soon("an answer to the last one", last.read_u8()).await;
    assert!(heard.is_ok(), "{heard:?}");
    drop(last);
    soon("a new connection", server.granted_now(ask("k"))).await;
    server.stop().await;
}

/// Goal: probes are answered whoever takes all connections of the HTTP port, by beginning requests that never come or by staying.
#[tokio::test]
async fn http_connections_that_are_all_taken() {
    raise_open_files();
    let server = Permitd::start("[server]\ndrain = \"0s\"\n").await;
    let mut taken = Vec::new();
    for number in 0..600 {
        let mut stream = soon("a connection", TcpStream::connect(server.http)).await.expect("it listens");
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /heal",
            _ => b"GET /healthz HTTP/1.1\r\nhost: tests\r\n\r\n",
        };
        stream.write_all(said).await.expect("it takes them");
        taken.push(stream);
    }
    for _ in 0..3 {
        let answer = http_get(server.http, "/healthz", None).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(taken);
    server.stop().await;
}

/// Goal: tenants by the thousand, whose names are as long as can be and who got nothing, keep a budget from being seen by nobody.
#[tokio::test]
async fn tenants_that_are_made_up() {
    let server =
        Permitd::start("[server]\ndrain = \"0s\"\n[budgets.\"p/k\"]\nlimits = [\"in_flight=1\"]\n").await;
    let held = server.granted_now(AcquireRequest { tenant: "holds".to_owned(), ..ask("k") }).await;
    let (_call, _) = server.waiting(AcquireRequest { tenant: "waits".to_owned(), ..ask("k") }).await;
    let made_up = |request_id| {
        let tenant = format!("{request_id:0>256}");
        AcquireRequest { request_id, tenant, max_wait: span(Duration::ZERO), ..ask("k") }
    };
    let mut session = server.session("").await;
    for first in (1..=20_000_u64).step_by(1_000) {
        session.send(acquires((first..first + 1_000).map(made_up).collect())).await;
        session.barrier().await;
    }
    assert_eq!(session.next_refused().await.reason, "NOT_IN_TIME");

    let state = server.state("k").await;
    assert_eq!(state.tenants.len(), 1_000);
    for told in ["holds", "waits"] {
        assert!(state.tenants.iter().any(|tenant| tenant.tenant == told), "{told}");
    }
    let mut admin = server.admin().await;
    let listed = soon("a list", admin.list_budgets(ListBudgetsRequest::default())).await.expect("a page");
    assert_eq!(listed.into_inner().states.len(), 1);
    let explain = ExplainBudgetRequest { provider: "p".to_owned(), key: "k".to_owned() };
    soon("why", admin.explain_budget(explain)).await.expect("explained");
    server.settle(&held).await;
    server.stop().await;
}

/// Goal: sessions whose bytes trickle hold up nobody.
#[tokio::test]
async fn senders_that_are_slow() {
    let world = World::start().await;
    let proxy = Proxy::start(world.server.address).await;
    let slow = permitd_tests::Peer::new(proxy.address);
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(slow.session("").await);
    }
    proxy.slow(true);
    for (number, session) in sessions.iter_mut().enumerate() {
        let request = |id| AcquireRequest { request_id: id, ..ask("k") };
        let first = 1 + number as u64 * 300;
        session.send(acquires((first..first + 300).map(request).collect())).await;
    }
    for _ in 0..5 {
        world.is_well().await;
    }
    // What trickled in is served as well.
    for session in &mut sessions {
        session.next_granted().await;
    }
    drop(sessions);
    world.end().await;
}
