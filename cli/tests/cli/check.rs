//! `permitd check`

use crate::support::{TemporaryFile, permitd, say};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../permitd.example.toml");

/// Goal: the example is right, and what is printed is a configuration that is right as well.
#[test]
fn prints_what_is_in_force() {
    let said = say(permitd(&["check", EXAMPLE]).env("PERMITD_SERVER__GRACE", "3s")).well();
    assert!(said.stdout.contains("grace = \"3s\""), "{said:#?}");
    assert!(said.stderr.contains("is right"), "{said:#?}");
    let printed = TemporaryFile::new(&said.stdout);
    let again = say(&mut permitd(&["check", printed.path()])).well();
    assert_eq!(again.stdout, said.stdout);
    let exposed = TemporaryFile::new("[server]\nlisten = \"0.0.0.0:7110\"\n");
    let said = say(&mut permitd(&["check", exposed.path()])).well();
    assert!(said.stderr.contains("0.0.0.0:7110") && said.stderr.contains("--insecure"), "{said:#?}");
    let json = say(&mut permitd(&["check", EXAMPLE, "--json"])).well().json();
    assert_eq!(json[0]["config"]["server"]["listen"], "127.0.0.1:7110");
    assert_eq!(json[0]["right"], true);
}

/// Goal: every problem is told at once, for people and for machines.
#[test]
fn tells_every_problem() {
    let file = TemporaryFile::new("[server]\nwrokers = 1\n[budgets.\"a/x\"]\nlimits = [\"requests=0/1m\"]\n");
    let said = say(&mut permitd(&["check", file.path()]));
    assert_eq!(said.code, 1);
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{said:#?}");
    assert!(lines[0].ends_with(":2: server.wrokers: unknown key; did you mean server.workers?"), "{said:#?}");
    assert!(lines[1].contains(":4: budgets.\"a/x\".limits[0].amount: 0 would never grant"), "{said:#?}");
    let said = say(&mut permitd(&["check", file.path(), "--json"]));
    assert_eq!(said.code, 1);
    assert_eq!(said.json()[0]["problems"][1]["path"], "budgets.\"a/x\".limits[0].amount");
}

/// Goal: one is told as one, in what is right of a file as well.
#[test]
fn one_is_one() {
    let text = "[budgets.\"p/a\"]\nlimits = [\"in_flight=1\"]\n[pools.\"p/any\"]\nmembers = [\"p/a\"]\n";
    let file = TemporaryFile::new(text);
    let said = say(&mut permitd(&["check", file.path()])).well();
    assert!(said.stderr.contains("is right: 1 budget, defaults for 0 providers, 1 pool\n"), "{said:#?}");
}
