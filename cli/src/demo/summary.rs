//! The end of the demo: both phases side by side, and what to try next.

use serde::Serialize;

use super::{measure::Figures, scenario::Declared, scenario::Scenario};
use crate::table::{Align, Table};

/// All that the demo found, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    pub(crate) scenario: &'a Scenario,
    /// What permitd was told of the limits.
    pub(crate) declared: Vec<Declared>,
    pub(crate) backoff: Figures,
    pub(crate) permitd: Figures,
}

/// What a reader who liked this may do now.
const NEXT: &str = "\
What to try next:
  permitd serve                                              a server on this machine, for your own services
  permitd budgets set anthropic/prod --limit requests=60/1m  then say what your provider allows
  permitd run anthropic/prod --tokens 1200 -- COMMAND        and pace any command, without a line of code";

impl Summary<'_> {
    /// For people.
    pub(crate) fn render(&self) -> String {
        let columns =
            [("", Align::Left), ("RETRIES WITH BACKOFF", Align::Right), ("THROUGH PERMITD", Align::Right)];
        let mut table = Table::new(&columns);
        let mut row = |name: &str, figure: fn(&Figures) -> String| {
            table.row([name.to_owned(), figure(&self.backoff), figure(&self.permitd)]);
        };
        row("wall time", wall);
        row("share of the possible throughput", |figures| percent(figures.possible_share));
        row("429s per success", |figures| match figures.limited {
            0 => "0".to_owned(),
            _ => format!("{:.2}", figures.limited_per_success),
        });
        row("fairness between equals (Jain's index)", |figures| {
            figures.jain.map_or_else(|| "-".to_owned(), |jain| format!("{jain:.3}"))
        });
        row("interactive client's wait, median", |figures| wait(figures.wait_median_ms));
        row("interactive client's wait, mean", |figures| wait(figures.wait_mean_ms));
        row("interactive client's wait, worst", |figures| {
            let more = if figures.wait_worst_cut_off { "> " } else { "" };
            format!("{more}{}", wait(figures.wait_worst_ms))
        });
        format!("{}\n\n{}\n\n{NEXT}", table.render(), self.explanation())
    }

    fn explanation(&self) -> String {
        let share =
            |(name, share): &(&str, f64)| format!("{:.0} % of {}", share * 100.0, name.replace('_', " "));
        let shares: Vec<String> = self.permitd.shares.iter().map(share).collect();
        let shares = match shares.as_slice() {
            [] => "\nToo short a run to tell; try more --seconds.".to_owned(),
            shares => format!("\nThrough permitd that was {}.", shares.join(", ")),
        };
        format!(
            "The same calls both times. All figures are measured, by the provider's own counters and by the clients'\n\
             clocks. Throughput: what the provider let through while there was a backlog, over the integral of the\n\
             limit that was used most.{shares}"
        )
    }
}

fn wall(figures: &Figures) -> String {
    if figures.done_share >= 1.0 {
        return format!("{:.1} s", figures.wall_seconds);
    }
    format!("> {:.1} s ({:.0} % done)", figures.wall_seconds, (figures.done_share * 100.0).floor())
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn wait(milliseconds: Option<f64>) -> String {
    match milliseconds {
        None => "-".to_owned(),
        Some(short) if short < 1_000.0 => format!("{short:.0} ms"),
        Some(long) => format!("{:.1} s", long / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(done_share: f64, limited: u64) -> Figures {
        Figures {
            wall_seconds: 12.34,
            done_share,
            possible_share: Some(0.987),
            bottleneck: Some("requests"),
            shares: vec![("requests", 0.987)],
            limited,
            succeeded: 100,
            limited_per_success: 1.5,
            jain: Some(0.9991),
            served_seconds: Vec::new(),
            waits: Vec::new(),
            wait_median_ms: Some(31.4),
            wait_mean_ms: Some(200.0),
            wait_worst_ms: Some(4_321.0),
            wait_worst_cut_off: done_share < 1.0,
            backlog_seconds: Some((1.5, 10.0)),
        }
    }

    #[test]
    fn figures_are_told_as_they_are() {
        let scenario = Scenario::new(30, 1, 8);
        let summary = Summary {
            scenario: &scenario,
            declared: scenario.declared(),
            backoff: figures(0.876, 150),
            permitd: figures(1.0, 0),
        };
        let text = summary.render();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("the row").to_owned();
        assert!(line("wall time").contains("> 12.3 s (87 % done)") && line("wall time").ends_with(" 12.3 s"));
        assert!(line("429s per success").contains("1.50") && line("429s per success").ends_with(" 0"));
        assert!(line("interactive client's wait, worst").contains("> 4.3 s"));
        let json = serde_json::to_value(&summary).expect("plain data");
        assert_eq!(json["permitd"]["possible_share"], 0.987);
    }
}
