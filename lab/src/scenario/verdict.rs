//! What came out against what had to, over one seed or several: of several, the worst counts.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Mutex,
    thread,
};

use super::{
    engine::run,
    expect::{Clients, Expectation, What},
    figures::Figures,
    file::Scenario,
    record::Record,
};

/// One promise and what was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The promise.
    pub expectation: Expectation,
    /// What was found; of several seeds the one farthest from the range, or nearest to its edge.
    pub found: f64,
    /// The seed that gave it.
    pub seed: u64,
}

/// All promises of a scenario.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The scenario's name.
    pub name: String,
    /// What it is about.
    pub why: String,
    /// In the order of the file.
    pub findings: Vec<Finding>,
}

/// Plays a scenario with every seed and compares what comes out.
///
/// # Panics
/// Without a seed there is nothing to judge.
#[must_use]
pub fn judge(scenario: &Scenario, seeds: &[u64]) -> Verdict {
    let mut worst: Vec<Option<Finding>> = vec![None; scenario.expect.len()];
    for &seed in seeds {
        let mut runs = HashMap::new();
        for (worst, expectation) in worst.iter_mut().zip(&scenario.expect) {
            let found = figure(scenario, expectation, seed, &mut runs);
            let finding = Finding { expectation: expectation.clone(), found, seed };
            if worst.as_ref().is_none_or(|worst| finding.slack() < worst.slack()) {
                *worst = Some(finding);
            }
        }
    }
    let findings = worst.into_iter().map(|finding| finding.expect("at least one seed")).collect();
    Verdict { name: scenario.name.clone(), why: scenario.why.clone(), findings }
}

/// Judges scenarios, in the order given, on all cores.
///
/// # Panics
/// As [`judge`].
#[must_use]
pub fn judge_all(scenarios: &[Scenario], seeds: &[u64]) -> Vec<Verdict> {
    let todo: Mutex<VecDeque<usize>> = Mutex::new((0..scenarios.len()).collect());
    let done: Mutex<Vec<(usize, Verdict)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().expect("nobody panics while holding it").pop_front();
                    let Some(at) = next else { return };
                    let verdict = judge(&scenarios[at], seeds);
                    done.lock().expect("nobody panics while holding it").push((at, verdict));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("all threads have ended");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, verdict)| verdict).collect()
}

fn figure(
    scenario: &Scenario,
    expectation: &Expectation,
    seed: u64,
    runs: &mut HashMap<Clients, Record>,
) -> f64 {
    let mut of = |clients: Clients| {
        let record = runs.entry(clients).or_insert_with(|| run(scenario, clients, seed));
        Figures::new(scenario, expectation, record).figure()
    };
    let found = of(expectation.clients);
    match expectation.what {
        What::Share => found / of(Clients::Oracle),
        What::Speedup => found / of(Clients::Sequential),
        _ => found,
    }
}

impl Finding {
    /// Whether the promise was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.expectation.holds(self.found)
    }

    /// How far inside the range it is; negative outside of it.
    fn slack(&self) -> f64 {
        let below = self.expectation.at_least.map_or(f64::INFINITY, |least| self.found - least);
        let above = self.expectation.at_most.map_or(f64::INFINITY, |most| most - self.found);
        let slack = below.min(above);
        if slack.is_nan() { f64::NEG_INFINITY } else { slack }
    }
}

impl Verdict {
    /// Whether all promises were kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.iter().all(Finding::holds)
    }
}

impl Verdict {
    /// The scenario and its promises as rows of a Markdown table: scenario, figure, range, found.
    #[must_use]
    pub fn rows(&self) -> String {
        let mut rows = String::new();
        for (at, finding) in self.findings.iter().enumerate() {
            let name = if at == 0 { format!("`{}`", self.name) } else { String::new() };
            let found = round(finding.found);
            let found = if finding.holds() { found } else { format!("**{found}**") };
            let (what, range) = (&finding.expectation, finding.expectation.range());
            rows += &format!("| {name} | {what} | {range} | {found} |\n");
        }
        rows
    }
}

/// A table: the scenario and why, then a line for every promise.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.why)?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "ok  " } else { "MISS" };
        let (what, range) = (self.expectation.to_string(), self.expectation.range());
        let found = round(self.found);
        write!(f, "{verdict} {what:<58} {range:>16}   found {found:>9}  (seed {})", self.seed)?;
        if self.holds() { Ok(()) } else { write!(f, "\n       because {}", self.expectation.because) }
    }
}

/// Figures for people: as many digits as say something.
pub(super) fn round(figure: f64) -> String {
    let digits = match figure.abs() {
        nothing if nothing.is_nan() => return "nothing".to_owned(),
        size if size < 0.01 => 5,
        size if size < 10.0 => 3,
        size if size < 1_000.0 => 1,
        _ => 0,
    };
    let text = format!("{figure:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a figure has no digits that say nothing, and none that say something are lost.
    #[test]
    fn figures_are_short() {
        let cases = [(0.0, "0"), (0.005, "0.005"), (0.00012, "0.00012"), (0.99, "0.99"), (600.0, "600")];
        for (figure, written) in cases.into_iter().chain([(1234.56, "1235"), (f64::NAN, "nothing")]) {
            assert_eq!(round(figure), written);
        }
    }
}
