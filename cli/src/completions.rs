//! `permitd completions`

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{Arguments, failure::Failure, format::print};

const EXAMPLES: &str = "\
Examples:
  bash   permitd completions bash > ~/.local/share/bash-completion/completions/permitd
  zsh    permitd completions zsh > \"${fpath[1]}/_permitd\"
  fish   permitd completions fish > ~/.config/fish/completions/permitd.fish";

/// Prints completions for a shell to stdout.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // Not to stdout: it would panic if whoever reads that goes away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "permitd", &mut script);
        print(String::from_utf8_lossy(&script).trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
