//! `permitd serve`

use std::{net::TcpListener, process::Stdio};

use crate::support::{Server, TemporaryFile, permitd, say, signal};

/// Goal: one line says where it is and what to try, and what it says is true.
#[test]
fn announces_itself() {
    let server = Server::start();
    assert!(
        server.announcement.starts_with("permitd is ready: gRPC at 127.0.0.1:"),
        "{}",
        server.announcement
    );
    let suggested = server.announcement.trim_end().split_once("Try: ").expect("a suggestion").1;
    assert!(suggested.starts_with("permitd budgets set"), "{suggested}");
    let words: Vec<&str> = suggested.split(' ').skip(1).collect();
    say(&mut permitd(&words)).well();
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.get("/readyz").ends_with("ready\n"));
    assert!(server.get("/metrics").contains("permitd_waiting{provider=\"anthropic\",key=\"prod\"} 0"));
}

/// Goal: flags go over the environment, and the environment over the file.
#[test]
fn flags_over_environment_over_file() {
    let file = TemporaryFile::new(
        "[server]\nlisten = \"192.0.2.1:1\"\nhttp = \"192.0.2.1:2\"\ngrace = \"1s\"\n[budgets.\"a/x\"]\nlimits = [\"requests=7/1m\"]\n",
    );
    let environment = [("PERMITD_SERVER__LISTEN", "192.0.2.1:3"), ("PERMITD_SERVER__HTTP", "off")];
    let server = Server::start_with(&["--config", file.path(), "--listen", "127.0.0.1:0"], &environment);
    assert!(server.announcement.contains("http at off, 1 budget."), "{}", server.announcement);
    assert_eq!(server.state("a/x")["limits"][0]["source"], "config");
}

/// Goal: a signal drains it, and it ends well although somebody waits.
#[test]
fn a_signal_drains_it() {
    for name in ["-TERM", "-INT"] {
        let mut server = Server::start_with(
            &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
            &[("PERMITD_SERVER__DRAIN", "0s")],
        );
        server.say(&["budgets", "set", "a/x", "--limit", "in_flight=1"]).well();
        server.say(&["budgets", "pause", "a/x"]).well();
        let waiting = server.command(&["acquire", "a/x", "--json"]).stderr(Stdio::null()).spawn();
        let mut waiting = waiting.expect("the binary can be run");
        server.wait_for_waiting("a/x", 1);
        signal(&server.process, name);
        let status = server.process.wait().expect("a child of ours");
        assert!(status.success(), "{status}");
        let refused = waiting.wait().expect("a child of ours");
        assert_eq!(refused.code(), Some(75), "who waited is told to try later");
    }
}

/// Goal: without authentication it stays on this machine, unless somebody insists.
#[test]
fn refuses_to_be_exposed() {
    for arguments in [["--listen", "0.0.0.0:0"], ["--http", "0.0.0.0:0"], ["--listen", "[::]:0"]] {
        let said = say(permitd(&["serve"]).args(arguments));
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.stderr.contains("can be reached from other machines"), "{said:#?}");
        assert!(said.stderr.contains("--insecure"), "{said:#?}");
    }
}

/// Goal: what keeps it from starting is told with what to do.
#[test]
fn says_why_it_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let said = say(&mut permitd(&["serve", "--listen", &address, "--http", "off"]));
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains(&address) && said.stderr.contains("--listen"), "{said:#?}");

    let file = TemporaryFile::new("[server]\nlistne = \"127.0.0.1:0\"\ngrace = \"long\"\n");
    let said = say(&mut permitd(&["serve", "--config", file.path()]));
    assert_eq!(said.code, 1, "{said:#?}");
    for expected in
        [":2: server.listne: unknown key; did you mean server.listen?", ":3: server.grace:", "permitd check"]
    {
        assert!(said.stderr.contains(expected), "{expected}: {said:#?}");
    }
    let said = say(&mut permitd(&["serve", "--config", "/nowhere/permitd.toml"]));
    assert!(said.stderr.contains("/nowhere/permitd.toml: can't be read"), "{said:#?}");
}
