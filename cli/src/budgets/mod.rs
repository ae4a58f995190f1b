//! `permitd budgets`: one file for each subcommand, and what they show alike.

mod changes;
mod declaration;
mod diff;
mod list;
mod schedule;
mod set;
mod show;
mod steer;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(crate) use self::declaration::Declaration;
use crate::{failure::Failure, remote::block_on};

const EXAMPLES: &str = "\
Examples:
  permitd budgets set anthropic/prod --limit requests=60/1m --limit tokens=100k/1m --limit in_flight=5
  permitd budgets list
  permitd budgets watch 'anthropic/*'
  permitd budgets pause anthropic/prod --reason 'key is being rotated'
  permitd budgets changes";

/// See and steer budgets, live. Changes apply at once, to everyone who waits as well.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Budgets {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List budgets with their limits.
    List(list::List),
    /// Show one budget, with its tenants.
    Get(list::Get),
    /// Create a budget, or replace all that is declared about it.
    Set(set::Set),
    /// Delete a budget; whoever waits for it is refused.
    Delete(steer::Delete),
    /// Grant nothing until resumed; whoever waits goes on waiting.
    Pause(steer::Pause),
    /// End a pause, or an exhausted quota.
    Resume(steer::Resume),
    /// Show where budgets are not as the server's configuration declares them.
    Diff(diff::Diff),
    /// Go back to what the server's configuration declares.
    Reset(steer::Reset),
    /// Show which limits are in force when.
    Schedule(schedule::Schedule),
    /// See budgets change.
    Watch(watch::Watch),
    /// Show who changed what, newest first.
    Changes(changes::Changes),
}

impl Budgets {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            match self.command {
                Command::List(list) => list.run().await,
                Command::Get(get) => get.run().await,
                Command::Set(set) => set.run().await,
                Command::Delete(delete) => delete.run().await,
                Command::Pause(pause) => pause.run().await,
                Command::Resume(resume) => resume.run().await,
                Command::Diff(diff) => diff.run().await,
                Command::Reset(reset) => reset.run().await,
                Command::Schedule(schedule) => schedule.run().await,
                Command::Watch(watch) => watch.run().await,
                Command::Changes(changes) => changes.run().await,
            }?;
            Ok(ExitCode::SUCCESS)
        })
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(list) => list.remote.json,
            Command::Get(get) => get.remote.json,
            Command::Set(set) => set.remote.json,
            Command::Delete(delete) => delete.remote.json,
            Command::Pause(pause) => pause.remote.json,
            Command::Resume(resume) => resume.remote.json,
            Command::Diff(diff) => diff.remote.json,
            Command::Reset(reset) => reset.remote.json,
            Command::Schedule(schedule) => schedule.remote.json,
            Command::Watch(watch) => watch.remote.json,
            Command::Changes(changes) => changes.remote.json,
        }
    }
}
