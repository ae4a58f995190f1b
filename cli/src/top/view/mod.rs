//! The screen: a line on what is watched, all budgets or one at length, and what can be done.

mod budget;
mod chart;
mod dialog;
mod list;
mod pools;
mod rows;

use permitd_server::words::counted;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::app::{App, Dialog};
use crate::format::grouped;

/// What a head looks like.
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
/// The row under the cursor.
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
/// What may be overlooked.
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
/// What somebody should look at.
const TROUBLE: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// What may become trouble.
const WARNING: Style = Style::new().fg(Color::Yellow);

/// What the keys do among all budgets, with one of them, and among pools.
const KEYS: &str = "Enter open  / filter  s sort  r reverse  p pause  u resume  Tab pools  ? help  q quit";
const KEYS_OF_ONE: &str = "Esc back  Up/Down limit  c change  p pause  u resume  ? help  q quit";
const KEYS_OF_POOLS: &str = "Enter open member  p pause  u resume  Tab budgets  ? help  q quit";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(headline(app), top);
    match app.open.clone().and_then(|name| Some((name.clone(), app.board.get(&name)?))) {
        Some((name, seen)) => budget::draw(frame, body, &name, seen, app),
        None if app.pooled => pools::draw(frame, body, app),
        None => list::draw(frame, body, app),
    }
    frame.render_widget(footline(app), bottom);
    if let Some(dialog) = &app.dialog {
        dialog::draw(frame, dialog, app);
    }
}

/// Who is watched, and all budgets together.
fn headline(app: &App) -> Line<'static> {
    let mut line = Line::from(vec![Span::styled("permitd top", HEAD), format!("  {}  ", app.server).into()]);
    if let Some(lost) = &app.lost {
        line.push_span(Span::styled(format!("NOT CONNECTED: {lost}"), TROUBLE));
        return line;
    }
    if app.pooled && app.open.is_none() {
        let (members, over) = app.pools.rows().fold((0, 0), |(members, over), (_, member)| {
            (members + 1, over + u64::from(!member.passed_over.is_empty()))
        });
        let pools = counted(app.pools.count() as u64, "pool", "pools");
        let members = counted(members, "member", "members");
        line.push_span(format!("{pools} with {members}, {} passed over", grouped(over)));
        return line;
    }
    let all = app.board.all();
    let (budgets, mut waiting, mut in_flight, mut rate) = (all.len(), 0, 0, 0);
    for seen in all {
        waiting += u64::from(seen.state.waiting);
        in_flight += u64::from(seen.state.in_flight);
        rate += seen.rate();
    }
    let order = app.board.ordered_by();
    let budgets = counted(budgets as u64, "budget", "budgets");
    let [waiting, in_flight, rate] = [waiting, in_flight, rate].map(grouped);
    line.push_span(format!(
        "{budgets}, {waiting} waiting, {in_flight} in flight, {rate} granted/s; by {order}"
    ));
    line
}

/// What came of the last key, else what can be done.
fn footline(app: &App) -> Line<'static> {
    if matches!(app.dialog, Some(Dialog::Filter)) {
        let filter = app.board.filtered_by();
        return Line::from(format!(
            "filter: {filter}_   (a part of the name, or a glob; Enter keeps it, Esc drops it)"
        ));
    }
    match &app.message {
        Some(message) if message.failed => Line::styled(message.text.clone(), TROUBLE),
        Some(message) => Line::styled(message.text.clone(), HEAD),
        None if app.open.is_some() => Line::styled(KEYS_OF_ONE, FAINT),
        None => Line::styled(if app.pooled { KEYS_OF_POOLS } else { KEYS }, FAINT),
    }
}

/// The part of a list of `count` rows that is to be drawn so that the chosen one is seen, and how many rows fit.
fn window(area: Rect, count: usize, chosen: usize) -> (std::ops::Range<usize>, usize) {
    // The head takes a line.
    let fit = usize::from(area.height.saturating_sub(1)).max(1);
    let first = chosen.saturating_sub(fit / 2).min(count.saturating_sub(fit));
    (first..(first + fit).min(count), fit)
}

/// Says in the middle of nothing why there is nothing.
fn say(frame: &mut Frame<'_>, area: Rect, text: &str) {
    let [_, middle, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(1), Constraint::Fill(2)]).areas(area);
    frame.render_widget(Paragraph::new(text).centered().style(FAINT), middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the row under the cursor is always among those that are drawn, and no more are drawn than fit.
    #[test]
    fn the_chosen_row_is_seen() {
        for height in 0..12 {
            for count in 0..30 {
                for chosen in 0..count {
                    let (range, fit) = window(Rect::new(0, 0, 80, height), count, chosen);
                    assert!(range.contains(&chosen) && range.len() <= fit, "{height} {count} {chosen}");
                    assert!(range.len() == fit.min(count), "no line is left empty that could be used");
                }
            }
        }
    }
}
