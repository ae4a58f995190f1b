//! `permitd-lab scenarios`

use std::{
    fmt::Write as _,
    fs,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use permitd_lab::scenario::{Clients, Scenario, judge, judge_all, plot, run as play, trace};

/// Which scenarios, and what to show of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  permitd-lab scenarios
  permitd-lab scenarios jittery-network --seeds 20
  permitd-lab scenarios halves-and-returns --plot plots
  permitd-lab scenarios --trace true-limit-lower | less")]
pub(crate) struct Arguments {
    /// Scenarios by name, or files of your own; all of the folder if none is given.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other; the worst of each figure counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Print what happens in one scenario, line by line.
    #[arg(long, value_name = "NAME")]
    trace: Option<String>,
    /// Draw each scenario with the first seed: effective limit against true limit, and 429s.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// Print rows of a Markdown table; what was missed is bold.
    #[arg(long)]
    markdown: bool,
    /// Where the scenarios are.
    #[arg(long, default_value = "lab/scenarios", value_name = "FOLDER")]
    folder: PathBuf,
}

/// Fails if a promise was not kept.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(name) = &arguments.trace {
        let scenario = find(&arguments.folder, name)?;
        let lines = trace(&scenario, &play(&scenario, Clients::Managed, arguments.seed));
        return Ok(show(&format!("{lines}{}", judge(&scenario, &[arguments.seed])))?);
    }
    let scenarios = match arguments.names.as_slice() {
        [] => Scenario::load_all(&arguments.folder)?,
        names => names.iter().map(|name| find(&arguments.folder, name)).collect::<Result<_, _>>()?,
    };
    if let Some(folder) = &arguments.plot {
        fs::create_dir_all(folder)?;
        for scenario in &scenarios {
            let file = folder.join(format!("{}.svg", scenario.name));
            fs::write(&file, plot(scenario, &play(scenario, Clients::Managed, arguments.seed))?)?;
        }
    }
    let seeds: Vec<u64> = (0..arguments.seeds).map(|more| arguments.seed.wrapping_add(more)).collect();
    let verdicts = judge_all(&scenarios, &seeds);
    let mut text = String::new();
    if arguments.markdown {
        text += "| scenario | figure | expected | found |\n|---|---|---|---|\n";
    }
    for verdict in &verdicts {
        match arguments.markdown {
            true => text += &verdict.rows(),
            false => writeln!(text, "{verdict}")?,
        }
    }
    let findings = || verdicts.iter().flat_map(|verdict| &verdict.findings);
    let missed = findings().filter(|finding| !finding.holds()).count();
    writeln!(text, "\n{} scenarios, {} promises, {missed} missed", verdicts.len(), findings().count())?;
    show(&text)?;
    if missed == 0 { Ok(()) } else { Err(format!("{missed} promises were not kept").into()) }
}

/// Prints; whoever reads may have had enough.
fn show(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A file of its own, or one of the folder by its name.
fn find(folder: &Path, name: &str) -> Result<Scenario, Box<dyn std::error::Error + Send + Sync>> {
    if name.ends_with(".toml") {
        return Ok(Scenario::load(Path::new(name))?);
    }
    let path = folder.join(format!("{name}.toml"));
    if path.exists() {
        return Ok(Scenario::load(&path)?);
    }
    let known: Vec<String> = Scenario::load_all(folder)?.into_iter().map(|scenario| scenario.name).collect();
    Err(format!("{} has no scenario {name:?}; it has {}", folder.display(), known.join(", ")).into())
}
