//! Judges that others have made. They have to be there: what they say cannot be had otherwise.

use std::{env, path::Path, process::Command};

/// A program that judges, and how to get it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What it is called.
    pub name: &'static str,
    /// The variable that names another one.
    pub variable: &'static str,
    /// Who offers it.
    pub source: &'static str,
}

impl Tool {
    /// Runs it in that folder; says what it said.
    ///
    /// # Panics
    /// If it is not installed, or complains.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> String {
        let Self { name, variable, source } = self;
        let binary = env::var_os(variable).unwrap_or_else(|| name.into());
        let said =
            Command::new(&binary).args(arguments).current_dir(folder).output().unwrap_or_else(|error| {
                panic!(
                    "{} can't be run ({error}): install it ({source}), or name it by {variable}",
                    binary.display()
                )
            });
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(said.status.success(), "{name} {} says:\n{text}", arguments.join(" "));
        text
    }
}
