//! A server that goes away: what was seen and written stays, and everything is live again when one answers.

use permitd_tests::{Server, in_flight, steady_port};

use crate::browser::{Browser, Scheme};

async fn server_at(port: u16) -> Server {
    let server = Server::start_with(|config| config.server.http = Some(([127, 0, 0, 1], port).into())).await;
    server.set("k", vec![in_flight(1)]).await;
    server
}

/// Goal: a lost connection is told, loses nothing, and is over by itself.
#[tokio::test]
async fn a_lost_connection_loses_nothing() {
    let port = steady_port();
    let server = server_at(port).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.press("Change limits…").await;
    browser.write("dialog li input", "in_flight=9").await;
    server.stop().await;
    browser.sees("document.querySelector('#live').innerText === 'not connected'").await;
    browser.sees("document.querySelector('#lost[role=alert]').innerText.includes('this is as of')").await;
    browser.press("Preview").await;
    browser.reads("What you wrote is kept").await;
    browser.sees("document.querySelector('h1').innerText === 'p/k'").await;

    let server = server_at(port).await;
    browser.sees("document.querySelector('#live').innerText === 'live'").await;
    browser.sees("!document.querySelector('#lost').checkVisibility()").await;
    browser.sees("document.querySelector('dialog li input').value === 'in_flight=9'").await;
    browser.press("Preview").await;
    browser.reads("+in_flight=9").await;
    browser.press("Put in force").await;
    browser.reads("p/k is changed").await;
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 9);
    browser.close().await;
    server.stop().await;
}
