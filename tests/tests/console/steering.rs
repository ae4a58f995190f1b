//! What is done: limits changed, conflicts told, budgets paused and resumed, by pointer or by keys alone, and by whoever may.

use permitd_server::{
    auth::{Role, TokenHash},
    config::IdentityConfig,
};
use permitd_tests::{Server, ask, in_flight};

use crate::browser::{Browser, Scheme};

const FIRST_LIMIT: &str = "dialog li input";

/// Goal: a limit is raised after a preview, and whoever waited is let go at once.
#[tokio::test]
async fn a_raised_limit_releases_those_who_wait() {
    let server = Server::with(vec![in_flight(1)]).await;
    server.granted_now(ask("k")).await;
    let (mut waiting, _) = server.waiting(ask("k")).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.press("Change limits…").await;

    browser.write(FIRST_LIMIT, "in_flight=lots").await;
    browser.press("Preview").await;
    browser.reads("limits[0]: amount: \"lots\" is not a whole number").await;
    browser.write(FIRST_LIMIT, "in_flight=2").await;
    browser.write("dialog .field input", "more room").await;
    browser.press("Preview").await;
    browser.reads("the 1 request waiting").await;
    browser.reads("+in_flight=2").await;
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 1, "a preview changes nothing");
    browser.press("Put in force").await;
    browser.reads("p/k is changed").await;

    waiting.permit().await;
    browser.reads("more room").await;
    browser.sees("!document.querySelector('dialog')").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: what somebody else declared meanwhile is not lost, and neither is what was written here.
#[tokio::test]
async fn a_conflict_loses_nothing() {
    let server = Server::with(vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.press("Change limits…").await;
    browser.write(FIRST_LIMIT, "in_flight=5").await;
    browser.press("Preview").await;
    browser.reads("+in_flight=5").await;

    server.set("k", vec![in_flight(7)]).await;
    browser.press("Put in force").await;
    browser.reads("Somebody else has changed this budget").await;
    browser.reads("-in_flight=7").await;
    browser.sees(&format!("document.querySelector('{FIRST_LIMIT}').value === 'in_flight=5'")).await;
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 7, "theirs stands");
    browser.press("Put in force").await;
    browser.reads("p/k is changed").await;
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 5);
    browser.close().await;
    server.stop().await;
}

/// Goal: everything can be done by keys, and the focus is never lost.
#[tokio::test]
async fn keys_do_everything() {
    let server = Server::with(vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    browser.reads("p/k").await;
    browser.tab_to("it.innerText === 'Skip to the content'").await;
    browser.tab_to("it.innerText === 'p/k'").await;
    browser.types("\u{e007}").await;
    browser.sees("document.querySelector('h1').innerText === 'p/k'").await;
    browser.tab_to("it.innerText === 'Pause…'").await;
    browser.types("\u{e007}").await;
    browser.sees("document.activeElement.closest('dialog') !== null").await;
    browser.types("a new key\u{e007}").await;
    browser.reads("p/k is paused").await;
    assert!(server.state("k").await.paused);
    browser.sees("document.activeElement.innerText === 'Resume…'").await;
    browser.types("\u{e007}").await;
    browser.reads("Resume p/k?").await;
    browser.types("\u{e00c}").await;
    browser.sees("!document.querySelector('dialog')").await;
    assert!(server.state("k").await.paused, "Escape leaves it as it is");
    browser.close().await;
    server.stop().await;
}

/// Goal: whoever has to prove who they are is asked for a token, is shown what it lets them see, and no more than they may do.
#[tokio::test]
async fn a_token_shows_what_it_may() {
    let server = Server::start_with(|config| {
        for (name, roles) in [("watcher", vec![Role::Observe]), ("keeper", vec![Role::Admin])] {
            let identity = IdentityConfig {
                tokens: vec![TokenHash::of(&format!("{name}'s token"))],
                roles: roles.into_iter().collect(),
                ..IdentityConfig::default()
            };
            config.auth.identities.insert(name.to_owned(), identity);
        }
    })
    .await;
    server.with_token("keeper's token").set("k", vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.reads("this server wants to know who calls").await;
    browser.write("dialog input", "a guess").await;
    browser.press("Show it").await;
    browser.reads("these credentials are not known here").await;
    browser.write("dialog[open] input", "watcher's token").await;
    browser.press("Show it").await;
    browser.sees("document.querySelector('#caller').innerText === 'watcher'").await;
    browser.sees("!document.querySelector('.actions').checkVisibility()").await;

    browser.press("Forget token").await;
    browser.write("dialog[open] input", "keeper's token").await;
    browser.press("Show it").await;
    browser.sees("document.querySelector('#caller').innerText === 'keeper'").await;
    browser.press("Change limits…").await;
    let kept = "localStorage.length === 0 && document.cookie === '' && !location.href.includes('token')";
    browser.sees(kept).await;
    browser.close().await;
    server.stop().await;
}
