//! The pages of `docs/reference` are written here, from what the code says: [`wire`] from the comments in `proto/`, [`configuration`]
//! from the types that a configuration is read into and from the parser. They are committed, and these tests fail where they are
//! stale. `PERMITD_BLESS=1 cargo test -p permitd-tests --test reference` writes them anew.

mod configuration;
mod markdown;
mod parser;
mod types;
mod wire;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// What writes the pages anew.
const COMMAND: &str = "PERMITD_BLESS=1 cargo test -p permitd-tests --test reference";

/// Goal: the wire reference is what the comments in proto/ say.
#[test]
fn wire_is_what_proto_says() {
    hold("wire.md", &wire::page());
}

/// Goal: the configuration reference is what the types say, and names what the parser takes: no more, no less, and no other.
#[test]
fn configuration_is_what_the_types_say() {
    hold("configuration.md", &configuration::page());
}

/// A file or folder of the repository.
fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Compares a committed page with what it ought to be; or writes it, if that is wanted.
#[track_caller]
fn hold(name: &str, page: &str) {
    let path = root("docs/reference").join(name);
    if env::var_os("PERMITD_BLESS").is_some() {
        fs::write(&path, page).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if written != page {
        let same = written.lines().zip(page.lines()).take_while(|(old, new)| old == new).count();
        let line = |of: &str| of.lines().nth(same).unwrap_or("nothing").to_owned();
        panic!(
            "docs/reference/{name} is stale from line {} on:\n  {}\nought to be\n  {}\nwrite it anew: {COMMAND}",
            same + 1,
            line(&written),
            line(page)
        );
    }
}
