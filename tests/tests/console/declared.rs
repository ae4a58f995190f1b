//! What is declared besides limits, and what comes of it: limits by the hours, parts of tenants, shadow mode. Seen as the command line tells it.

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, Budget, Queue, Scheduled, Tenant};
use permitd_tests::{DAY, Server, ask, budget, in_flight, rate, span};

use crate::browser::{Browser, Scheme};

/// An entry of a schedule.
fn at_hours(hours: &str, amount: u64) -> Scheduled {
    Scheduled { hours: hours.to_owned(), limit: Some(rate("requests", amount, DAY)) }
}

/// Goal: limits by the hours are told with what is in force, until when, and what follows, by the clocks of their place; a limit says that
/// the hours made it what it is; what somebody declares instead is seen without asking for it.
#[tokio::test]
async fn hours_are_told() {
    let server = Server::start().await;
    server.set("k", vec![rate("requests", 100, DAY)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.reads("requests/1d").await;
    let hours = "document.querySelector('[aria-labelledby]:has(table.hours)')";
    browser.sees(&format!("{hours}.checkVisibility() === false")).await;

    // At all hours, so that the test is the same at all hours.
    let schedule = vec![at_hours("00:00-24:00 Asia/Tokyo", 50)];
    server.declare(Budget { schedule, ..budget("k", vec![rate("requests", 100, DAY)]) }).await;
    browser.reads("Limits by the hours").await;
    browser.reads("00:00-24:00 Asia/Tokyo requests=50/1d").await;
    browser.reads("by the hours; otherwise 100").await;
    browser.sees(&format!("{hours}.querySelector('tbody th').innerText === 'now'")).await;
    browser.sees(&format!("{hours}.querySelector('tbody tr').innerText.includes('requests=50/1d')")).await;

    let schedule = vec![at_hours("00:00-12:00 UTC", 60), at_hours("12:00-24:00 UTC", 70)];
    server.declare(Budget { schedule, ..budget("k", vec![rate("requests", 100, DAY)]) }).await;
    let rows = format!("[...{hours}.querySelectorAll('tbody tr')].map((row) => row.innerText)");
    browser.sees(&format!("{rows}.length === 12")).await;
    browser
        .sees(&format!("{rows}.every((row) => /requests=(60|70)\\/1d/.test(row) && /:00 UTC/.test(row))"))
        .await;
    browser.sees(&format!("/^\\w{{3}} \\d{{4}}-\\d\\d-\\d\\d (00|12):00 UTC/.test({rows}[1])")).await;

    server.set("k", vec![rate("requests", 100, DAY)]).await;
    browser.sees(&format!("{hours}.checkVisibility() === false")).await;
    browser.sees("!document.body.innerText.includes('by the hours')").await;
    browser.close().await;
    server.stop().await;
}

/// Goal: what each tenant is guaranteed and may have at most is told, of those too who have asked for nothing yet, and whatever else is
/// declared, as the command that declares it.
#[tokio::test]
async fn parts_of_tenants_are_told() {
    let server = Server::start().await;
    let tenants = [
        ("nightly", Tenant { max_percent: 40, max_waiting: 5_000, ..Tenant::default() }),
        ("web", Tenant { weight: 3, min_percent: 20, ..Tenant::default() }),
    ];
    let tenants = tenants.map(|(name, tenant)| (name.to_owned(), tenant)).into();
    let queue = Some(Queue { max_wait: span(Duration::from_secs(30)), ..Queue::default() });
    server.declare(Budget { tenants, queue, ..budget("k", vec![rate("requests", 1_000, DAY)]) }).await;
    server.granted_now(AcquireRequest { tenant: "search".to_owned(), ..ask("k") }).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    for row in ["search 1 0 1 1", "nightly 1 40 % 5,000 0 0 0", "web 3 20 % 0 0 0"] {
        let rows = "[...document.querySelectorAll('tr')].map((it) => it.innerText.split(/\\s*\\t\\s*/).filter(Boolean).join(' '))";
        browser.sees(&format!("{rows}.includes('{row}')")).await;
    }
    browser.reads("At least: what is guaranteed").await;
    browser.reads("requests/1d tenant=nightly").await;
    browser
        .reads("permitd budgets set p/k --limit requests=1000/1d --tenant nightly=1:5000:40% --tenant web=3:20%+ --max-wait 30s")
        .await;
    browser.close().await;
    server.stop().await;
}

/// Goal: of a budget that only tries its limits out, what they would have done is told in figures, and who would wait; all at once when
/// the mode is turned on, and no more when it ends.
#[tokio::test]
async fn shadow_mode_is_told() {
    let server = Server::with(vec![in_flight(1)]).await;
    let browser = Browser::start(Scheme::Light).await;
    browser.open(server.http, "#/budget/p%2Fk").await;
    browser.reads("Nothing holds it back").await;
    browser.sees("!document.body.innerText.includes('What the limits would have done')").await;

    server.declare(Budget { shadow: true, ..budget("k", vec![in_flight(1)]) }).await;
    for _ in 0..3 {
        server.granted(AcquireRequest { tenant: "web".to_owned(), ..ask("k") }).await;
    }
    server.granted_now(ask("k")).await;
    browser.reads("shadow: grants everything").await;
    browser.reads("What the limits would have done").await;
    let counts =
        "[...document.querySelectorAll('dl.counts div')].map((it) => it.innerText.replace(/\\s+/g, ' '))";
    for count in ["Would wait now 2", "Granted 1", "Refused 1", "Longest wait none"] {
        browser.sees(&format!("{counts}.includes('{count}')")).await;
    }
    browser.reads("Refused for NOT_IN_TIME 1").await;
    browser.reads("Who would wait").await;
    browser.reads("web: 2 requests would wait").await;

    browser.press("Budgets").await;
    browser.sees("document.querySelector('td.state')?.innerText === 'shadow'").await;
    browser.press("p/k").await;
    browser.press("Pause…").await;
    browser.press("Pause").await;
    browser.sees("document.querySelector('h1 + .badge').innerText === 'paused, shadow'").await;

    server.set("k", vec![in_flight(1)]).await;
    browser.sees("!document.body.innerText.includes('What the limits would have done')").await;
    browser.sees("!document.body.innerText.includes('Who would wait')").await;
    browser.close().await;
    server.stop().await;
}
