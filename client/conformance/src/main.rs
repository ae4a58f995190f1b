//! Holds every client library to the same cases, and prints a table language x case. Ends with 1 if anything fails, with 2 if
//! nothing could be run.

mod case;
mod driver;
mod expect;
mod fake;
mod language;
mod provider;
mod run;
mod stage;
mod table;
mod tokens;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use futures_util::{StreamExt as _, stream};

use crate::{
    case::Case,
    language::{LANGUAGES, Language},
    run::{Verdict, run},
};

/// Holds the client libraries to the cases of client/conformance/cases.
#[derive(Debug, Parser)]
#[command(name = "permitd-conformance")]
struct Args {
    /// Only this language; may be given again.
    #[arg(long, value_parser = LANGUAGES.map(|language| language.0))]
    language: Vec<String>,
    /// Only cases of this name; `*` stands for anything.
    #[arg(long, default_value = "*")]
    case: String,
    /// What was said in every case, also in those that hold.
    #[arg(long)]
    trace: bool,
    /// The cases and why they are there, without running them.
    #[arg(long)]
    list: bool,
    /// How many cases run at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

async fn start(args: Args) -> Result<bool, String> {
    let mut cases = case::load(&root().join("client/conformance/cases"))?;
    cases.retain(|case| matches(&args.case, &case.name));
    if cases.is_empty() {
        return Err(format!("--case {:?}: there is no such case; --list shows them", args.case));
    }
    if args.list {
        cases.iter().for_each(|case| println!("{}\n    {}", case.name, case.why));
        return Ok(true);
    }
    let languages: Vec<Language> = LANGUAGES
        .into_iter()
        .filter(|language| args.language.is_empty() || args.language.iter().any(|name| name == language.0))
        .collect();
    let built = build(&languages).await;
    let verdicts = run_all(&languages, &built, &cases, &args).await;
    print!("{}", table::render(&languages, &cases, &verdicts));
    Ok(table::failures(&languages, &built, &cases, &verdicts))
}

/// Why each language can't be run, if it can't.
async fn build(languages: &[Language]) -> Vec<Option<String>> {
    let mut built = Vec::new();
    for language in languages {
        eprintln!("building the driver of {}", language.0);
        built.push(language.build().await.err());
    }
    built
}

/// Verdicts by case, then by language; none where the driver was not built.
async fn run_all(
    languages: &[Language],
    built: &[Option<String>],
    cases: &[Case],
    args: &Args,
) -> Vec<Vec<Option<Verdict>>> {
    // A panic around a client is part of the verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let pairs = cases.iter().flat_map(|case| languages.iter().zip(built).map(move |pair| (case, pair)));
    let verdicts = stream::iter(pairs.map(|(case, (language, built))| async move {
        if built.is_some() {
            return None;
        }
        let verdict = run(*language, case.clone()).await;
        let outcome =
            verdict.problem.as_deref().map_or("ok".to_owned(), |problem| format!("FAILED: {problem}"));
        eprintln!("{} in {}: {outcome}", case.name, language.0);
        if args.trace {
            eprintln!("{}", verdict.story);
        }
        Some(verdict)
    }));
    let verdicts: Vec<Option<Verdict>> = verdicts.buffered(args.jobs.into()).collect().await;
    let mut verdicts = verdicts.into_iter();
    cases.iter().map(|_| verdicts.by_ref().take(languages.len()).collect()).collect()
}

/// Whether a name is what a pattern with `*` stands for.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => name.strip_prefix(before).is_some_and(|name| {
            (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(rest, &name[at..]))
        }),
    }
}

/// The repository.
fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
