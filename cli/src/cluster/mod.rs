//! `permitd cluster`: one file for what is seen, one for what is steered.

mod status;
mod steer;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::{failure::Failure, remote::block_on};

const EXAMPLES: &str = "\
Examples:
  permitd cluster status
  permitd cluster move anthropic/prod 10.0.0.2:7110
  permitd cluster drain 10.0.0.2:7110";

/// See the servers of a cluster, and steer which budgets each has.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the servers, with how many budgets each owns.
    Status(status::Status),
    /// Give a budget to a server, where it stays.
    Move(steer::Move),
    /// Have a server give its budgets to the others, and take none.
    Drain(steer::Drain),
}

impl Cluster {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            match self.command {
                Command::Status(status) => status.run().await,
                Command::Move(moving) => moving.run().await,
                Command::Drain(drain) => drain.run().await,
            }?;
            Ok(ExitCode::SUCCESS)
        })
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Status(status) => status.remote.json,
            Command::Move(moving) => moving.remote.json,
            Command::Drain(drain) => drain.remote.json,
        }
    }
}
