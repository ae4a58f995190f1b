//! `permitd acquire` and `permitd report`

use crate::support::Server;

/// Goal: stdout is the id and nothing else, so that a shell can take it to the report.
#[test]
fn acquire_and_report_by_hand() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=10/1d", "--limit", "tokens=10k/1d"]).well();
    let said = server.say(&["acquire", "a/x", "--tokens", "1200"]).well();
    let id = said.stdout.trim();
    assert!(!id.is_empty() && !id.contains(char::is_whitespace), "{said:#?}");
    assert!(said.stderr.contains("1200 tokens") && said.stderr.contains("permitd report"), "{said:#?}");
    assert_eq!(server.state("a/x")["in_flight"], 1);
    assert_eq!(server.state("a/x")["limits"][1]["level"], 8_800);

    let said = server.say(&["report", id, "--outcome", "success", "--tokens", "200"]).well();
    assert_eq!(said.stdout, "settled as success\n");
    let state = server.state("a/x");
    assert_eq!(
        (&state["in_flight"], &state["limits"][1]["level"]),
        (&0.into(), &9_800.into()),
        "the rest went back"
    );
    let again = server.say(&["report", id, "--outcome", "failed", "--json"]).well().json().remove(0);
    assert_eq!((&again["settled"], &again["outcome"]), (&true.into(), &"success".into()), "as the first one");

    let forged = server.say(&["report", "forged", "--outcome", "success"]);
    assert_eq!(forged.code, 1);
    assert!(forged.stdout.contains("not settled"), "{forged:#?}");
}

/// Goal: several permits, as JSON, one a line.
#[test]
fn many_at_once() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "points=100/1d"]).well();
    let permits =
        server.say(&["acquire", "a/x", "--count", "3", "--unit", "points=5", "--json"]).well().json();
    assert_eq!(permits.len(), 3);
    assert!(
        permits.iter().all(|permit| permit["charged"]["points"] == 5 && permit["key"] == "x"),
        "{permits:#?}"
    );
    let held = server.say(&["acquire", "a/x", "--hold", "0s"]).well();
    assert!(held.stderr.contains("holding for 0s"), "{held:#?}");
    assert_eq!(server.state("a/x")["in_flight"], 3, "what was held was reported");
}

/// Goal: a refusal says whether to come back, by text and by exit code.
#[test]
fn refusals() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=1/1d"]).well();
    server.say(&["acquire", "a/x"]).well();
    let later = server.say(&["acquire", "a/x", "--max-wait", "0"]);
    assert_eq!(later.code, 75, "{later:#?}");
    assert!(later.stderr.contains("requests/1d"), "{later:#?}");
    assert_eq!(later.stderr.matches("again in ").count(), 1, "the wait is told, and once: {later:#?}");
    let never = server.say(&["acquire", "a/x", "--requests", "5"]);
    assert_eq!(never.code, 1, "{never:#?}");
    assert!(never.stderr.contains("LARGER_THAN_LIMIT"), "{never:#?}");
    let json = server.say(&["acquire", "a/x", "--max-wait", "0", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&json.stderr).expect("JSON on stderr");
    assert!(error["error"]["retry_after_seconds"].as_f64().is_some_and(|wait| wait > 0.0), "{error}");
}

/// Goal: the server reads status and headers of an answer.
#[test]
fn reports_an_http_answer() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=10/1d"]).well();
    let id = server.say(&["acquire", "a/x"]).well().stdout.trim().to_owned();
    let report = ["report", &id, "--http-status", "429", "--header", "retry-after=30", "--json"];
    let answer = server.say(&report).well().json().remove(0);
    assert_eq!((&answer["outcome"], &answer["retry"]), (&"rate-limited".into(), &true.into()));
    assert!(!server.state("a/x")["limits"][0]["frozen_until"].is_null(), "everyone is held back");
}
