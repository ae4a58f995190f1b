//! Pages that are left open: what a browser needs for them after an hour, and the server behind them.
//!
//! `PERMITD_CONSOLE_UPDATES=3600` is an hour of each, as `make soak` has it, in a few minutes; `PERMITD_CONSOLE_PACE=own` has the page ask by
//! itself, once a second, and takes the hour. How large everything is comes out with `--nocapture`.

use std::env;

use permitd_proto::v1::{AcquireRequest, Limit, Outcome, Priority};
use permitd_tests::{DAY, Peer, Permitd, in_flight, rate, report, tokens};
use serde_json::json;

use crate::browser::{Browser, Scheme};

const SLOTS: u64 = 3;
const TOKENS: u64 = 1_000_000_000;
/// Changes that a page shows.
const CHANGES: usize = 20;
/// Updates between two looks at how large everything is.
const STRETCH: usize = 60;
/// What a page may differ by, since not the same sentences and rows are on it at every look.
const SLACK_KIB: u64 = 1_000;
const SLACK_NODES: u64 = 40;
/// What the server may differ by: its allocator keeps some for each thread that ever put an overview together, of which there come to be a dozen.
const SERVER_SLACK_KIB: u64 = 24 * 1_024;

/// What a page needs, and the server's process.
#[derive(Clone, Copy, Debug)]
struct Size {
    heap_kib: u64,
    nodes: u64,
    listeners: u64,
    server_kib: Option<u64>,
}

impl Size {
    /// After whatever nobody needs any more is gone.
    async fn of(browser: &Browser, server: &Permitd) -> Self {
        browser.devtools("HeapProfiler.collectGarbage", json!({})).await;
        let heap = browser.devtools("Runtime.getHeapUsage", json!({})).await;
        let counts = browser.devtools("Memory.getDOMCounters", json!({})).await;
        let count = |of: &str| counts[of].as_u64().expect("a number");
        Self {
            heap_kib: heap["usedSize"].as_f64().expect("a number") as u64 / 1_024,
            nodes: count("nodes"),
            listeners: count("jsEventListeners"),
            server_kib: server.resident_kib(),
        }
    }
}

/// Goal: a page that is left open needs no more after an hour than when its charts were full, whatever comes and goes on it; nor does the
/// server that feeds it.
#[tokio::test]
async fn the_page_of_a_budget_does_not_grow() {
    // Its charts remember 300 values.
    does_not_grow("#/budget/p%2Fk", 5).await;
}

/// Goal: nor does that of all budgets.
#[tokio::test]
async fn the_first_page_does_not_grow() {
    // Its charts remember 60 values.
    does_not_grow("#/", 1).await;
}

/// The charts of the page are full after this many stretches, and one.
async fn does_not_grow(place: &str, full: usize) {
    let updates = env::var("PERMITD_CONSOLE_UPDATES")
        .map_or(STRETCH * 7, |text| text.parse().expect("a number of updates"));
    let hurried = env::var("PERMITD_CONSOLE_PACE").is_err();
    let server = Permitd::start("").await;
    let limits =
        || vec![in_flight(SLOTS), Limit { tenants: "each".to_owned(), ..rate("tokens", TOKENS, DAY) }];
    for number in 0..150 {
        server.set(&format!("k{number:03}"), limits()).await;
    }
    server.set("k", limits()).await;
    for _ in 0..CHANGES / 2 {
        work(&server).await;
    }
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, place).await;
    browser.sees("document.querySelectorAll('tbody tr').length > 0").await;
    let mut sizes = Vec::new();
    for stretch in 0..updates.div_ceil(STRETCH).max(full + 2) {
        let update = updated(hurried);
        for _ in 0..STRETCH {
            tokio::join!(work(&server), browser.run(&update));
        }
        // What was under way is over, and shown to be.
        browser.run(&updated(true)).await;
        browser.run(&updated(true)).await;
        let size = Size::of(&browser, &server).await;
        println!("{place} after {} updates: {size:?}", (stretch + 1) * STRETCH);
        sizes.push(size);
    }
    let (before, after) = (sizes[full], *sizes.last().expect("at least two"));
    for (what, before, after, slack) in [
        ("nodes", before.nodes, after.nodes, SLACK_NODES),
        ("listeners", before.listeners, after.listeners, SLACK_NODES),
        ("KiB of heap", before.heap_kib, after.heap_kib, SLACK_KIB),
        (
            "KiB of the server",
            before.server_kib.unwrap_or(0),
            after.server_kib.unwrap_or(0),
            SERVER_SLACK_KIB,
        ),
    ] {
        assert!(after <= before + slack, "{what} of {place}: {before}, then {after}");
    }
    browser.close().await;
    server.stop().await;
}

/// What a page shows more or less of: calls, requests that wait and go, refusals of all kinds, changes, a pause.
async fn work(peer: &Peer) {
    for tenant in ["web", "search", "nightly"] {
        let request = || AcquireRequest { tenant: tenant.to_owned(), ..tokens("k", 10) };
        let mut held = Vec::new();
        for _ in 0..SLOTS {
            held.push(peer.granted_now(request()).await);
        }
        let priority = Priority::Batch.into();
        let (mut waiting, _) = peer.waiting(AcquireRequest { priority, ..request() }).await;
        peer.refused_now(request()).await;
        peer.refused_now(tokens("k", 2 * TOKENS)).await;
        for permit in &held {
            peer.settle(permit).await;
        }
        let permit = waiting.permit().await;
        peer.report(report(&permit.permit_id, Outcome::TooLarge)).await;
        let other = peer.granted(tokens("k007", 1)).await;
        peer.settle(&other).await;
    }
    peer.pause("k").await;
    peer.resume("k").await;
}

/// Until the page's next update is painted; it is asked for at once, or when the page does by itself.
fn updated(hurried: bool) -> String {
    format!(
        "const {{ refresh }} = await import('/console/main.js');
         const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
         const told = window.fetch;
         await new Promise((resolve) => {{
           window.fetch = async (path, ...request) => {{
             const answer = await told(path, ...request);
             if (!/api.(overview|budget)/.test(path)) return answer;
             const json = await answer.json();
             answer.json = async () => json;
             frame().then(frame).then(resolve);
             return answer;
           }};
           if ({hurried}) refresh();
         }});
         window.fetch = told;"
    )
}
