//! A recorded trace of one budget: who asked for what and when, and how long each call took and what it used.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use permitd_budget::{BudgetSpec, CheckedSpec, Priority, Time, Usage};
use permitd_server::{
    config::{BudgetName, Config},
    record::{Line, priority_of, was_made},
};

use crate::failure::Failure;

/// How long a call takes where none was ever reported.
const CALL: Duration = Duration::from_secs(1);

/// What was recorded of a budget.
#[derive(Debug)]
pub(super) struct Trace {
    /// What was declared last.
    pub(super) declared: CheckedSpec,
    /// In the order in which they came.
    pub(super) asks: Vec<Ask>,
    /// Of calls that nothing is known of.
    pub(super) usual: Duration,
    /// Lines that are missing.
    pub(super) lost: u64,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) at: Time,
    pub(super) tenant: String,
    pub(super) model: String,
    pub(super) priority: Priority,
    pub(super) count: u32,
    pub(super) estimate: Usage,
    pub(super) max_wait: Option<Duration>,
    /// Those of its calls that were reported, at most as many as were asked for.
    pub(super) calls: Vec<Call>,
}

/// How a call went.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) took: Duration,
    pub(super) used: Usage,
}

/// Requests are known by when they came, and from whom for what; those alike are as good as each other.
type Key = (u64, String, String, String);

impl Trace {
    /// Reads what a file says of one budget, without its schedule and shadow mode: limits are replayed as they are declared.
    pub(super) fn read(path: &Path, budget: &BudgetName) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(format!("{} can't be replayed", path.display())).because(why);
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let (mut declared, mut lost, name) = (None, 0, budget.to_string());
        let mut asks: Vec<(Key, Ask)> = Vec::new();
        let mut calls: HashMap<Key, VecDeque<Call>> = HashMap::new();
        let mut lines = BufReader::new(file).lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let wrong = |why: String| wrong(format!("line {}: {why}", number + 1));
            let line = line.map_err(|error| wrong(error.to_string()))?;
            let line = match serde_json::from_str(&line) {
                // Whoever wrote it was ended on the way.
                Err(error) if error.is_eof() && lines.peek().is_none() => {
                    lost += 1;
                    break;
                }
                line => line.map_err(|error| wrong(error.to_string()))?,
            };
            match line {
                Line::Declared { budget, toml, .. } if budget == name => {
                    declared = Some(read_declared(&toml).map_err(wrong)?);
                }
                Line::Asked { at, budget, tenant, model, priority, count, estimate, max_wait_nanos }
                    if budget == name =>
                {
                    let class = priority_of(&priority)
                        .ok_or_else(|| wrong(format!("{priority:?} is no priority")))?;
                    let ask = Ask {
                        at: Time::from_nanos(at),
                        tenant: tenant.clone(),
                        model: model.clone(),
                        priority: class,
                        count,
                        estimate: estimate.into(),
                        max_wait: max_wait_nanos.map(Duration::from_nanos),
                        calls: Vec::new(),
                    };
                    asks.push(((at, tenant, model, priority), ask));
                }
                Line::Called { at, budget, tenant, model, priority, asked, granted, outcome, used }
                    if budget == name && was_made(&outcome) =>
                {
                    let took = Duration::from_nanos(at.saturating_sub(granted));
                    let known = calls.entry((asked, tenant, model, priority)).or_default();
                    known.push_back(Call { took, used: used.into() });
                }
                Line::Lost { lines } => lost += lines,
                Line::Declared { .. } | Line::Asked { .. } | Line::Called { .. } => {}
            }
        }
        let declared = declared.ok_or_else(|| wrong(format!("it says nothing of {name}")))?;
        if asks.is_empty() {
            return Err(wrong(format!("nobody asked for {name}")));
        }
        // Those of pools are written down when they have their answer.
        asks.sort_by_key(|(_, ask)| ask.at);
        let usual = median(calls.values().flatten().map(|call| call.took).collect());
        let asks = asks.into_iter().map(|(key, ask)| with_calls(ask, calls.get_mut(&key))).collect();
        Ok(Self { declared, asks, usual, lost })
    }
}

fn with_calls(ask: Ask, known: Option<&mut VecDeque<Call>>) -> Ask {
    let calls = known.map(|known| (0..ask.count).map_while(|_| known.pop_front()).collect());
    Ask { calls: calls.unwrap_or_default(), ..ask }
}

fn read_declared(toml: &str) -> Result<CheckedSpec, String> {
    let config = Config::read(toml, "the declaration", []).map_err(|error| error.to_string())?;
    let (_, spec) = config.budgets.into_iter().next().ok_or("nothing is declared")?;
    let spec = BudgetSpec { schedule: Vec::new(), shadow: false, ..BudgetSpec::clone(&spec) };
    spec.check().map_err(|error| error.to_string())
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or(CALL)
}
