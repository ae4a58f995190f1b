//! Configuration files as people write them, right and wrong.

use std::collections::BTreeSet;

use permitd_budget::{Overflow, Window};

use crate::auth::{Role, TokenHash};

use super::{AuthConfig, BudgetName, Config, ConfigError, Lacks, ServerConfig};

const EXAMPLE: &str = include_str!("../../../permitd.example.toml");

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::read(text, "permitd.toml", [])
}

fn with_environment(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(text, "permitd.toml", environment)
}

fn name(text: &str) -> BudgetName {
    text.parse().expect("a budget's name")
}

/// Goal: the defaults that the example documents are the defaults.
#[test]
fn the_example_documents_the_defaults() {
    let config = read(EXAMPLE).expect("the example is right");
    assert_eq!(config.server, ServerConfig::default());
    assert_eq!(config.auth, AuthConfig::default());
    assert_eq!(config.server, read("").expect("nothing is right as well").server);
}

/// Goal: the example leaves no setting of the server out, and its budgets are what their comments say.
#[test]
fn the_example_is_complete() {
    let (config, asked) = Config::read_noting(EXAMPLE, "example", []).expect("the example is right");
    let table: toml::Table = EXAMPLE.parse().expect("TOML");
    for path in
        asked.iter().filter(|path| ["server", "auth", "cluster"].iter().any(|of| path.starts_with(of)))
    {
        if path == "auth.identities" {
            // One would turn authentication on; it stands there as a comment, see below.
            continue;
        }
        let mut at = Some(&toml::Value::Table(table.clone())).cloned();
        for name in path.split('.') {
            at = at.and_then(|value| value.get(name).cloned());
        }
        assert!(at.is_some(), "{path} is missing in the example");
    }
    let anthropic = &config.budgets[&name("anthropic/prod")];
    assert_eq!(anthropic.limits.len(), 5);
    assert_eq!(anthropic.limits[3].models, "claude-opus-*");
    assert_eq!(anthropic.tenants["web"].weight, 3);
    let github = &config.budgets[&name("github/ci")];
    assert_eq!(github.limits[0].window, Window::Fixed { phase: None });
    assert_eq!(github.limits[1].per, None);
    assert_eq!(config.providers.keys().collect::<Vec<_>>(), ["openai"]);
}

/// Goal: the identity that the example shows as a comment is right, and what is left out of it means what the comments say.
#[test]
fn the_example_identity_is_right() {
    let uncommented = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
        _ => line,
    });
    let text = uncommented.collect::<Vec<_>>().join("\n");
    let config = read(&text).expect("right without the marks");
    assert!(config.auth.is_on());
    let checkout = &config.auth.identities["checkout"];
    assert_eq!(checkout.tokens, [TokenHash::of("test")]);
    assert_eq!(checkout.roles, BTreeSet::from([Role::Acquire, Role::Report]));
    assert_eq!(checkout.tenants, ["checkout", "checkout-*"]);
    assert_eq!(read(&config.to_string()).expect("printed is right"), config, "and is printed as it is");
}

/// Goal: an identity that could prove nothing, or do nothing, or be taken for another, is refused where it stands.
#[test]
fn identities_make_sense() {
    const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let with = |settings: &str| format!("[auth.identities.a]\n{settings}");
    let token = format!("tokens = [\"{HASH}\"]\n");
    let roles = "roles = [\"acquire\"]\n";
    for (text, path, hint) in [
        (with(roles), "auth.identities.a", "nothing proves it"),
        (with(&token), "auth.identities.a.roles", "may do nothing"),
        (with(&format!("{token}roles = [\"admn\"]")), "auth.identities.a.roles[0]", "did you mean admin?"),
        (with(&format!("{token}{roles}budgets = []")), "auth.identities.a.budgets", "leave it out"),
        (with(&format!("{token}{roles}budgets = [\"p\"]")), "auth.identities.a.budgets[0]", "names no key"),
        (with(&format!("{token}{roles}priority = [\"batch\"]")), "auth.identities.a.priority", "priorities"),
        (
            with(&format!("tokens = [\"permitd_SECRET\"]\n{roles}")),
            "auth.identities.a.tokens[0]",
            "never the token",
        ),
        (with(&format!("certificates = [\"a\"]\n{roles}")), "auth.identities.a.certificates", "client_ca"),
        (with(&format!("subjects = [\"a\"]\n{roles}")), "auth.identities.a.subjects", "auth.jwt.jwks"),
        (format!("[auth.identities.\"a/b\"]\n{token}{roles}"), "auth.identities.\"a/b\"", "slash"),
        (
            format!("[auth.identities.a]\n{token}{roles}[auth.identities.b]\n{token}{roles}"),
            "auth.identities.b.tokens",
            "that of a, too",
        ),
        ("[auth.jwt]\njwks = \"f\"\nissuer = \"i\"".to_owned(), "auth.jwt.audience", "is missing"),
        ("[auth]\nmetrics = \"opne\"".to_owned(), "auth.metrics", "did you mean open?"),
        ("[server.tls]\ncert = \"c\"".to_owned(), "server.tls.key", "name its file"),
        ("[server.tls]\nclient_ca = \"c\"".to_owned(), "server.tls.cert", "one of the server's own"),
    ] {
        let error = read(&text).expect_err(&text);
        let found = error.problems.iter().find(|problem| problem.path == path);
        let found = found.unwrap_or_else(|| panic!("{text}: nothing at {path} in {error}"));
        assert!(found.message.contains(hint), "{found}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }
    let environment = [
        ("PERMITD_AUTH__IDENTITIES__CI__TOKENS", HASH),
        ("PERMITD_AUTH__IDENTITIES__CI__ROLES", "acquire, report"),
    ];
    let config = with_environment("", &environment).expect("right");
    assert_eq!(config.auth.identities["ci"].roles.len(), 2);
}

/// Goal: what `permitd check` prints makes the same configuration again.
#[test]
fn printed_is_read_back() {
    let odd = r#"
        [budgets."x/a.b"]
        limits = [
          { unit = "odd", amount = 7, per = "90s", models = "{a,b}", window = "fixed", phase = "2026-01-01T00:00:00Z" },
          { unit = "huge", amount = "18446744073709551615", per = "1d", tenants = "a,b", burst = 9 },
          { unit = "q,u", amount = 5, per = "1m", window = "quantised", quantum = "2s" },
          "s=1/1m,window=sliding",
          { unit = "in_flight", amount = 3, models = "{a,b}", adapt = "latency" },
          "in_flight=5,adapt=latency",
        ]
        queue = { max_waiting = 9, max_wait = "0s", overflow = "reject" }
        permit_ttl = "1h"
    "#;
    for text in ["", EXAMPLE, odd] {
        let config = read(text).expect("right");
        let printed = config.to_string();
        assert_eq!(read(&printed).expect("printed is right"), config, "{printed}");
    }
}

/// Goal: the environment goes over the file, and only variables with a path are settings.
#[test]
fn the_environment_goes_over_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\ngrace = \"20s\"\n";
    let config = with_environment(
        file,
        &[
            ("PERMITD_SERVER__LISTEN", "127.0.0.1:2"),
            ("PERMITD_SERVER__HTTP", "off"),
            ("PERMITD_SERVER__INSECURE", "true"),
            ("PERMITD_SERVER__BOUNDS__SESSIONS", "7"),
            ("PERMITD_SERVER", "http://127.0.0.1:9"),
            ("PATH", "/bin"),
        ],
    )
    .expect("right");
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.server.http, None);
    assert!(config.server.insecure);
    assert_eq!(config.server.bounds.sessions, 7);
    assert_eq!(config.server.grace.as_secs(), 20);
}

/// Goal: everything that is wrong is told at once, each with its line, its path, and what would be right.
#[test]
fn tells_all_that_is_wrong_at_once() {
    let text = "[server]\nlistne = \"127.0.0.1:1\"\ngrace = \"2h\"\n\n[server.bounds]\nsesions = 5\n\n[sever]\nx = 1\n";
    let error = with_environment(text, &[("PERMITD_SERVER__WORKERS", "many")]).expect_err("wrong");
    let expected = "\
permitd.toml:2: server.listne: unknown key; did you mean server.listen?
permitd.toml:3: server.grace: 2h is outside 0s to 1h
permitd.toml:6: server.bounds.sesions: unknown key; did you mean server.bounds.sessions?
permitd.toml:8: sever: unknown key; did you mean server?
PERMITD_SERVER__WORKERS: server.workers: \"many\" is not a whole number; write it like 60, 100_000, 100k or 2M";
    assert_eq!(error.to_string(), expected);
}

/// Goal: each kind of mistake, told so that it can be mended.
#[test]
fn every_mistake_has_its_place() {
    for (text, path, hint) in [
        ("[server]\ngrace = 5", "server.grace", "\"5s\""),
        ("[server]\nlisten = \"localhost:1\"", "server.listen", "127.0.0.1:7110"),
        ("[server]\nlisten = 1", "server.listen", "text belongs"),
        ("[server]\nworkers = -1", "server.workers", "negative"),
        ("[server]\nworkers = 1.5", "server.workers", "whole number"),
        ("[server.bounds]\nsessions = 0", "server.bounds.sessions", "outside 1 to"),
        ("server = 5", "server", "a table belongs"),
        ("[budgets.\"/x\"]\nlimits = []", "budgets.\"/x\"", "provider is empty"),
        ("[budgets.\"a/x\"]\nlimit = []", "budgets.\"a/x\".limit", "did you mean budgets.\"a/x\".limits?"),
        ("[budgets.\"a/x\"]\nlimits = \"requests=1/1m\"", "budgets.\"a/x\".limits", "a list belongs"),
        ("[budgets.\"a/x\"]\nlimits = [\"requests=1\"]", "budgets.\"a/x\".limits[0].per", "missing"),
        ("[budgets.\"a/x\"]\nlimits = [\"requests=0/1m\"]", "budgets.\"a/x\".limits[0].amount", "pause"),
        (
            "[budgets.\"a/x\"]\nlimits = [\"requests=1/1m,adapt=latency\"]",
            "budgets.\"a/x\".limits[0].adapt",
            "in_flight",
        ),
        (
            "[budgets.\"a/x\"]\nlimits = [{ unit = \"in_flight\", amount = 5, adapt = \"latncy\" }]",
            "budgets.\"a/x\".limits[0].adapt",
            "did you mean latency?",
        ),
        ("[budgets.\"a/x\"]\nlimits = [\"requests=1/1x\"]", "budgets.\"a/x\".limits[0]", "not a duration"),
        (
            "[budgets.\"a/x\"]\nlimits = [{ unit = \"r\", amonut = 1 }]",
            "budgets.\"a/x\".limits[0].amonut",
            ".amount?",
        ),
        (
            "[budgets.\"a/x\"]\nlimits = [{ unit = \"r\", amount = 1, per = \"1m\", window = \"slide\" }]",
            "budgets.\"a/x\".limits[0].window",
            "sliding",
        ),
        (
            "[budgets.\"a/x\".queue]\noverflow = \"rejct\"",
            "budgets.\"a/x\".queue.overflow",
            "did you mean reject?",
        ),
        ("[budgets.\"a/x\"]\npermit_ttl = \"2d\"", "budgets.\"a/x\".permit_ttl", "24 h"),
        ("[budgets.\"a/x\".tenants]\nweb = 3", "budgets.\"a/x\".tenants.web", "a table belongs"),
        (
            "[budgets.\"a/x\".tenants.web]\nweight = 5000000000",
            "budgets.\"a/x\".tenants.web.weight",
            "too large",
        ),
        ("[providers.\"a/b\"]\nlimits = []", "providers.\"a/b\"", "[budgets]"),
        ("[server]\nlisten = ", "", ""),
    ] {
        let error = read(text).expect_err(text);
        let first = &error.problems[0];
        assert_eq!(first.path, path, "{text}: {error}");
        assert!(first.message.contains(hint), "{text}: {error}");
        let line = if text.starts_with("server") { 1 } else { 2 };
        let line =
            if text.starts_with("[budgets.\"/x\"]") || text.starts_with("[providers") { 1 } else { line };
        assert_eq!(first.place, format!("permitd.toml:{line}"), "{text}: {error}");
    }
}

/// Goal: two spellings of one budget are no two budgets.
#[test]
fn a_budget_is_declared_once() {
    let error = read("[budgets.openai]\n[budgets.\"openai/default\"]").expect_err("twice");
    assert!(error.problems[0].message.contains("declared twice"), "{error}");
}

/// Goal: a file that declares more budgets than it lets the server keep is wrong before the server starts.
#[test]
fn budgets_fit_their_bound() {
    let error = read("[server.bounds]\nbudgets = 1\n[budgets.a]\n[budgets.b]\n").expect_err("one too many");
    assert_eq!(error.problems[0].path, "budgets");
    assert!(error.to_string().contains("server.bounds.budgets"), "{error}");
}

/// Goal: declared ways to wait arrive, and a zero ttl means the default as it does on the wire.
#[test]
fn queues_and_ttls() {
    let text = "[budgets.\"a/x\"]\npermit_ttl = \"0s\"\nqueue = { overflow = \"reject\", max_wait = \"1s\" }";
    let config = read(text).expect("right");
    let budget = &config.budgets[&name("a/x")];
    assert_eq!(budget.permit_ttl, None);
    assert_eq!(budget.queue.overflow, Overflow::Reject);
    assert_eq!(budget.queue.max_wait.map(|wait| wait.as_secs()), Some(1));
}

/// Goal: a file that can't be read is named.
#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(std::path::Path::new("/nowhere/permitd.toml")), []).expect_err("not there");
    assert!(error.to_string().starts_with("/nowhere/permitd.toml: can't be read"), "{error}");
}

/// Goal: without `insecure` only loopback is served.
#[test]
fn knows_when_it_is_exposed() {
    let exposed =
        |text: &str| read(text).expect("right").exposed().map(|exposed| exposed.address.to_string());
    assert_eq!(exposed(""), None);
    assert_eq!(exposed("[server]\nlisten = \"[::1]:1\""), None);
    assert_eq!(exposed("[server]\nlisten = \"0.0.0.0:1\"").as_deref(), Some("0.0.0.0:1"));
    assert_eq!(exposed("[server]\nhttp = \"192.0.2.1:1\"").as_deref(), Some("192.0.2.1:1"));
    assert_eq!(exposed("[server]\nlisten = \"0.0.0.0:1\"\ninsecure = true"), None);
    let listen = "[server]\nlisten = \"0.0.0.0:1\"\n";
    let tls = "[server.tls]\ncert = \"c\"\nkey = \"k\"\n";
    let hash = TokenHash::of("t");
    let auth = format!("[auth.identities.a]\ntokens = [\"{hash}\"]\nroles = [\"acquire\"]\n");
    let lacks = |text: String| read(&text).expect("right").exposed().map(|exposed| exposed.lacks);
    assert_eq!(lacks(format!("{listen}{tls}")), Some(Lacks::Authentication));
    assert_eq!(lacks(format!("{listen}{auth}")), Some(Lacks::Encryption));
    assert_eq!(lacks(format!("{listen}{tls}{auth}")), None);
}

/// Goal: every setting is asked for once only, or two places would decide it.
#[test]
fn every_setting_is_read_once() {
    let (_, asked) = Config::read_noting("", "nothing", []).expect("right");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len());
}
