//! `permitd completions`

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{Arguments, failure::Failure};

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
        clap_complete::generate(self.shell, &mut Arguments::command(), "permitd", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
