//! `permitd store`: looking after the file that a server keeps its state in, while no server uses it.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use permitd_server::store::{self, StoreError};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    format::print,
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd store check permitd-data
  permitd store backup permitd-data permitd-backup.redb
  permitd store restore permitd-data permitd-backup.redb

The server that uses the folder has to be stopped first. A backup holds the key that permit ids are sealed with: keep \
it where nobody else can read it.";

/// Looks after the folder of a server that is not running.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether everything in it is sound.
    Check(Check),
    /// Copy what is in it to a file.
    Backup(Copy),
    /// Put a backup in its place; what was there stays beside it.
    Restore(Copy),
}

/// Says whether everything in the folder is sound, and how much there is.
#[derive(Debug, Args)]
struct Check {
    /// What `permitd serve --data` names.
    #[arg(default_value = "permitd-data")]
    folder: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A folder and a backup.
#[derive(Debug, Args)]
struct Copy {
    /// What `permitd serve --data` names.
    folder: PathBuf,
    /// The backup.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl StoreCommand {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Check(Check { folder, json }) => {
                let rows = store::check(&folder).map_err(failure)?;
                if json {
                    let rows = rows.iter().map(|(table, rows)| (table.name().to_owned(), Value::from(*rows)));
                    print(json!({ "sound": true, "rows": rows.collect::<Map<_, _>>() }).to_string())?;
                } else {
                    let mut table = Table::new(&[("TABLE", Align::Left), ("ROWS", Align::Right)]);
                    rows.iter()
                        .for_each(|(name, rows)| table.row([name.name().to_owned(), rows.to_string()]));
                    print(table.render())?;
                    eprintln!("{} is sound", folder.display());
                }
            }
            Command::Backup(Copy { folder, file, json }) => {
                store::backup(&folder, &file).map_err(failure)?;
                say(json, "copied", format!("{} is copied to {}", folder.display(), file.display()))?;
            }
            Command::Restore(Copy { folder, file, json }) => {
                store::restore(&folder, &file).map_err(failure)?;
                say(json, "restored", format!("{} is as in {}", folder.display(), file.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Check(check) => check.json,
            Command::Backup(copy) | Command::Restore(copy) => copy.json,
        }
    }
}

fn failure(error: StoreError) -> Failure {
    Failure::new(error.to_string())
}

fn say(json: bool, done: &str, text: String) -> Result<(), Failure> {
    print(if json { json!({ "done": done }).to_string() } else { text })
}
