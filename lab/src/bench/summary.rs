//! Medians and ratios, as a table.

use std::{collections::BTreeMap, fmt, fs, path::Path, thread, time::Duration};

use super::{
    Error, Plan,
    beside::{self, Beside, Told, table},
    cpu::Cpu,
    latency::{Paced, STEP},
    load::{Load, Turn},
};
use crate::chart::{BLUE, Bars, INK};

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

impl Latencies {
    /// permitd's session as permits: an acquire and a report each.
    pub(super) fn session(&self, figures: &Figures) -> Told {
        let at = |quantile| {
            let waits = self.permitd.iter().map(|turn| turn.waits.value_at_quantile(quantile) as f64);
            Duration::from_nanos(median(waits) as u64)
        };
        Told {
            name: Load::Session.to_string(),
            per_second: figures.median(Load::Session) / 2.0,
            server_micros: Some(figures.cpu(Load::Session, |cpu| cpu.servers) * 2.0),
            half: at(0.5),
            most: at(0.99),
        }
    }
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
pub struct Summary {
    text: String,
    /// By the names of their files.
    pictures: Vec<(&'static str, Bars)>,
}

impl Summary {
    pub(super) fn new(plan: &Plan, figures: &Figures, latencies: &Latencies, beside: &Beside) -> Self {
        let mut lines = vec![format!(
            "{} connections x {} under way, {} budget(s), {} tenant(s), {}, {} rounds of {:?}, {} cores shared by servers and load; medians",
            plan.connections,
            plan.window,
            plan.budgets,
            plan.tenants,
            plan.mix,
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
        let mut rows = Vec::new();
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
            rows.push((name, items, if load == ceiling { INK } else { BLUE }));
        }
        let budgets = plan.budgets;
        let title = format!("Items a second, {budgets} budget{}", if budgets == 1 { "" } else { "s" });
        let mut pictures = vec![("bench-items.svg", Bars { title, rows })];
        if !latencies.permitd.is_empty() {
            lines.push(latencies.to_string());
        }
        let others = beside.told(figures, latencies);
        if !others.is_empty() {
            lines.push("\nothers beside it, as permits; waits at half of what each moves".to_owned());
            lines.extend(table(&others));
            pictures.extend(beside::pictures(&others));
        }
        pictures.retain(|(_, bars)| !bars.rows.is_empty());
        Self { text: lines.join("\n"), pictures }
    }

    /// Writes the pictures into a folder.
    ///
    /// # Errors
    /// If a file can't be written, or the drawing library fails.
    pub fn draw(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder)?;
        for (name, bars) in &self.pictures {
            fs::write(folder.join(name), bars.draw()?)?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
