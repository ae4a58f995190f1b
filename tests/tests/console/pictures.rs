//! Pictures of the console for the documentation, of a server with calls under way. They are looked at here, and written where
//! `PERMITD_PICTURES` is set; then a minute passes first, so that there is something to see.

use std::{env, fs, path::Path, time::Duration};

use permitd_proto::v1::{AcquireRequest, Budget, Outcome, PauseBudgetRequest, Priority, Scheduled, Tenant};
use permitd_server::config::Config;
use permitd_tests::{HOUR, Peer, Server, budget, in_flight, rate, report, tokens};
use tokio::{task::JoinSet, time::sleep};

use crate::browser::{Browser, Scheme};

const MINUTE: Duration = Duration::from_secs(60);
/// How long a call takes, about.
const CALL: Duration = Duration::from_millis(400);
/// One in so many calls is refused by the provider.
const REFUSED: u64 = 97;

/// Two keys of one provider and another provider, under one name.
const POOL: &str = "
[budgets.\"anthropic/prod\"]
[budgets.\"anthropic/spare\"]
limits = [\"requests=1000/1m\", \"input_tokens=450k/1m\", \"in_flight=4\"]
[budgets.\"bedrock/claude\"]
limits = [\"requests=300/1m\", \"in_flight=6\"]
[pools.\"claude/any\"]
members = [{ budget = \"anthropic/prod\", weight = 3 }, \"anthropic/spare\", { budget = \"bedrock/claude\", prefer = 2 }]
";

/// What a small team has.
async fn declare(server: &Server) {
    let limits = vec![rate("requests", 1_000, MINUTE), rate("input_tokens", 450_000, MINUTE), in_flight(4)];
    let weighed = [("web".to_owned(), Tenant { weight: 3, ..Tenant::default() })];
    let prod = Budget { provider: "anthropic".to_owned(), tenants: weighed.into(), ..budget("prod", limits) };
    server.declare(prod).await;
    server.declare(tried_out()).await;
    for (provider, key, limits) in [
        ("anthropic", "staging", vec![rate("requests", 50, MINUTE), in_flight(4)]),
        ("openai", "team", vec![rate("requests", 500, MINUTE), rate("tokens", 200_000, MINUTE)]),
        ("openai", "batch", vec![rate("requests", 3_000, MINUTE), rate("tokens", 2_000_000, MINUTE)]),
        ("gemini", "prod", vec![rate("requests", 2_000, MINUTE)]),
        ("groq", "chat", vec![rate("requests", 1_000, MINUTE), rate("tokens", 300_000, MINUTE)]),
        ("mistral", "prod", vec![rate("requests", 360, MINUTE)]),
        ("slack", "alerts", vec![rate("requests", 50, MINUTE)]),
        ("stripe", "billing", vec![rate("requests", 100, Duration::from_secs(1))]),
        ("github", "ci", vec![rate("requests", 5_000, HOUR), in_flight(80)]),
    ] {
        server.declare(Budget { provider: provider.to_owned(), ..budget(key, limits) }).await;
    }
    let reason = "key is being rotated".to_owned();
    let paused = PauseBudgetRequest { provider: "github".to_owned(), key: "ci".to_owned(), reason };
    server.admin().await.pause_budget(paused).await.expect("it is there");
}

/// Limits that are only tried out, with others at night and parts for tenants.
fn tried_out() -> Budget {
    let limits = vec![rate("requests", 40, MINUTE), rate("tokens", 60_000, MINUTE)];
    let night = |unit: &str, amount| Scheduled {
        hours: "mon-fri 22:00-06:00 Europe/Berlin".to_owned(),
        limit: Some(rate(unit, amount, MINUTE)),
    };
    let web = Tenant { weight: 3, min_percent: 30, ..Tenant::default() };
    let nightly = Tenant { max_percent: 50, ..Tenant::default() };
    Budget {
        provider: "groq".to_owned(),
        schedule: vec![night("requests", 80), night("tokens", 120_000)],
        tenants: [("web".to_owned(), web), ("nightly".to_owned(), nightly)].into(),
        shadow: true,
        ..budget("next", limits)
    }
}

/// Calls one after the other, for ever.
async fn call(peer: Peer, provider: &str, key: &str, tenant: &str, priority: Priority) {
    for number in 1.. {
        let request = AcquireRequest {
            provider: provider.to_owned(),
            tenant: tenant.to_owned(),
            model: if provider == "openai" { "gpt-5" } else { "claude-sonnet-4-5" }.to_owned(),
            priority: priority.into(),
            ..tokens(key, 1_500 + number * 700 % 2_500)
        };
        let permit = peer.granted(request).await;
        sleep(CALL).await;
        let is_refused = provider == "anthropic" && number % REFUSED == REFUSED / 4;
        let outcome = if is_refused { Outcome::RateLimited } else { Outcome::Success };
        peer.report(report(&permit.permit_id, outcome)).await;
    }
}

/// Sets callers to work, until what is returned is dropped.
fn callers(server: &Server) -> JoinSet<()> {
    use Priority::{Batch, Interactive, Standard};
    let mut callers = JoinSet::new();
    for (provider, key, tenant, priority) in [
        ("anthropic", "prod", "web", Interactive),
        ("anthropic", "prod", "web", Interactive),
        ("anthropic", "prod", "web", Interactive),
        ("anthropic", "prod", "search", Standard),
        ("anthropic", "prod", "search", Standard),
        ("anthropic", "prod", "nightly", Batch),
        ("anthropic", "prod", "nightly", Batch),
        ("openai", "team", "search", Standard),
        ("openai", "batch", "nightly", Batch),
        ("groq", "chat", "web", Interactive),
        ("groq", "next", "web", Interactive),
        ("groq", "next", "nightly", Batch),
        ("claude", "any", "web", Interactive),
        ("claude", "any", "search", Standard),
        ("claude", "any", "search", Standard),
        ("claude", "any", "nightly", Batch),
        ("claude", "any", "nightly", Batch),
        ("claude", "any", "nightly", Batch),
    ] {
        callers.spawn(call(Peer::new(server.address), provider, key, tenant, priority));
    }
    callers
}

/// Goal: the pages that the documentation shows are the ones that there are, and can be read, in light and in dark.
#[tokio::test]
async fn pictures_are_real() {
    let read = Config::read(POOL, "permitd.toml", []).expect("a sound configuration");
    let server =
        Server::start_with(|config| (config.budgets, config.pools) = (read.budgets, read.pools)).await;
    declare(&server).await;
    let callers = callers(&server);
    let (light, dark) = (Browser::start(Scheme::Light).await, Browser::start(Scheme::Dark).await);
    light.open(server.http, "").await;
    dark.open(server.http, "#/budget/anthropic%2Fprod").await;
    for (browser, is_light) in [(&light, true), (&dark, false)] {
        let ground = "getComputedStyle(document.documentElement).backgroundColor";
        browser.sees(&format!("(/\\d+/.exec({ground})[0] > 127) === {is_light}")).await;
    }
    light.reads("13 budgets").await;
    light.sees("document.querySelector('tbody tr').innerText.startsWith('anthropic/prod')").await;
    dark.reads("anthropic/prod").await;
    dark.reads("holds back").await;
    for seconds in if is_wanted() { &[20, 40, 60][..] } else { &[1] } {
        let drawn = format!("document.querySelector('.chart polygon')?.points.length > {seconds}");
        light.sees(&drawn).await;
        dark.sees(&drawn).await;
    }
    keep("console-budgets", &light).await;
    keep("console-budget", &dark).await;

    light.press("anthropic/prod").await;
    light.press("Change limits…").await;
    light.write("dialog li:nth-child(3) input", "in_flight=8").await;
    light.press("Preview").await;
    light.reads("+in_flight=8").await;
    keep("console-change", &light).await;
    light.press("Close").await;
    for browser in [&light, &dark] {
        browser.press("Budgets").await;
        browser.press("claude/any").await;
        browser.reads("passed over").await;
        keep("console-pool", browser).await;
    }
    // The last one is kept.
    for browser in [&dark, &light] {
        browser.press("Budgets").await;
        browser.press("groq/next").await;
        browser.reads("What the limits would have done").await;
        browser.reads("Limits by the hours").await;
        if is_wanted() {
            browser.sees("document.querySelector('.chart polygon')?.points.length > 25").await;
        }
        let heading =
            "[...document.querySelectorAll('h2')].find((it) => it.innerText.startsWith('What the limits'))";
        browser.value(&format!("{heading}.scrollIntoView()")).await;
        keep("console-tried", browser).await;
    }
    drop(callers);
    light.close().await;
    dark.close().await;
    server.stop().await;
}

/// Whether all text stands out from what it stands on by at least 4.5 to 1: <https://www.w3.org/TR/WCAG22/#contrast-minimum>.
async fn readable(browser: &Browser) -> bool {
    let faint = browser.run(CONTRASTS).await;
    if faint.as_array().is_none_or(|faint| !faint.is_empty()) {
        eprintln!("hard to read: {faint}");
        return false;
    }
    true
}

const CONTRASTS: &str = r#"
    const parse = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const part = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = parse(getComputedStyle(at).backgroundColor);
        if (color.length === 3 || color[3] > 0) return color;
      }
      return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
      const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      if (!own || !element.checkVisibility() || element.disabled || element.closest("noscript")) continue;
      const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < 4.5) faint.push(`${element.textContent}: ${contrast.toFixed(2)}`);
    }
    return faint;
"#;

fn is_wanted() -> bool {
    env::var_os("PERMITD_PICTURES").is_some()
}

/// Looks at a page, and writes its picture to the documentation, if that is wanted.
async fn keep(name: &str, browser: &Browser) {
    assert!(readable(browser).await, "too little contrast in {name}");
    let picture = browser.picture().await;
    assert!(picture.starts_with(b"\x89PNG"), "{name} is a picture");
    if is_wanted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        fs::write(folder.join(format!("{name}.png")), picture).expect("room for a picture");
    }
}
