//! Ways through the console: to a page and back, by links, by keys, by addresses that somebody sent, and to what is not there.

use permitd_budget::LINES_MAX;
use permitd_proto::v1::AcquireRequest;
use permitd_tests::{Server, ask, budget, in_flight};

use crate::browser::{Browser, Scheme};

const ENTER: &str = "\u{e007}";

/// Goal: whoever looks at one of the budgets that they found comes back to what they found, and can send it to somebody else.
#[tokio::test]
async fn what_was_found_is_found_again() {
    let server = Server::start().await;
    for number in 0..12 {
        server.set(&format!("k{number:02}"), vec![in_flight(5)]).await;
    }
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    browser.reads("12 budgets").await;
    browser.write("input[type=search]", "p/k0").await;
    browser.press("Budget").await;
    browser.reads("10 budgets match").await;
    browser.press("Budget").await;
    browser.sees("document.querySelector('tbody th').innerText === 'p/k09'").await;
    let found = browser.value("location.hash").await;

    browser.press("p/k09").await;
    browser.sees("document.querySelector('h1').innerText === 'p/k09'").await;
    browser.value("history.back()").await;
    browser.sees("document.querySelector('input[type=search]')?.value === 'p/k0'").await;
    browser.reads("10 budgets match").await;
    browser.sees("document.querySelector('tbody th').innerText === 'p/k09'").await;

    browser.press("Budgets").await;
    browser.reads("12 budgets ·").await;
    browser.sees("document.querySelector('input[type=search]').value === ''").await;
    let other = Browser::start(Scheme::Light).await;
    other.open(server.http, found.as_str().expect("text")).await;
    other.reads("10 budgets match").await;
    other.sees("document.querySelector('tbody th').innerText === 'p/k09'").await;
    other.open(server.http, "#/?order=luck&after=-1&reversed=maybe&nothing=1").await;
    other.reads("12 budgets ·").await;
    other.close().await;
    browser.close().await;
    server.stop().await;
}

/// Goal: whoever follows a link by keys is at the beginning of the page that it leads to, and is told which it is.
#[tokio::test]
async fn keys_lead_to_the_beginning_of_a_page() {
    let server = Server::with(vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "").await;
    browser.reads("p/k").await;
    let focus = |heading: &str| {
        format!("document.activeElement.matches('h1') && document.activeElement.innerText === '{heading}'")
    };
    browser.tab_to("it.innerText === 'p/k'").await;
    browser.types(ENTER).await;
    browser.sees(&focus("p/k")).await;
    browser.value("document.querySelector('#to-changes').focus()").await;
    browser.types(ENTER).await;
    browser.sees(&focus("Changes")).await;
    browser.value("history.back()").await;
    browser.sees(&focus("p/k")).await;
    browser.close().await;
    server.stop().await;
}

/// Goal: who changed what leads to the budget that was changed, and says there too in whose name one looks.
#[tokio::test]
async fn changes_lead_to_their_budgets() {
    let server = Server::with(vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/changes").await;
    browser.sees("document.querySelector('#caller').innerText === 'loopback'").await;
    browser.press("p/k").await;
    browser.reads("Nobody waits").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: on a screen of a phone's width, or magnified to that, nothing but tables is wider than the screen
/// (<https://www.w3.org/TR/WCAG22/#reflow>), and a name that is cut can be read in full.
#[tokio::test]
async fn narrow_screens_will_do() {
    let server = Server::start().await;
    let name = "a-long-name-of-a-key-".repeat(9);
    server.set(&name, vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.is_narrow().await;
    let fits = "document.documentElement.scrollWidth <= 320 && innerWidth === 320";
    for place in ["".to_owned(), format!("#/budget/p%2F{name}"), "#/changes".to_owned()] {
        browser.open(server.http, &place).await;
        browser.reads("a-long-name").await;
        browser.sees(fits).await;
    }
    browser.sees(&format!("!!document.querySelector('td.name[title=\"p/{name}\"]')")).await;
    browser.press(&format!("p/{name}")).await;
    browser.press("Change limits…").await;
    browser.find("dialog li input").await;
    browser.sees(fits).await;
    browser.close().await;
    server.stop().await;
}

/// Goal: of a budget that is not there nothing is said but that, and a page whose answer is under way claims nothing.
#[tokio::test]
async fn nothing_is_claimed_of_what_is_not_known() {
    let server = Server::start().await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fnobody").await;
    browser.sees("document.querySelector('#lost').innerText.includes('p/nobody')").await;
    for claim in
        ["Nobody waits", "Nobody was refused", "There are no limits", "Nobody has asked", "refused nothing"]
    {
        browser.sees(&format!("!document.body.innerText.includes('{claim}')")).await;
    }
    server.declare(budget("nobody", vec![in_flight(1)])).await;
    browser.reads("Nobody waits").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: a queue of more lines than a page has room for does not look shorter than it is.
#[tokio::test]
async fn long_queues_are_told_in_full() {
    let server = Server::with(vec![in_flight(1)]).await;
    server.granted_now(ask("k")).await;
    let mut waiting = Vec::new();
    for number in 0..LINES_MAX + 3 {
        let request = AcquireRequest { tenant: format!("t{number:03}"), ..ask("k") };
        waiting.push(server.waiting(request).await);
    }
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.reads("and 3 requests more").await;
    browser.close().await;
    server.stop().await;
}
