//! Prometheus's own judge of rules and queries. It has to be there: what it says cannot be had otherwise.

use std::{env, path::Path, process::Command};

/// Runs it in that folder.
///
/// # Panics
/// If it is not installed, or complains.
pub(crate) fn promtool(folder: &Path, arguments: &[&str]) -> String {
    let binary = env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let said = Command::new(&binary).args(arguments).current_dir(folder).output().unwrap_or_else(|error| {
        panic!(
            "{} can't be run ({error}): install it (Debian's package prometheus has it), or name it by PROMTOOL",
            binary.display()
        )
    });
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(said.status.success(), "promtool {} says:\n{text}", arguments.join(" "));
    text
}
