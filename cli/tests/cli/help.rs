//! What teaches: help, and completions.

use crate::support::{permitd, say};

/// Goal: every command shows examples.
#[test]
fn every_command_has_examples() {
    let budgets = ["list", "get", "set", "delete", "pause", "resume", "watch", "changes"];
    let commands = ["serve", "check", "budgets", "run", "acquire", "report", "completions"];
    let budgets = budgets.iter().map(|command| vec!["budgets", command, "--help"]);
    for arguments in commands.iter().map(|command| vec![*command, "--help"]).chain(budgets) {
        let said = say(&mut permitd(&arguments)).well();
        assert!(said.stdout.contains("Example"), "{arguments:?}: {}", said.stdout);
        assert!(said.stdout.contains("permitd "), "{arguments:?}: {}", said.stdout);
    }
    assert!(say(&mut permitd(&["--help"])).well().stdout.contains("permitd run"));
}

/// Goal: shells can complete commands.
#[test]
fn completes() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = say(&mut permitd(&["completions", shell])).well();
        assert!(said.stdout.contains("budgets"), "{shell}");
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
