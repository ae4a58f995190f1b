//! Pictures of the console for the documentation. They are looked at here, and written where `PERMITD_PICTURES` is set.

use std::{env, fs, path::Path, time::Duration};

use permitd_proto::v1::{AcquireRequest, Budget, Outcome, Priority, ReportRequest, Tenant};
use permitd_tests::{Call, HOUR, Server, budget, in_flight, rate, tokens};

use crate::browser::{Browser, Scheme};

const MINUTE: Duration = Duration::from_secs(60);

/// What a small team has.
async fn declare(server: &Server) {
    let limits = vec![rate("requests", 60, MINUTE), rate("input_tokens", 40_000, MINUTE), in_flight(4)];
    let weighed = [("web".to_owned(), Tenant { weight: 3, ..Tenant::default() })];
    let prod = Budget { provider: "anthropic".to_owned(), tenants: weighed.into(), ..budget("prod", limits) };
    server.declare(prod).await;
    for (provider, key, limits) in [
        ("anthropic", "staging", vec![rate("requests", 50, MINUTE), in_flight(4)]),
        ("openai", "team", vec![rate("requests", 500, MINUTE), rate("tokens", 200_000, MINUTE)]),
        ("github", "ci", vec![rate("requests", 5_000, HOUR), in_flight(80)]),
    ] {
        server.declare(Budget { provider: provider.to_owned(), ..budget(key, limits) }).await;
    }
}

fn of(provider: &str, key: &str, tenant: &str, input: u64) -> AcquireRequest {
    AcquireRequest {
        provider: provider.to_owned(),
        tenant: tenant.to_owned(),
        model: "claude-sonnet-4-5".to_owned(),
        ..tokens(key, input)
    }
}

/// Calls under way, requests that wait, one that was refused, and one that the provider refused.
async fn use_them(server: &Server) -> Vec<Call> {
    for tenant in ["web", "web", "nightly", "search"] {
        server.granted_now(of("anthropic", "prod", tenant, 4_000)).await;
    }
    for _ in 0..30 {
        server.granted_now(of("openai", "team", "search", 2_500)).await;
    }
    let refused = server.granted_now(of("anthropic", "staging", "web", 500)).await;
    let report = ReportRequest {
        permit_id: refused.permit_id,
        outcome: Outcome::RateLimited.into(),
        ..ReportRequest::default()
    };
    server.report(report).await;
    server.refused_now(of("anthropic", "prod", "search", 4_000)).await;
    let mut waiting = Vec::new();
    for tenant in ["web", "web", "web", "nightly", "nightly"] {
        let request = of("anthropic", "prod", tenant, 2_000);
        let priority = if tenant == "nightly" { Priority::Batch } else { Priority::Interactive };
        waiting.push(server.waiting(AcquireRequest { priority: priority.into(), ..request }).await.0);
    }
    waiting
}

/// Goal: the pages that the documentation shows are the ones that there are, in light and in dark.
#[tokio::test]
async fn pictures_are_real() {
    let server = Server::start().await;
    declare(&server).await;
    let _waiting = use_them(&server).await;
    for (scheme, light) in [(Scheme::Light, true), (Scheme::Dark, false)] {
        let browser = Browser::start(scheme).await;
        browser.open(server.http, "").await;
        browser.reads("4 budgets · 5 waiting").await;
        browser.sees("document.querySelector('tbody tr').innerText.startsWith('anthropic/prod')").await;
        let ground = "getComputedStyle(document.documentElement).backgroundColor";
        let is_light = format!("/\\d+/.exec({ground})[0] > 127");
        assert_eq!(browser.value(&is_light).await, light, "{scheme:?}");
        assert!(readable(&browser).await, "too little contrast in {scheme:?}");
        if light {
            keep("console-budgets", &browser.picture().await);
        }
        browser.press("anthropic/prod").await;
        browser.reads("in_flight holds back 5 requests").await;
        assert!(readable(&browser).await, "too little contrast in {scheme:?}");
        if !light {
            keep("console-budget", &browser.picture().await);
        }
        browser.press("Change limits…").await;
        browser.write("dialog li:nth-child(3) input", "in_flight=8").await;
        browser.press("Preview").await;
        browser.reads("+in_flight=8").await;
        assert!(readable(&browser).await, "too little contrast in {scheme:?}");
        if light {
            keep("console-change", &browser.picture().await);
        }
        browser.close().await;
    }
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

/// Writes a picture to the documentation, if that is wanted.
fn keep(name: &str, picture: &[u8]) {
    assert!(picture.starts_with(b"\x89PNG"), "{name} is a picture");
    if env::var_os("PERMITD_PICTURES").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        fs::create_dir_all(&folder).expect("room for a folder");
        fs::write(folder.join(format!("{name}.png")), picture).expect("room for a picture");
    }
}
