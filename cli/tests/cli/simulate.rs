//! `permitd serve --record` and `permitd simulate`

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::support::{Server, TemporaryFile, permitd, say, signal};

/// Goal: what a server recorded is replayed: as it was, and as it would have been under other limits, with what the provider would have
/// said to that.
#[test]
fn what_was_recorded_is_replayed() {
    let trace =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-trace.jsonl", std::process::id()));
    let path = trace.to_str().expect("the path is text");
    let mut server =
        Server::start_with(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--record", path], &[]);
    server.say(&["budgets", "set", "p/k", "--limit", "requests=2/1d"]).well();
    let mut permits = Vec::new();
    for _ in 0..3 {
        let said = server.say(&["acquire", "p/k", "--tenant", "web", "--max-wait", "0s", "--json"]);
        if said.code == 0 {
            permits.push(said.json()[0]["permit_id"].as_str().expect("an id").to_owned());
        }
    }
    assert_eq!(permits.len(), 2, "the third is refused");
    for permit in &permits {
        server.say(&["report", permit, "--outcome", "success"]).well();
    }
    signal(&server.process, "-TERM");
    assert!(server.process.wait().expect("it ends").success());

    let simulate = |more: &[&str]| {
        let words = ["simulate", "--trace", path, "--budget", "p/k", "--json"];
        say(&mut permitd(&[&words, more].concat())).well().json().remove(0)
    };
    let told = simulate(&["--change", "--limit requests=3/1d", "--provider", "requests=3/1d"]);
    for (when, served, refused) in [("before", 2, 1), ("after", 3, 0)] {
        let of = &told[when];
        assert_eq!((&of["served"], &of["rate_limited"]), (&served.into(), &0.into()), "{told:#}");
        let kept = of["refused"]["NOT_IN_TIME"].as_u64().unwrap_or(0);
        assert_eq!(kept, refused, "{told:#}");
    }
    let told = simulate(&["--change", "--limit requests=3/1d"]);
    assert_eq!(told["after"]["rate_limited"], 1, "the provider has no more than was declared: {told:#}");
    let table =
        say(&mut permitd(&["simulate", "--trace", path, "--budget", "p/k", "--change", "--tenant web=3"]));
    assert!(table.well().stdout.contains("BEFORE"));

    let told = simulate(&["--change", "--unlimited", "--provider", "requests=3/1d"]);
    assert_eq!((&told["before"]["served"], &told["after"]["served"]), (&2.into(), &3.into()), "{told:#}");

    let whole = fs::read_to_string(&trace).expect("it is there");
    fs::write(&trace, format!("{whole}{{\"line\":\"as")).expect("written");
    let torn = simulate(&["--change", "--limit requests=3/1d"]);
    assert_eq!(torn["after"]["rate_limited"], 1, "a line that was not finished is left out: {torn:#}");
    fs::write(&trace, format!("{{\"line\":\"as\n{whole}")).expect("written");
    let said =
        say(&mut permitd(&["simulate", "--trace", path, "--budget", "p/k", "--change", "--tenant web=3"]));
    assert!(said.code != 0 && said.stderr.contains("line 1: "), "{said:#?}");
    fs::write(&trace, whole).expect("written");

    for (words, hint) in [
        (["--budget", "p/k", "--change", "--limit requests=2/1d"], "all of them are as recorded"),
        (["--budget", "p/other", "--change", "--limit requests=3/1d"], "says nothing of p/other"),
        (["--budget", "p/k", "--change", "--limit requests"], "--change makes no sense"),
        (["--budget", "p/k", "--change", "'"], "a quote has no end"),
    ] {
        let said = say(&mut permitd(&[&["simulate", "--trace", path][..], &words].concat()));
        assert!(said.code != 0 && said.stderr.contains(hint), "{said:#?}");
    }
    fs::remove_file(&trace).expect("it was there");
}

/// Goal: what was asked of a pool is recorded once, at the member that answered, at the moment that its report goes by.
#[test]
fn pools_are_recorded_where_they_were_answered() {
    let trace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-pool.jsonl", std::process::id()));
    let path = trace.to_str().expect("the path is text");
    let file = TemporaryFile::new(
        "[budgets.\"p/a\"]\nlimits = [\"in_flight=1\"]\n[budgets.\"p/b\"]\nlimits = [\"in_flight=1\"]\n\
         [pools.\"p/any\"]\nmembers = [\"p/a\", { budget = \"p/b\", prefer = 2 }]\n",
    );
    let arguments =
        ["--config", file.path(), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--record", path];
    let mut server = Server::start_with(&arguments, &[]);
    for at in 0..3 {
        let said = server.say(&["acquire", "p/any", "--max-wait", "0s", "--json"]);
        assert_eq!(said.code == 0, at < 2, "{said:#?}");
        if at == 1 {
            let permit = said.json()[0]["permit_id"].as_str().expect("an id").to_owned();
            server.say(&["report", &permit, "--outcome", "success"]).well();
            server.say(&["acquire", "p/b", "--max-wait", "0s"]).well();
        }
    }
    signal(&server.process, "-TERM");
    assert!(server.process.wait().expect("it ends").success());
    let lines = fs::read_to_string(&trace).expect("it is there");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["line"] == kind).collect::<Vec<_>>();
    let asked = of("asked");
    let budgets: Vec<_> = asked.iter().map(|line| line["budget"].as_str().expect("a name")).collect();
    assert_eq!(budgets[..3], ["p/a", "p/b", "p/b"], "two of the pool, and one of p/b itself");
    assert_eq!(budgets.len(), 4, "and a refusal");
    let called = of("called");
    assert_eq!(called.len(), 1);
    assert_eq!(called[0]["asked"], asked[1]["at"]);
    fs::remove_file(&trace).expect("it was there");
}
