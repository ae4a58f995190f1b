//! `permitd-lab instructions`, and `permitd-lab steps`, which it runs under valgrind.

use std::{fs, path::PathBuf};

use permitd_lab::{
    bench::{Error, Steps},
    instructions::Instructions,
};

/// What to do with the numbers besides telling them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Fail if anything takes more than this baseline says.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Write them down as the baseline.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    write: Option<PathBuf>,
}

/// What to do, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct StepsArguments {
    /// What to do.
    what: Steps,
    /// Acquires with their reports.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let named = |path: &PathBuf, error: std::io::Error| format!("{}: {error}", path.display());
    let baseline = match &arguments.check {
        Some(path) => {
            Some(Instructions::read(&fs::read_to_string(path).map_err(|error| named(path, error))?)?)
        }
        None => None,
    };
    let counted = Instructions::count(|step| eprintln!("counting {step}"))?;
    println!("{counted}");
    if let Some(path) = &arguments.write {
        fs::write(path, counted.write()).map_err(|error| named(path, error))?;
    }
    match baseline.map(|baseline| counted.more_than(&baseline)) {
        Some(more) if !more.is_empty() => Err(more.join("\n").into()),
        _ => Ok(()),
    }
}

pub(crate) fn steps(arguments: &StepsArguments) -> Result<(), Error> {
    arguments.what.run(arguments.pairs)
}
