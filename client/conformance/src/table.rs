//! What people see: a table language x case, and below it whatever failed, with the story behind it.

use std::fmt::Write as _;

use crate::{case::Case, language::Language, run::Verdict};

/// Lines of a story that are shown: the last ones.
const STORY_LINES_MAX: usize = 60;

/// The table.
pub(crate) fn render(languages: &[Language], cases: &[Case], verdicts: &[Vec<Option<Verdict>>]) -> String {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let mut table = format!("{:width$}", "");
    for language in languages {
        let _ = write!(table, "  {:10}", language.0);
    }
    for (case, row) in cases.iter().zip(verdicts) {
        let _ = write!(table, "\n{:width$}", case.name);
        for verdict in row {
            let cell = match verdict {
                Some(Verdict { problem: None, .. }) => "ok",
                Some(_) => "FAILED",
                None => "not built",
            };
            let _ = write!(table, "  {cell:10}");
        }
    }
    let lines = table.lines().map(str::trim_end);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Prints what failed, and says whether nothing did.
pub(crate) fn failures(
    languages: &[Language],
    built: &[Option<String>],
    cases: &[Case],
    verdicts: &[Vec<Option<Verdict>>],
) -> bool {
    let mut failed = 0;
    for (language, problem) in languages.iter().zip(built) {
        if let Some(problem) = problem {
            failed += cases.len();
            println!("\n{}: {problem}", language.0);
        }
    }
    for (case, row) in cases.iter().zip(verdicts) {
        for (language, verdict) in languages.iter().zip(row) {
            let Some(Verdict { problem: Some(problem), story }) = verdict else { continue };
            failed += 1;
            println!("\n{} in {}: {problem}\n  {}", case.name, language.0, case.why);
            let lines: Vec<&str> = story.lines().collect();
            for line in &lines[lines.len().saturating_sub(STORY_LINES_MAX)..] {
                println!("    {line}");
            }
        }
    }
    let all = cases.len() * languages.len();
    println!("\n{} of {all} hold", all - failed);
    failed == 0
}
