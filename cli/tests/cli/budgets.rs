//! `permitd budgets`

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::Value;

use crate::support::{Server, permitd, say};

/// Goal: hours are declared as they are shown, and the preview says what is in force from now on, without gaps.
#[test]
fn limits_have_hours() {
    let server = Server::start();
    let hours = "mon-fri 22:00-06:00 Asia/Shanghai requests=120/1m";
    let set = ["budgets", "set", "p/k", "--limit", "requests=60/1m", "--schedule", hours];
    assert!(server.say(&set).well().stdout.contains(&format!("--schedule '{hours}'")));
    let shown = server.say(&["budgets", "schedule", "p/k"]).well().stdout;
    assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with("now ")), "{shown}");
    assert!(shown.contains(" 22:00 CST") && shown.ends_with(&format!("schedule  {hours}\n")), "{shown}");
    let course = server.say(&["budgets", "schedule", "p/k", "--within", "7d", "--json"]).well().json();
    assert!((10..=12).contains(&course.len()), "five nights a week: {course:#?}");
    assert!(course.windows(2).all(|pair| pair[0]["until"] == pair[1]["from"]), "{course:#?}");
    let wrong = server.say(&[
        "budgets",
        "set",
        "p/k",
        "--limit",
        "requests=60/1m",
        "--schedule",
        "22:00-23:00 Mars requests=1/1m",
    ]);
    assert!(wrong.code == 2 && wrong.stderr.contains("no time zone"), "{wrong:#?}");
    server.say(&["budgets", "set", "p/k", "--limit", "requests=60/1m"]).well();
    assert!(server.say(&["budgets", "schedule", "p/k"]).well().stderr.contains("has no schedule"));
}

/// Goal: limits are tried out by a flag, and what they would have done is shown to people and to machines.
#[test]
fn limits_are_tried_out() {
    let server = Server::start();
    let set = ["budgets", "set", "p/k", "--limit", "requests=1/1h", "--shadow", "on"];
    assert!(server.say(&set).well().stdout.contains("--limit requests=1/1h --shadow on"));
    for _ in 0..3 {
        server.say(&["acquire", "p/k", "--max-wait", "0s"]).well();
    }
    let got = server.say(&["budgets", "get", "p/k"]).well().stdout;
    assert!(got.contains("granted 1, 0 of them after a wait; refused 2 (NOT_IN_TIME 2);"), "{got}");
    let got = server.say(&["budgets", "get", "p/k", "--json"]).well().json().remove(0);
    assert_eq!((&got["declared"]["shadow"], &got["shadow"]["refused_total"]), (&true.into(), &2.into()));
    let off = server.say(&["budgets", "set", "p/k", "--limit", "requests=1/1h"]).well();
    assert!(off.stderr.contains("removed: shadow=on"), "{off:#?}");
}

/// Goal: a budget's whole life, for people.
#[test]
fn a_budgets_life() {
    let server = Server::start();
    let said = server.say(&["budgets", "list"]).well();
    assert!(said.stdout.is_empty() && said.stderr.contains("permitd budgets set"), "{said:#?}");
    let set = [
        "budgets",
        "set",
        "anthropic/prod",
        "--limit",
        "requests=60/1m",
        "--limit",
        "tokens=100k/1m,models=claude-*",
        "--limit",
        "in_flight=5",
        "--tenant",
        "web=3",
        "--tenant",
        "batch=1:50",
        "--max-waiting",
        "1000",
        "--max-wait",
        "5m",
        "--overflow",
        "reject",
        "--permit-ttl",
        "2m",
        "--reason",
        "first",
    ];
    let command = "permitd budgets set anthropic/prod --limit requests=60/1m --limit 'tokens=100000/1m,models=claude-*' \
                   --limit in_flight=5 --tenant batch=1:50 --tenant web=3 --max-waiting 1000 --max-wait 5m --overflow \
                   reject --permit-ttl 2m";
    assert!(server.say(&set).well().stdout.contains(command));
    assert!(
        server.say(&["budgets", "get", "anthropic/prod"]).well().stdout.contains(command),
        "shown as it was set"
    );

    let list = server.say(&["budgets", "list", "anthropic/*"]).well().stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 4, "{list}");
    assert!(lines[0].starts_with("BUDGET          LIMIT"), "plain when piped: {list}");
    assert!(lines[2].contains("tokens/1m model=claude-*  100,000  100,000"), "{list}");

    assert_eq!(
        server.say(&["budgets", "pause", "anthropic/prod"]).well().stdout,
        "anthropic/prod is paused\n"
    );
    assert!(server.say(&["budgets", "list"]).well().stdout.contains("paused"));
    server.say(&["budgets", "resume", "anthropic/prod"]).well();
    server.say(&["budgets", "delete", "anthropic/prod"]).well();
    let said = server.say(&["budgets", "get", "anthropic/prod"]);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("permitd budgets set anthropic/prod") && said.stderr.contains("BUDGET_UNKNOWN")
    );

    let changes = server.say(&["budgets", "changes"]).well().stdout;
    let what: Vec<&str> = changes.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(what, ["delete", "resume", "pause", "set"]);
    assert!(
        changes.lines().last().is_some_and(|set| set.contains("+requests=60/1m") && set.ends_with("first"))
    );
}

/// Goal: JSON is stable: these fields with these meanings, one value a line.
#[test]
fn json_is_stable() {
    let server = Server::start();
    let set = [
        "budgets",
        "set",
        "a/x",
        "--limit",
        "requests=60/1m,window=sliding",
        "--limit",
        "in_flight=5",
        "--json",
    ];
    let set = server.say(&set).well().json().remove(0);
    assert_eq!(set["limits"][0]["limit"], "requests=60/1m,window=sliding");
    assert_eq!(set["queue"]["overflow"], "wait");
    server.say(&["budgets", "set", "b/y", "--unlimited", "--json"]).well();
    let states = server.say(&["budgets", "list", "--json"]).well().json();
    assert_eq!(states.iter().map(|state| &state["budget"]).collect::<Vec<_>>(), ["a/x", "b/y"]);
    let fields: Vec<&str> = states[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "budget",
        "declared",
        "etag",
        "exhausted",
        "exhausted_until",
        "granted_total",
        "in_flight",
        "key",
        "limits",
        "owner",
        "paused",
        "provider",
        "rate_limited_total",
        "refused_total",
        "shadow",
        "tenants",
        "waiting",
    ];
    assert_eq!(fields, expected);
    let limit = &states[0]["limits"][0];
    for (field, value) in [
        ("unit", Value::from("requests")),
        ("amount", 60.into()),
        ("per_seconds", 60.0.into()),
        ("level", 60.into()),
        ("effective_amount", 60.into()),
        ("window", "sliding".into()),
        ("source", "admin".into()),
        ("frozen_until", Value::Null),
    ] {
        assert_eq!(limit[field], value, "{field}");
    }
    assert_eq!(server.say(&["budgets", "pause", "a/x", "--json"]).well().json()[0]["done"], "paused");
    let change = server.say(&["budgets", "changes", "a/x", "--last", "1", "--json"]).well().json().remove(0);
    assert_eq!(
        (&change["what"], &change["who"], &change["budget"]),
        (&"pause".into(), &"loopback".into(), &"a/x".into())
    );

    let failure = server.say(&["budgets", "get", "no/where", "--json"]);
    let error: Value = serde_json::from_str(&failure.stderr).expect("JSON on stderr");
    assert_eq!(error["error"]["reason"], "BUDGET_UNKNOWN");
}

/// Goal: nobody loses a limit without being told, neither for real nor in a dry run; what only changes is not lost.
#[test]
fn set_tells_what_it_removes() {
    let server = Server::start();
    let set = |more: &[&str]| {
        server.say(&[&["budgets", "set", "a/x", "--limit", "requests=60/1m"], more].concat()).well()
    };
    let both = ["--limit", "input_tokens=450k/1m", "--limit", "in_flight=50", "--tenant", "web=3"];
    assert!(!set(&both).stderr.contains("removed"), "there was nothing before");
    let told =
        "removed: input_tokens=450000/1m, in_flight=50, tenant=web=3; set replaces the whole declaration\n";
    let dry = set(&["--dry-run"]);
    assert!(dry.stderr.ends_with(&format!("would be {told}")), "{dry:#?}");
    assert!(!set(&[&both[..], &["--permit-ttl", "1m"]].concat()).stderr.contains("removed"));
    let json = set(&["--dry-run", "--json"]).json().remove(0);
    assert_eq!(json["removed"][3], "permit-ttl=1m", "{json:#}");
    set(&both);
    let real = server.say(&["budgets", "set", "a/x", "--limit", "requests=90/1m"]).well();
    assert!(real.stderr.ends_with(&format!("a/x is set\n{told}")), "{real:#?}");
}

/// Goal: a change that rests on an old look is refused, and a dry run changes nothing.
#[test]
fn etags_and_dry_runs() {
    let server = Server::start();
    let set = |more: &[&str]| {
        server.say(&[&["budgets", "set", "a/x", "--limit", "requests=60/1m", "--json"], more].concat())
    };
    assert_eq!(set(&["--dry-run"]).well().json()[0]["etag"], "");
    assert_eq!(server.say(&["budgets", "get", "a/x"]).code, 1);
    let first = set(&[]).well().json()[0]["etag"].as_str().expect("text").to_owned();
    set(&["--etag", &first]).well();
    let stale = set(&["--etag", &first]);
    assert_eq!(stale.code, 1);
    assert!(stale.stderr.contains("ETAG_MISMATCH"), "{stale:#?}");
    let stale = server.say(&["budgets", "delete", "a/x", "--etag", &first]);
    assert!(stale.stderr.contains("ETAG_MISMATCH"), "{stale:#?}");
}

/// Goal: a quota that is used up can be seen wherever budgets are looked at, metrics included, until the budget is resumed.
#[test]
fn an_exhausted_quota_is_seen() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=10/1d"]).well();
    let id = server.say(&["acquire", "a/x"]).well().stdout.trim().to_owned();
    let listed = || server.say(&["budgets", "list"]).well().stdout;
    let metric = |value: u8| format!("permitd_quota_exhausted{{provider=\"a\",key=\"x\"}} {value}\n");
    assert!(!listed().contains("exhausted") && server.get("/metrics").contains(&metric(0)));
    server.say(&["report", &id, "--outcome", "quota-exhausted", "--retry-after", "1h"]).well();
    assert!(listed().contains("  exhausted until "), "{}", listed());
    let state = server.state("a/x");
    assert!(state["exhausted"] == true && state["exhausted_until"].is_string(), "{state:#}");
    assert!(server.get("/metrics").contains(&metric(1)));
    server.say(&["budgets", "resume", "a/x"]).well();
    assert!(!listed().contains("exhausted") && server.get("/metrics").contains(&metric(0)));
}

/// Goal: what makes no sense is told with its field.
#[test]
fn wrong_budgets_are_explained() {
    let server = Server::start();
    for (limit, hint) in [
        ("requests=60", "budget.limits[0].per"),
        ("requests=0/1m", "budget.limits[0].amount"),
        ("in_flight=5/1m", "in_flight is a number at once"),
        ("requests=1/2000d", "366 days"),
    ] {
        let said = server.say(&["budgets", "set", "a/x", "--limit", limit]);
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.stderr.contains(hint), "{limit}: {said:#?}");
    }
    let twice = server.say(&["budgets", "set", "a/x", "--unlimited", "--tenant", "a=1", "--tenant", "a=2"]);
    assert_eq!(twice.code, 2, "{twice:#?}");
}

/// Goal: without a server it says what to do.
#[test]
fn no_server() {
    let said = say(&mut permitd(&["budgets", "list", "--server", "http://127.0.0.1:1"]));
    assert_eq!(said.code, 69, "{said:#?}");
    assert!(said.stderr.contains("permitd serve") && said.stderr.contains("refused"), "{said:#?}");
}

/// Goal: a watch tells what there is, what changes, and what goes.
#[test]
fn watches() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=1/1d"]).well();
    let watch = ["budgets", "watch", "a/*", "--interval", "100ms", "--json"];
    let mut watch = server.command(&watch).stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("not the end").expect("text");
        serde_json::from_str(&line).expect("a JSON value a line")
    };
    assert_eq!(next()["budget"], "a/x");
    server.say(&["budgets", "set", "b/other", "--unlimited"]).well();
    server.say(&["budgets", "set", "a/y", "--unlimited"]).well();
    assert_eq!(next()["budget"], "a/y");
    server.say(&["budgets", "delete", "a/x"]).well();
    let gone = next();
    assert_eq!((&gone["budget"], &gone["etag"]), (&"a/x".into(), &"".into()));
    watch.kill().expect("a child of ours");
    watch.wait().expect("a child of ours");
}
