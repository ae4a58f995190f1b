//! The alerts: sound, fired by what they are for and by nothing less, and about metrics that there are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{dashboard::check_queries, promtool::PROMTOOL};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("it is there")
}

fn alerts(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

/// Goal: recorded series raise each alert when they should, and not before.
#[test]
#[ignore = "needs promtool: make test-alerts"]
fn alerts_fire() {
    PROMTOOL.run(&folder(), &["check", "rules", "permitd.rules.yaml"]);
    PROMTOOL.run(&folder(), &["test", "rules", "permitd.rules.test.yaml"]);
}

/// Goal: each alert is tried with series that raise it and with series that do not, whoever runs the trial.
#[test]
fn alerts_are_tried() {
    let (rules, trials) = (read("permitd.rules.yaml"), read("permitd.rules.test.yaml"));
    let names = alerts(&rules);
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let tried = trials.matches(&format!("alertname: {name}\n")).count();
        assert!(tried >= 2, "{name} is tried {tried} times: once where it fires, and once where it does not");
    }
}

/// Goal: every alert asks for metrics and labels that a server serves.
#[tokio::test]
async fn alerts_ask_for_what_is_served() {
    let text = read("permitd.rules.yaml");
    let queries: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    assert_eq!(queries.len(), alerts(&text).len(), "each on a line of its own");
    check_queries(&queries).await;
}
