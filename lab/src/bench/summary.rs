//! Medians and ratios, as a table.

use std::{collections::BTreeMap, fmt, thread, time::Duration};

use hdrhistogram::Histogram;

use super::{
    Plan,
    latency::STEP,
    load::{Load, Turn},
};

/// What every turn came to.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<Load, Vec<Turn>>);

impl Figures {
    pub(super) fn add(&mut self, load: Load, turn: Turn) {
        self.0.entry(load).or_default().push(turn);
    }

    /// Items a second.
    pub(super) fn median(&self, load: Load) -> f64 {
        self.median_of(load, |turn| turn.items as f64 / turn.taken.as_secs_f64())
    }

    /// CPU of servers and load together, in microseconds an item.
    fn cpu(&self, load: Load) -> f64 {
        self.median_of(load, |turn| turn.cpu.as_secs_f64() * 1e6 / turn.items as f64)
    }

    fn median_of(&self, load: Load, figure: impl Fn(&Turn) -> f64) -> f64 {
        let mut all: Vec<f64> = self.0.get(&load).into_iter().flatten().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Acquire to grant at half load, in nanoseconds.
#[derive(Debug)]
pub(super) struct Latencies {
    /// Items a second.
    pub(super) half: f64,
    pub(super) permitd: Histogram<u64>,
    pub(super) echo: Histogram<u64>,
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nacquire to grant at half load ({:.0} items/s, sent every {STEP:?})", self.half)?;
        for (name, waits) in [("bare echo", &self.echo), ("permitd", &self.permitd)] {
            let at = |quantile| Duration::from_nanos(waits.value_at_quantile(quantile));
            let [half, most, nearly_all] = [at(0.5), at(0.99), at(0.999)];
            write!(f, "\n{name:<12} p50 {half:>9.3?}   p99 {most:>9.3?}   p99.9 {nearly_all:>9.3?}")?;
        }
        Ok(())
    }
}

/// The outcome of a benchmark, for people.
#[derive(Debug)]
pub struct Summary(String);

impl Summary {
    pub(super) fn new(plan: &Plan, figures: &Figures, latencies: Option<&Latencies>) -> Self {
        let mut lines = vec![format!(
            "{} connections x {} under way, {} budget(s), {} rounds of {:?}, {} cores shared by servers and load; medians",
            plan.connections,
            plan.window,
            plan.budgets,
            plan.rounds,
            plan.turn,
            thread::available_parallelism().map_or(1, usize::from),
        )];
        lines.push(String::new());
        lines.push(format!("{:<30} {:>12} {:>12} {:>12}", "", "items/s", "CPU us/item", "of the echo"));
        for (load, ceiling) in [
            (Load::EchoStream, Load::EchoStream),
            (Load::Session, Load::EchoStream),
            (Load::EchoCall, Load::EchoCall),
            (Load::Unary, Load::EchoCall),
        ] {
            if !figures.0.contains_key(&load) {
                continue;
            }
            let share = 100.0 * figures.median(load) / figures.median(ceiling);
            let (items, cpu) = (figures.median(load), figures.cpu(load));
            lines.push(format!("{:<30} {items:>12.0} {cpu:>12.2} {share:>10.0} %", load.to_string()));
        }
        lines.extend(latencies.map(ToString::to_string));
        Self(lines.join("\n"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
