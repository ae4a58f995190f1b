//! All budgets, one a line.

use std::time::SystemTime;

use permitd_proto::v1;
use permitd_server::shown::{shown, taken, tightest};
use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::Style,
};

use super::{
    CHOSEN, TROUBLE, WARNING,
    chart::{bar, spark},
    rows::{left, right, table},
    say, window,
};
use crate::{
    format::grouped,
    top::{app::App, board::Seen},
};

/// Columns of a screen that has room for everything.
const WIDE: u16 = 100;
/// The longest chart.
const CHART_MAX: u16 = 30;
/// From there on, in thousandths, little is left.
const TAKEN_WARNS: u32 = 900;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let chosen = app.cursor();
    let shown = app.board.shown();
    let (range, fit) = window(area, shown.len(), chosen);
    let names = shown[range.clone()].to_vec();
    app.page = fit;
    if names.is_empty() {
        let text = match (app.told, app.board.filtered_by()) {
            (false, _) => "nothing is told yet".to_owned(),
            (true, "") => {
                "no budgets yet; create one with `permitd budgets set PROVIDER/KEY --limit requests=60/1m`"
                    .to_owned()
            }
            (true, filter) => format!("no budget matches {filter}; Esc shows all"),
        };
        return say(frame, area, &text);
    }
    let widths = Widths::of(area);
    let rows = names.iter().zip(range).filter_map(|(name, at)| {
        let seen = app.board.get(name)?;
        let (cells, style) = row(name, seen, &widths);
        Some((cells, if at == chosen { style.patch(CHOSEN) } else { style }))
    });
    let columns = [
        left("BUDGET", Constraint::Fill(3)),
        left("TIGHTEST LIMIT", Constraint::Fill(2)),
        left("TAKEN", Constraint::Length(widths.bar + 6)),
        right("WAITING", 8),
        right("IN FLIGHT", 9),
        right("GRANTED/S", 9),
        left(if widths.chart < 7 { "" } else { "OF LATE" }, Constraint::Length(widths.chart)),
        left("STATE", Constraint::Length(widths.state)),
    ];
    frame.render_widget(table(columns, rows), area);
}

/// What a narrow screen has less room for.
struct Widths {
    /// Of the bar that tells what is taken.
    bar: u16,
    /// Of the chart of what was granted in the last seconds.
    chart: u16,
    state: u16,
}

impl Widths {
    fn of(area: Rect) -> Self {
        let chart = (area.width.saturating_sub(WIDE) / 2).min(CHART_MAX);
        if area.width < WIDE { Self { bar: 4, chart, state: 12 } } else { Self { bar: 8, chart, state: 19 } }
    }
}

fn row(name: &str, seen: &Seen, widths: &Widths) -> ([String; 8], Style) {
    let state = &seen.state;
    let tightest = tightest(state);
    let limit = tightest.and_then(|limit| limit.configured.as_ref());
    let part = tightest.map_or(0, taken);
    let halt = halt(state);
    let style = match &halt {
        Some(_) => TROUBLE,
        None if part >= TAKEN_WARNS || state.waiting > 0 => WARNING,
        None => Style::new(),
    };
    let cells = [
        name.to_owned(),
        limit.map_or_else(|| "no limits".to_owned(), |limit| shown(limit).name),
        format!("{} {:>4}%", bar(part, widths.bar.into()), part / 10),
        grouped(state.waiting),
        grouped(state.in_flight),
        grouped(seen.rate()),
        spark(seen.history.iter().map(|second| second.granted), widths.chart.into()),
        [halt, state.shadow.as_ref().map(|_| "shadow".to_owned())]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", "),
    ];
    (cells, style)
}

/// What keeps the budget, or some limit of it, from granting anything.
pub(super) fn halt(state: &v1::BudgetState) -> Option<String> {
    if state.paused {
        return Some("paused".to_owned());
    }
    if state.exhausted {
        let until = state.exhausted_until.as_ref();
        return Some(
            until.map_or_else(|| "exhausted".to_owned(), |until| format!("exhausted, {}", left_of(until))),
        );
    }
    let frozen = state.limits.iter().filter_map(|limit| limit.frozen_until.as_ref());
    let last = frozen.max_by_key(|until| (until.seconds, until.nanos))?;
    Some(format!("frozen, {}", left_of(last)))
}

/// How long until then, by this machine's clock.
pub(super) fn left_of(until: &prost_types::Timestamp) -> String {
    let then = SystemTime::try_from(*until).ok();
    match then.and_then(|then| then.duration_since(SystemTime::now()).ok()) {
        Some(left) => format!("{} left", permitd_server::words::about(left)),
        None => "about to end".to_owned(),
    }
}
