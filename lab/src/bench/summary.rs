//! Medians and ratios, as a table.

use std::{collections::BTreeMap, fmt, thread, time::Duration};

use super::{
    Plan,
    cpu::Cpu,
    latency::{Paced, STEP},
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

    /// CPU of the servers, and of the load, in microseconds an item.
    fn cpu(&self, load: Load, whose: impl Fn(&Cpu) -> Duration) -> f64 {
        self.median_of(load, |turn| whose(&turn.cpu).as_secs_f64() * 1e6 / turn.items as f64)
    }

    fn median_of(&self, load: Load, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.0.get(&load).into_iter().flatten().map(figure))
    }
}

/// Not a number, of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.into_iter().collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Acquire to grant at one rate.
#[derive(Debug)]
pub(super) struct Latencies {
    /// Items a second.
    pub(super) rate: f64,
    pub(super) permitd: Vec<Paced>,
    pub(super) echo: Vec<Paced>,
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\nacquire to grant at {:.0} items/s, sent every {STEP:?}; medians of the rounds",
            self.rate
        )?;
        for (name, turns) in [("bare echo", &self.echo), ("permitd", &self.permitd)] {
            let at = |quantile| {
                let nanos = median(turns.iter().map(|turn| turn.waits.value_at_quantile(quantile) as f64));
                Duration::from_nanos(nanos as u64)
            };
            let [half, most, nearly_all] = [at(0.5), at(0.99), at(0.999)];
            let busy = median(turns.iter().map(|turn| turn.busy));
            write!(
                f,
                "\n{name:<12} p50 {half:>9.3?}   p99 {most:>9.3?}   p99.9 {nearly_all:>9.3?}   CPUs busy {busy:.2}"
            )?;
        }
        Ok(())
    }
}

/// The outcome of a benchmark, for people.
#[derive(Debug)]
pub struct Summary(String);

impl Summary {
    pub(super) fn new(plan: &Plan, figures: &Figures, latencies: &Latencies) -> Self {
        let mut lines = vec![format!(
            "{} connections x {} under way, {} budget(s), {} rounds of {:?}, {} cores shared by servers and load; medians",
            plan.connections,
            plan.window,
            plan.budgets,
            plan.rounds,
            plan.turn,
            thread::available_parallelism().map_or(1, usize::from),
        )];
        if !figures.0.is_empty() {
            lines.push(String::new());
            lines.push(format!(
                "{:<30} {:>12} {:>16} {:>14} {:>12}",
                "", "items/s", "server us/item", "load us/item", "of the echo"
            ));
        }
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
            let (items, name) = (figures.median(load), load.to_string());
            let [server, client] = [figures.cpu(load, |cpu| cpu.servers), figures.cpu(load, |cpu| cpu.load)];
            lines.push(format!("{name:<30} {items:>12.0} {server:>16.2} {client:>14.2} {share:>10.0} %"));
        }
        if !latencies.permitd.is_empty() {
            lines.push(latencies.to_string());
        }
        Self(lines.join("\n"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
