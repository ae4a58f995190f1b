//! `permitd profiles`, and `budgets set --tier`

use crate::support::{Server, TemporaryFile, permitd, say};

/// Goal: what is known of providers can be seen without a server, and copied to start from.
#[test]
fn shows_what_is_known() {
    let list = say(&mut permitd(&["profiles", "list"])).well().stdout;
    assert!(
        list.lines().any(|line| line.starts_with("anthropic ") && line.contains("build free scale")),
        "{list}"
    );
    let json = say(&mut permitd(&["profiles", "list", "--json"])).well().json();
    assert!(
        json.iter().any(|profile| profile["tiers"]["build"]["limits"][0] == "requests=50/1m"),
        "{json:?}"
    );
    let shown = say(&mut permitd(&["profiles", "show", "anthropic"])).well().stdout;
    let copy = TemporaryFile::new(&shown);
    say(&mut permitd(&["profiles", "check", copy.path()])).well();
    let said = say(&mut permitd(&["profiles", "show", "anthopic"]));
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("known: anthropic"), "{said:#?}");
}

/// Goal: what is wrong with a file of one's own is told with its line, for people and for machines.
#[test]
fn checks_files() {
    let file = TemporaryFile::new("name = \"acme\"\nabout = \"ours\"\npermit_tll = \"5m\"\n");
    let said = say(&mut permitd(&["profiles", "check", file.path()]));
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains(":3: permit_tll: unknown key; did you mean permit_ttl?"), "{said:#?}");
    let json = say(&mut permitd(&["profiles", "check", "--json", file.path()]));
    let json = json.json();
    assert_eq!(
        (json[0]["right"].as_bool(), json[0]["problems"][0]["path"].as_str()),
        (Some(false), Some("permit_tll"))
    );
    // A server that is told to use it does not start, and says the same.
    let config = TemporaryFile::new(&format!("[server]\nprofiles = [\"{}\"]\n", file.path()));
    let said = say(&mut permitd(&["check", config.path()]));
    assert!(said.stderr.contains("did you mean permit_ttl?"), "{said:#?}");
    let served = say(&mut permitd(&["serve", "--config", config.path()]));
    assert!(served.code != 0 && served.stderr.contains("did you mean permit_ttl?"), "{served:#?}");
}

/// Goal: a tier declares its limits, next to or instead of which others can be given.
#[test]
fn tiers_declare_limits() {
    let server = Server::start();
    let set = |arguments: &[&str]| server.say(&[&["budgets", "set", "anthropic/prod"], arguments].concat());
    let said = set(&["--tier", "build", "--limit", "input_tokens=50k/1m"]).well();
    assert!(
        said.stdout.contains("requests=50/1m") && said.stdout.contains("input_tokens=50000/1m"),
        "{said:#?}"
    );
    let said = set(&["--tier", "build", "--limit", "requests=40/1m"]).well();
    assert!(said.stdout.contains("requests=40/1m") && !said.stdout.contains("requests=50/1m"), "{said:#?}");
    let said = set(&["--tier", "gold"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("build, free, scale"), "{said:#?}");
    let own = TemporaryFile::new(
        "name = \"acme\"\nabout = \"\"\n[tiers.gold]\nabout = \"\"\nlimits = [\"requests=9/1m\"]\n",
    );
    let said =
        server.say(&["budgets", "set", "acme/x", "--tier", "gold", "--profile-file", own.path()]).well();
    assert!(said.stdout.contains("requests=9/1m"), "{said:#?}");
}

/// Goal: a server uses a profile of the user's own, and limits that come from a profile say so.
#[test]
fn servers_use_profiles() {
    let own = TemporaryFile::new(
        "name = \"acme\"\nabout = \"ours\"\npermit_ttl = \"20s\"\nlimits = [\"in_flight=3\"]\n\
         [[refusals]]\nclass = \"overloaded\"\nstatus = [418]\n",
    );
    let config = TemporaryFile::new(&format!("[server]\nprofiles = [\"{}\"]\n", own.path()));
    let server = Server::start_with(
        &["--config", config.path(), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        &[],
    );
    server.say(&["budgets", "set", "acme/x", "--limit", "requests=100/1m"]).well();
    let limits = &server.state("acme/x")["limits"];
    assert_eq!(
        (&limits[0]["source"], &limits[1]["source"]),
        (&"admin".into(), &"profile".into()),
        "{limits:#}"
    );
    let permit = server.say(&["acquire", "acme/x", "--json"]).well().json();
    assert_eq!(permit[0]["ttl_seconds"], 20.0, "{permit:?}");
    let id = permit[0]["permit_id"].as_str().expect("an id");
    let report = server.say(&["report", id, "--http-status", "418", "--json"]).well().json();
    assert_eq!(report[0]["outcome"], "overloaded", "{report:?}");
}
