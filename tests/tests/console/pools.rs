//! Pools: beside the budgets, on a page of their own, and on the pages of their members.

use permitd_server::config::Config;
use permitd_tests::{Peer, Server, ask};

use crate::browser::{Browser, Scheme};

/// `p/any` of `p/a`, `p/b` and `p/c`, asked in this order.
const POOL: &str = "
[budgets.\"p/a\"]
limits = [\"in_flight=1\"]
[budgets.\"p/b\"]
limits = [\"in_flight=2\", \"requests=100/1d\"]
[budgets.\"p/c\"]
limits = [\"requests=50/1d\"]
[pools.\"p/any\"]
members = [\"p/a\", { budget = \"p/b\", prefer = 2, weight = 7 }, { budget = \"p/c\", prefer = 3 }]
";
/// Rows of tables that are seen, as words.
const ROWS: &str = "[...document.querySelectorAll('tbody tr')].filter((it) => it.checkVisibility())\
                    .map((it) => it.innerText.split(/\\s+/).join(' '))";

async fn start() -> Server {
    let read = Config::read(POOL, "permitd.toml", []).expect("a sound configuration");
    Server::start_with(|config| (config.budgets, config.pools) = (read.budgets, read.pools)).await
}

async fn has_row(browser: &Browser, row: &str) {
    browser.sees(&format!("{ROWS}.includes('{row}')")).await;
}

async fn granted(server: &Peer, key: &str) -> String {
    let permit = server.granted_now(ask("any")).await;
    assert_eq!(permit.key, key);
    permit.permit_id
}

/// Goal: a pool is beside the budgets, with how many of its members can grant and who is next; its page says of each member what it could
/// serve and why it is passed over; a member's page leads to it. All of it is live.
#[tokio::test]
async fn pools_are_live() {
    let server = start().await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    has_row(&browser, "p/any 3 of 3 p/a in_flight 0 % 0").await;
    let first = granted(&server, "a").await;
    has_row(&browser, "p/any 2 of 3 p/b in_flight 0 % 1").await;
    granted(&server, "b").await;

    browser.press("p/any").await;
    browser.sees("document.querySelector('h1')?.innerText === 'p/any'").await;
    browser.sees("document.querySelector('h1 + .badge').innerText === 'next: p/b'").await;
    for row in [
        "p/a passed over 1 1 in_flight 100 % 0 1 0 1 1",
        "p/b next 2 7 in_flight 50 % 1 2 0 1 1",
        "p/c can grant 3 1 requests/1d 0 % 50 50 0 0 0",
        "p/a All 1 of in_flight are in flight.",
    ] {
        has_row(&browser, row).await;
    }

    browser.press("p/a").await;
    browser.reads("In the pool p/any").await;
    browser.reads("It is a member of the pool p/any, which passes it over now.").await;
    server.report(permitd_tests::report(&first, permitd_proto::v1::Outcome::Success)).await;
    browser.reads("It is a member of the pool p/any.").await;

    browser.press("p/any").await;
    browser.sees("document.querySelector('h1 + .badge').innerText === 'next: p/a'").await;
    browser.reads("No member is.").await;
    for key in ["a", "b", "c"] {
        server.pause(key).await;
    }
    browser.sees("document.querySelector('h1 + .badge').innerText === 'nobody can grant at once'").await;
    browser.press("Budgets").await;
    has_row(&browser, "p/any 0 of 3 nobody 0 % 2").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: pools are found by their members, and nothing is said of pools where none is meant, or none is there.
#[tokio::test]
async fn pools_are_found() {
    let server = start().await;
    let browser = Browser::start(Scheme::Light).await;
    let seen =
        "[...document.querySelectorAll('h2')].some((it) => it.innerText === 'Pools' && it.checkVisibility())";
    browser.open(server.http, "#/?filter=p%2Fc").await;
    browser.reads("1 budget match").await;
    browser.sees(seen).await;
    browser.write("input[type=search]", "p/nothing").await;
    browser.reads("No budget is to be seen").await;
    browser.sees(&format!("!{seen}")).await;
    browser.open(server.http, "#/pool/p%2Fnone").await;
    browser.sees("document.querySelector('#lost').innerText.includes('there is no pool p/none')").await;
    browser.sees("!document.body.innerText.includes('No member is')").await;
    browser.close().await;
    server.stop().await;
}
