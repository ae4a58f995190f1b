//! The dashboard asks for what a server serves, in Prometheus's language.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use permitd_tests::{Folder, Permitd, ask, http_get, tokens};
use serde_json::Value;

use crate::promtool::PROMTOOL;

const CONFIG: &str = "[budgets.\"p/k\"]\nlimits = [\"tokens=5/1m\", \"in_flight=5\"]\n[pools.\"p/any\"]\nmembers = [\"p/k\"]\n";
/// What Grafana puts into queries, and something in its place.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "5m"), ("$provider", ".*"), ("$key", ".*")];

/// Every string called `expr` or `query`, wherever it stands.
fn queries(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => into.push(text.to_owned()),
                    Some(_) => {}
                    None => queries(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, into)),
        _ => {}
    }
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/permitd.json");
    serde_json::from_str(&fs::read_to_string(path).expect("it is there")).expect("JSON")
}

/// Goal: each panel shows something, and no two panels lie on each other.
#[tokio::test]
async fn the_dashboard_asks_for_what_is_served() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut places = BTreeSet::new();
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(
            places.insert((place["x"].to_string(), place["y"].to_string())),
            "{}: two in one place",
            panel["title"]
        );
        let mut own = Vec::new();
        queries(panel, &mut own);
        assert!(panel["type"] == "row" || !own.is_empty(), "{} asks for nothing", panel["title"]);
    }
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    assert!(asked.len() >= 15, "only {} queries", asked.len());
    check_queries(&asked).await;
}

/// Goal: every query of the dashboard is sound PromQL.
#[test]
#[ignore = "needs promtool: make test-alerts"]
fn the_dashboard_speaks_promql() {
    let mut asked = Vec::new();
    queries(&dashboard(), &mut asked);
    let rules = asked.iter().enumerate().map(|(at, query)| {
        let query = serde_json::to_string(&plain(query)).expect("text");
        format!("      - {{record: \"query:{at}\", expr: {query}}}\n")
    });
    let rules = format!("groups:\n  - name: queries\n    rules:\n{}", rules.collect::<String>());
    let folder = Folder::new();
    fs::write(folder.path("queries.yaml"), rules).expect("a file");
    PROMTOOL.run(&folder.path("."), &["check", "rules", "queries.yaml"]);
}

/// With something in the place of what Grafana puts in.
fn plain(query: &str) -> String {
    VARIABLES.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// Fails unless all are about metrics, with labels, that a live server serves.
pub(crate) async fn check_queries(queries: &[String]) {
    let served = served().await;
    for query in queries {
        let query = plain(query);
        for (metric, labels) in selectors(&query) {
            let known = served.get(&metric).unwrap_or_else(|| panic!("{query}: {metric} is not served"));
            let unknown: Vec<_> = labels.difference(known).collect();
            assert!(unknown.is_empty(), "{query}: {metric} has no {unknown:?}");
        }
    }
}

/// The labels of every metric that a live server serves.
async fn served() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Folder::new();
    let data = folder.path("data");
    let server = Permitd::start(&format!("[server]\ndata = \"{}\"\n{CONFIG}", data.display())).await;
    server.granted_now(ask("k")).await;
    // A reason appears when it first happens.
    server.refused(ask("nobody declared")).await;
    server.refused(tokens("k", 6)).await;
    server.refused(tokens("any", 6)).await;
    let text = http_get(server.http, "/metrics", None).await;
    server.stop().await;
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("permitd_")) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let series = rest.split('}').next().unwrap_or_default();
        let labels = series.split(['{', ',']).filter_map(|part| Some(part.split_once("=\"")?.0.to_owned()));
        metrics.entry(name.to_owned()).or_default().extend(labels);
    }
    metrics
}

/// The metrics that a query names, each with the labels that it selects by.
fn selectors(query: &str) -> Vec<(String, BTreeSet<String>)> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.match_indices("permitd_").map(|(at, _)| at);
    let starts = starts.filter(|at| !query[..*at].ends_with(name));
    starts
        .map(|at| {
            let metric: String = query[at..].chars().take_while(|c| name(*c)).collect();
            let rest = &query[at + metric.len()..];
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let labels = matchers.split(',').filter_map(|part| {
                let end = part.find(['=', '!'])?;
                Some(part[..end].trim().to_owned())
            });
            (metric, labels.collect())
        })
        .collect()
}
