//! What is seen while a phase runs: a table that is drawn over on a terminal that has room for it, a line every other second
//! elsewhere.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{measure::Sample, protocol::Progress};
use crate::{
    format::on_terminal,
    table::{Align, Table},
};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// The stretch that the rate shown is taken over.
const RATE_OVER: Duration = Duration::from_secs(2);
/// Characters of a progress bar.
const BAR: u64 = 24;
/// Columns that no line of the table is wider than.
const COLUMNS: u16 = 80;

/// Where progress goes.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    live: bool,
    title: String,
    /// Lines of the table that stands on the terminal now.
    drawn: usize,
    /// When the next line is due, since the phase began.
    next_line: Duration,
}

/// A phase as it stands.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) elapsed: Duration,
    pub(crate) rows: Vec<Row<'a>>,
    pub(crate) samples: &'a [Sample],
}

/// A client as it stands.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    /// How many calls it has to make, if that is known.
    pub(crate) calls: Option<u64>,
    pub(crate) progress: Progress,
}

impl Screen {
    /// Progress of so many clients goes to stdout, or to stderr where stdout is for the JSON result alone.
    pub(crate) fn new(json: bool, clients: usize) -> Self {
        let (out, live): (Box<dyn Write + Send>, bool) = if json {
            (Box::new(io::stderr()), false)
        } else {
            (Box::new(io::stdout()), has_room(clients + 2))
        };
        Self { out, live, title: String::new(), drawn: 0, next_line: Duration::ZERO }
    }

    /// Some lines that stay.
    pub(crate) fn say(&mut self, text: &str) {
        // Nobody looking is no reason to stop measuring.
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// Another phase begins.
    pub(crate) fn begin(&mut self, title: &str) {
        title.clone_into(&mut self.title);
        self.drawn = 0;
        self.next_line = LINE_EVERY;
        let text = if self.live { format!("\n\x1b[1m{title}\x1b[0m") } else { format!("\n{title}") };
        self.say(&text);
    }

    /// The phase as it stands.
    pub(crate) fn draw(&mut self, view: &View<'_>) {
        if self.live {
            self.redraw(view);
        } else if view.elapsed >= self.next_line {
            self.next_line += LINE_EVERY;
            self.say(&line(view));
        }
    }

    /// The phase as it stood at its end; stays.
    pub(crate) fn leave(&mut self, view: &View<'_>) {
        if self.live {
            self.redraw(view);
        } else {
            self.say(&line(view));
        }
    }

    fn redraw(&mut self, view: &View<'_>) {
        let text = format!("{}\n{}", line(view), table(view));
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) };
        self.drawn = text.lines().count();
        self.say(&format!("{up}{text}"));
    }
}

/// Whether stdout is a terminal on which so many lines can be drawn over.
#[cfg(unix)]
fn has_room(lines: usize) -> bool {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    on_terminal() && size.is_ok_and(|size| size.ws_col >= COLUMNS && usize::from(size.ws_row) > lines)
}

/// Not every terminal elsewhere understands what drawing over takes.
#[cfg(not(unix))]
fn has_room(_lines: usize) -> bool {
    false
}

/// The phase in one line.
fn line(view: &View<'_>) -> String {
    let sum = |of: fn(&Progress) -> u64| view.rows.iter().map(|row| of(&row.progress)).sum::<u64>();
    let limited: u64 =
        view.samples.last().map_or(0, |last| last.stats.clients.values().map(|client| client.limited).sum());
    let rate = rate(view.samples).map_or(String::new(), |rate| format!("{rate:.1} calls/s, "));
    format!(
        "  {:5.1} s   {rate}{} done, {} in flight, {} waiting, {limited} refused",
        view.elapsed.as_secs_f64(),
        sum(|progress| progress.done),
        sum(|progress| progress.in_flight),
        sum(|progress| progress.waiting),
    )
}

fn table(view: &View<'_>) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("  CLIENT", Align::Left),
        ("", Align::Left),
        right("DONE"),
        right("IN FLIGHT"),
        right("WAITING"),
        right("429s"),
    ]);
    for row in &view.rows {
        let Progress { done, waiting, in_flight, limited } = row.progress;
        let of = row.calls.map_or_else(|| done.to_string(), |calls| format!("{done}/{calls}"));
        let numbers = [in_flight, waiting, limited].map(|number| number.to_string());
        table.row([format!("  {}", row.name), bar(done, row.calls), of].into_iter().chain(numbers));
    }
    table.render()
}

fn bar(done: u64, calls: Option<u64>) -> String {
    let Some(calls) = calls.filter(|calls| *calls > 0) else { return String::new() };
    let filled = usize::try_from(done.min(calls) * BAR / calls).unwrap_or(0);
    let width = usize::try_from(BAR).unwrap_or(0);
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

/// Calls that the provider let through per second of late.
fn rate(samples: &[Sample]) -> Option<f64> {
    let admitted = |sample: &Sample| sample.stats.clients.values().map(|client| client.admitted).sum::<u64>();
    let last = samples.last()?;
    let first = samples.iter().rev().take_while(|sample| last.at - sample.at <= RATE_OVER).last()?;
    let seconds = (last.at - first.at).as_secs_f64();
    let calls = u32::try_from(admitted(last).saturating_sub(admitted(first))).unwrap_or(u32::MAX);
    (seconds > 0.5).then(|| f64::from(calls) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_empty_as_full() {
        assert_eq!(bar(0, Some(7)).chars().count(), bar(9, Some(7)).chars().count());
        assert!(bar(3, Some(7)).starts_with("█") && bar(3, Some(7)).ends_with("░"));
        assert_eq!(bar(3, None), "");
    }

    #[test]
    fn a_line_adds_up_the_fleet() {
        let progress = Progress { done: 2, waiting: 3, in_flight: 4, limited: 0 };
        let row = |name| Row { name, calls: Some(9), progress };
        let view =
            View { elapsed: Duration::from_millis(1_500), rows: vec![row("a"), row("b")], samples: &[] };
        assert_eq!(line(&view), "    1.5 s   4 done, 8 in flight, 6 waiting, 0 refused");
        assert_eq!(table(&view).lines().count(), 3);
    }
}
