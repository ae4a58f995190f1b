//! What is seen: all budgets and one of them, live, and whatever they are called.

use permitd_proto::v1::{AcquireRequest, Limit};
use permitd_tests::{DAY, Server, ask, budget, in_flight, rate};

use crate::browser::{Browser, Scheme};

/// A name that would take a page over which made markup of it.
const MARKUP: &str = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>";

/// Goal: budgets are there, those first that are waited for; what happens is seen without asking for it.
#[tokio::test]
async fn budgets_are_live() {
    let server = Server::start().await;
    server.set("idle", vec![in_flight(5)]).await;
    server.set("busy", vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    browser.reads("2 budgets · 0 waiting · 0 in flight").await;

    let held = server.granted_now(ask("busy")).await;
    let (mut waiting, _) = server.waiting(ask("busy")).await;
    browser.reads("2 budgets · 1 waiting · 1 in flight").await;
    browser.sees("document.querySelector('tbody tr').innerText.startsWith('p/busy')").await;
    browser.sees("document.querySelector('tbody tr').innerText.includes('100 %')").await;
    server.settle(&held).await;
    waiting.permit().await;
    browser.reads("2 budgets · 0 waiting · 1 in flight").await;

    browser.press("p/busy").await;
    browser.sees("document.querySelector('h1').innerText === 'p/busy'").await;
    browser.reads("Nobody waits.").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: one of many is found by a part of its name and by its place in an order, and many come a page at a time.
#[tokio::test]
async fn one_of_many_is_found() {
    let server = Server::start().await;
    for number in 0..150 {
        server.set(&format!("k{number:03}"), vec![in_flight(5)]).await;
    }
    server.granted_now(ask("k149")).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    browser.reads("1 to 100 of 150").await;
    browser.sees("document.querySelector('tbody th').innerText === 'p/k149'").await;
    browser.press("Next").await;
    browser.reads("101 to 150 of 150").await;
    browser.press("Budget").await;
    browser.sees("document.querySelector('tbody th').innerText === 'p/k000'").await;
    browser.press("Budget").await;
    browser.sees("document.querySelector('th[aria-sort=descending]')?.innerText === 'Budget'").await;
    browser.sees("document.querySelector('tbody th').innerText === 'p/k149'").await;
    browser.write("input[type=search]", "k07").await;
    browser.reads("10 budgets match").await;
    browser.sees("document.querySelectorAll('tbody tr').length === 10").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: names are text, wherever they stand: of budgets, tenants, models, limits, and in what was said.
#[tokio::test]
async fn names_are_never_markup() {
    let server = Server::start().await;
    let limits = vec![Limit { models: "<b>*".to_owned(), ..rate("requests", 1, DAY) }];
    server.declare(budget(MARKUP, limits)).await;
    let hostile =
        || AcquireRequest { tenant: MARKUP.to_owned(), model: "<b>model</b>".to_owned(), ..ask(MARKUP) };
    server.granted_now(hostile()).await;
    let (_waiting, _) = server.waiting(hostile()).await;
    server.refused_now(hostile()).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    let none = "document.querySelectorAll('img, b, body script').length === 0";
    browser.reads(MARKUP).await;
    browser.sees(none).await;

    browser.press(&format!("p/{MARKUP}")).await;
    browser.sees("document.querySelector('h1')?.innerText.includes('<b>bold</b>')").await;
    browser.reads("<b>model</b>").await;
    browser.press("Pause…").await;
    browser.reads("Nothing is granted then").await;
    browser.sees(none).await;
    browser.press("Leave it as it is").await;
    browser.press("Changes").await;
    browser.sees("document.querySelector('h1').innerText === 'Changes'").await;
    browser.reads(MARKUP).await;
    browser.sees(none).await;
    browser.sees("document.title === 'Changes · permitd'").await;
    browser.close().await;
    server.stop().await;
}
