//! What permitd is delivered in: each package says of permitd what permitd does, and its own format's judge takes it.

mod container;
mod debian;
mod kubernetes;
mod systemd;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use permitd_tests::binary;

/// A file or folder of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Checks that the binary takes these arguments, with which a package starts it: a server, by flags that there are.
#[track_caller]
fn check_serve(arguments: &[&str]) {
    assert_eq!(arguments.first(), Some(&"serve"), "{arguments:?}");
    let help = Command::new(binary()).args(["serve", "--help"]).output().expect("it can be run");
    let help = String::from_utf8(help.stdout).expect("text");
    let known: Vec<&str> = help.split([' ', ',', '\n', '=']).collect();
    let unknown = arguments.iter().find(|word| word.starts_with("--") && !known.contains(word));
    assert_eq!(unknown, None, "{arguments:?}");
}
