//! What docs/operations.md shows of a terminal, made by the commands themselves, but for figures that time changes. `PERMITD_BLESS=1` puts
//! what they say today in its place.

use std::{fmt::Write as _, fs, path::PathBuf, sync::Mutex};

use serde_json::json;

use crate::{
    support::{Server, permitd, say},
    top::{ENTER, Waiting, pooled, top},
};

/// Who has the page in hand.
static PAGE: Mutex<()> = Mutex::new(());

/// Goal: budgets, a budget, and pools on a terminal are as the page shows them, and so are the sentences on the budget.
#[test]
fn budgets_and_pools() {
    let (server, _waiting) = busy_server();
    let mut screen = top(&server, &[]);
    let list = screen.wait_for("3 budgets, 3 waiting, 34 in flight, 0 granted/s");
    screen.press(ENTER);
    let budget =
        screen.wait_until("everything", |screen| screen.contains("WHO WAITS") && screen.contains("hold"));
    let (with_pools, _held) = pooled();
    let mut screen = top(&with_pools, &[]);
    screen.wait_for("3 budgets");
    screen.press("\t");
    let pools = screen.wait_for("1 pool with 3 members");
    let shown = [picture(&list, &server), picture(&budget, &server), picture(&pools, &with_pools)];
    for (at, shown) in [3, 5, 7].into_iter().zip(&shown) {
        hold("On a terminal", at, "text", shown, steady);
    }
    let told = server.say(&["explain", "anthropic/prod"]).well().stdout;
    let told = format!("$ permitd explain anthropic/prod\n{}", told.trim_end());
    hold("Watching and steering", 5, "console", &told, steady);
}

/// A server with somebody waiting, who ends with it.
fn busy_server() -> (Server, Vec<Waiting>) {
    let server = Server::start();
    let limits = |limits: [&'static str; 3]| limits.map(|limit| ["--limit", limit]).concat();
    let set = |name: &str, limits: &[&str]| server.say(&[&["budgets", "set", name], limits].concat()).well();
    set(
        "anthropic/prod",
        &[&limits(["requests=60/1h", "input_tokens=40k/1h", "in_flight=4"]), &["--tenant", "web=3"][..]]
            .concat(),
    );
    set("openai/team", &limits(["requests=500/1h", "tokens=200k/1h", "in_flight=50"]));
    set("github/ci", &limits(["requests=5000/1h", "points=900/1h", "in_flight=80"]));
    server.say(&["budgets", "pause", "github/ci"]).well();
    server.say(&["acquire", "anthropic/prod", "--tokens", "9000", "--tenant", "web", "--count", "4"]).well();
    server.say(&["acquire", "openai/team", "--tokens", "1200", "--count", "30"]).well();
    let web = ["anthropic/prod", "--tokens", "8000", "--tenant", "web", "--model", "claude-sonnet-4-5"];
    let nightly = [
        "anthropic/prod",
        "--tokens",
        "900",
        "--tenant",
        "nightly",
        "--priority",
        "batch",
        "--model",
        "claude-haiku-4-5",
    ];
    let mut waiting = Vec::new();
    for (count, arguments) in [(1, web), (2, web)]
        .into_iter()
        .map(|(count, web)| (count, web.to_vec()))
        .chain([(3, nightly.to_vec())])
    {
        waiting.push(Waiting::start(&server, &arguments));
        server.wait_for_waiting("anthropic/prod", count);
    }
    server.say(&["acquire", "anthropic/prod", "--tokens", "50000", "--tenant", "nightly"]);
    (server, waiting)
}

/// Goal: what a recorded trace would have come to with more calls at once is as the page shows it, to the digit: nothing in it is of today.
#[test]
fn what_if() {
    const SECOND: u64 = 1_000_000_000;
    let began = 1_795_000_000 * SECOND;
    let toml = "[budgets.\"anthropic/prod\"]\nlimits = [\"requests=60/1m\", \"in_flight=4\"]\n";
    let mut trace =
        format!("{}\n", json!({ "line": "declared", "at": began, "budget": "anthropic/prod", "toml": toml }));
    // A batch at once, and a service all the time.
    let batch = (0..60).map(|number| (began + SECOND + number, "nightly", "batch", 8 * SECOND));
    let service =
        (0..120).map(|number| (began + SECOND + number * 2_500_000_000 + 100, "web", "standard", 3 * SECOND));
    for (at, tenant, priority, took) in batch.chain(service) {
        let asked = json!({
            "line": "asked", "at": at, "budget": "anthropic/prod", "tenant": tenant, "model": "", "priority": priority,
            "count": 1, "estimate": {},
        });
        let called = json!({
            "line": "called", "at": at + took, "budget": "anthropic/prod", "tenant": tenant, "model": "", "priority": priority,
            "asked": at, "granted": at, "outcome": "success", "used": {},
        });
        writeln!(trace, "{asked}\n{called}").expect("text");
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-what-if", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("trace.jsonl"), trace).expect("written");
    let words = ["simulate", "--trace", "trace.jsonl", "--budget", "anthropic/prod", "--change"];
    let more = ["--limit in_flight=8", "--provider", "in_flight=8"];
    let told = say(permitd(&[&words[..], &more].concat()).current_dir(&folder)).well().stdout;
    fs::remove_dir_all(&folder).expect("it was there");
    let command = format!("$ permitd {} '{}' {}", words.join(" "), more[0], more[1..].join(" "));
    let lines = |text: &str| text.trim().lines().map(str::to_owned).collect();
    hold("Watching and steering", 7, "console", &format!("{command}\n{}", told.trim_end()), lines);
}

/// Holds a block of a section to what was shown, both read alike.
fn hold(section: &str, at: usize, kind: &str, shown: &str, read: fn(&str) -> Vec<String>) {
    let _page = PAGE.lock().expect("no panic");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = fs::read_to_string(page).expect("the page");
    let head = format!("## {section}\n");
    let (before, rest) = text.split_once(&head).expect("the section");
    let (body, after) = rest.split_once("\n## ").expect("another section");
    let mut blocks: Vec<String> = body.split("```").map(str::to_owned).collect();
    if std::env::var_os("PERMITD_BLESS").is_none() {
        assert_eq!(read(blocks[at].trim_start_matches(kind)), read(shown), "bless with PERMITD_BLESS=1");
        return;
    }
    blocks[at] = format!("{kind}\n{shown}\n");
    let blessed = format!("{before}{head}{}\n## {after}", blocks.join("```"));
    if blessed != text {
        fs::write(page, blessed).expect("the page can be written");
    }
}

/// A screen for a page: without most of its empty lines, of a server at the usual address.
fn picture(screen: &str, server: &Server) -> String {
    let mut lines: Vec<&str> = screen.lines().collect();
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    lines.join("\n").replace(server.grpc(), "127.0.0.1:7110")
}

/// What time does not change: no figures, no charts, no width of columns.
fn steady(screen: &str) -> Vec<String> {
    let kept = |c: char| if "▁▂▃▄▅▆▇█░".contains(c) { ' ' } else { c };
    let plain: String = screen.chars().map(kept).collect();
    plain
        .split_whitespace()
        .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}
