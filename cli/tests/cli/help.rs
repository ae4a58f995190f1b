//! What teaches: help, and completions.

use std::{io, process::Stdio};

use crate::support::{permitd, say};

/// Goal: every command shows examples.
#[test]
fn every_command_has_examples() {
    let budgets = ["list", "get", "set", "delete", "pause", "resume", "watch", "changes", "diff", "reset"];
    let commands = [
        "serve",
        "check",
        "budgets",
        "explain",
        "pools",
        "run",
        "batch",
        "acquire",
        "report",
        "completions",
        "store",
        "top",
    ];
    let budgets = budgets.iter().map(|command| vec!["budgets", command, "--help"]);
    for arguments in commands.iter().map(|command| vec![*command, "--help"]).chain(budgets) {
        let said = say(&mut permitd(&arguments)).well();
        assert!(said.stdout.contains("Example"), "{arguments:?}: {}", said.stdout);
        assert!(said.stdout.contains("permitd "), "{arguments:?}: {}", said.stdout);
    }
    let said = say(&mut permitd(&["--help"])).well();
    assert!(
        said.stdout.contains("A first look:\n  permitd demo "),
        "begins with nothing to set up: {}",
        said.stdout
    );
    assert!(said.stdout.contains("permitd run"), "{}", said.stdout);
}

/// Goal: shells can complete commands.
#[test]
fn completes() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = say(&mut permitd(&["completions", shell])).well();
        assert!(said.stdout.contains("budgets"), "{shell}");
        assert!(said.stdout.ends_with('\n') && !said.stdout.ends_with("\n\n"), "{shell}");
    }
}

/// Goal: whoever reads the first lines and goes away, as `head` does, is no failure.
#[test]
fn completes_for_whoever_goes_away() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut command = permitd(&["completions", shell]);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("the binary can be run");
        let output = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{shell}: {} {stderr}", output.status);
    }
}

/// Goal: wrong usage ends with 2, before anything is asked of a server.
#[test]
fn wrong_usage() {
    for (arguments, hint) in [
        (&["budgets", "set", "a/x"][..], "--limit"),
        (&["budgets", "set", "a/x", "--limit", "requests"], "requests=60/1m"),
        (&["budgets", "set", "a/x", "--limit", "requests=1/1m", "--tenant", "web"], "web=3"),
        (&["budgets", "set", "/x", "--unlimited"], "anthropic/prod"),
        (&["acquire", "a/x", "--max-wait", "5"], "5s"),
        (&["report", "id"], "--outcome"),
        (&["run", "a/x"], "COMMAND"),
        (&["budgets", "list", "--server", "http://a b"], "http://127.0.0.1:7110"),
    ] {
        let said = say(&mut permitd(arguments));
        assert_eq!(said.code, 2, "{arguments:?}: {said:#?}");
        assert!(said.stderr.contains(hint), "{arguments:?}: {said:#?}");
    }
}
