//! How soon the console is there: measured and printed, not judged. `make bench` runs it, of a server that is built with optimisation.

use permitd_tests::{Permitd, tokens};
use serde_json::{Value, json};

use crate::browser::{Browser, Scheme};

const BUDGETS: usize = 1_000;
/// How often the page is opened.
const LOADS: usize = 21;

/// Goal: with 1,000 budgets, how long after somebody goes to the console something is painted, and how long until that is the budgets.
#[tokio::test]
#[ignore = "measures: make bench runs it"]
async fn first_paint() {
    let limits = "[\"requests=1000/1m\", \"tokens=200k/1m\", \"in_flight=20\"]";
    let declared = (0..BUDGETS).map(|number| format!("[budgets.\"p/k{number:03}\"]\nlimits = {limits}\n"));
    let server = Permitd::start(&declared.collect::<String>()).await;
    for number in 0..BUDGETS / 10 {
        server.granted(tokens(&format!("k{:03}", number * 7), 1_000)).await;
    }
    let browser = Browser::start(Scheme::Light).await;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": NOTES_ROWS })).await;
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        browser.leave().await;
        browser.open(server.http, "").await;
        browser.sees("window.rowsPainted > 0").await;
        loads.push(browser.run(TIMES).await);
    }
    println!("{BUDGETS} budgets, {LOADS} loads                 median     least      most     first");
    for (name, of) in [
        ("first contentful paint, ms", "first"),
        ("the budgets are painted, ms", "budgets"),
        ("the server's answer took, ms", "answer"),
        ("bytes received", "bytes"),
        ("bytes of the budgets", "rows"),
    ] {
        let figures: Vec<f64> = loads.iter().map(|load| figure(load, of)).collect();
        let mut sorted = figures.clone();
        sorted.sort_by(f64::total_cmp);
        let (least, median, most) = (sorted[0], sorted[LOADS / 2], sorted[LOADS - 1]);
        println!("{name:<30} {median:>10.0} {least:>9.0} {most:>9.0} {:>9.0}", figures[0]);
    }
    browser.close().await;
    server.stop().await;
}

fn figure(load: &Value, of: &str) -> f64 {
    load[of].as_f64().unwrap_or_else(|| panic!("no {of} in {load}"))
}

/// Notes when the frame with the first row is on its way to the screen: what comes after that frame is the next task.
const NOTES_ROWS: &str = "
    new MutationObserver((_, observer) => {
      if (!document.querySelector('tbody tr')) return;
      observer.disconnect();
      requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => { window.rowsPainted = performance.now(); };
        port2.postMessage(null);
      });
    }).observe(document, { childList: true, subtree: true });
";

const TIMES: &str = "
    const first = performance.getEntriesByName('first-contentful-paint')[0].startTime;
    const resources = performance.getEntriesByType('resource');
    const told = resources.find(({ name }) => name.includes('/api/overview'));
    const page = performance.getEntriesByType('navigation')[0];
    const bytes = [page, ...resources].reduce((sum, { transferSize }) => sum + transferSize, 0);
    const answer = told.responseEnd - told.requestStart;
    return { first, budgets: window.rowsPainted, answer, bytes, rows: told.transferSize };
";
