//! `permitd-lab depth`

use std::path::{Path, PathBuf};

use permitd_lab::{
    depth::{Depth, Part},
    siege::{Error, binary},
};

/// How deep to look.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Grants are measured in the heart by itself; memory and the start with the binary `permitd` beside this one,
on a store in the temporary folder (TMPDIR).

Examples:
  cargo build --release -p permitd -p permitd-lab
  target/release/permitd-lab depth
  target/release/permitd-lab depth --part start --stored-max 1000000 --svg docs/benchmarks")]
pub(crate) struct Arguments {
    /// What to look at; everything, if not given.
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Requests that wait, at most.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=4_000_000))]
    waiting_max: u32,
    /// Stored budgets, at most.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    stored_max: u32,
    /// Draw pictures into this folder, too.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let Arguments { parts, waiting_max, stored_max, svg } = arguments;
    let all = [Part::Grants, Part::Memory, Part::Start];
    let depth = Depth {
        parts: if parts.is_empty() { all.to_vec() } else { parts.clone() },
        waiting_max: *waiting_max as usize,
        stored_max: *stored_max as usize,
    };
    // The heart needs no server.
    let binary = if depth.parts == [Part::Grants] { Path::new("").to_owned() } else { binary()? };
    let found = depth.measure(&binary, |step| eprintln!("{step}"))?;
    println!("{found}");
    svg.as_deref().map_or(Ok(()), |folder| found.draw(folder))
}
