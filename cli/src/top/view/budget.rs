//! One budget at length: its limits, who waits for what, its tenants, what it did of late, and the server's sentences on it.

use std::cmp::Reverse;

use permitd_proto::v1::{self, Topic};
use permitd_server::{
    shown::{shown, taken},
    words::about,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

use super::{
    CHOSEN, HEAD, TROUBLE, WARNING,
    chart::{bar, spark},
    list::{halt, left_of},
    rows::{left, right, table},
    window,
};
use crate::{
    format::{grouped, span},
    top::{
        app::App,
        board::{SECONDS, Seen},
    },
};

/// Rows of tenants, and of lines of the queue, that are shown at most.
const TENANTS: usize = 6;
const LINES: usize = 8;
/// Rows of limits that are seen at once at most.
const LIMITS: usize = 8;
/// Characters of the bar that tells what is taken.
const BAR: usize = 12;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, name: &str, seen: &Seen, app: &App) {
    let state = &seen.state;
    let lines = app.explained.as_ref().map_or(&[][..], |explained| &explained.lines);
    // A table's head, its rows, and a line between it and the next.
    let rows = |count: usize, most: usize| {
        Constraint::Length(if count == 0 { 0 } else { count.min(most) as u16 + 2 })
    };
    let [head, limits, queue, tenants, sentences] = Layout::vertical([
        Constraint::Length(4),
        rows(state.limits.len(), LIMITS),
        rows(lines.len(), LINES),
        rows(state.tenants.len(), TENANTS),
        Constraint::Min(0),
    ])
    .areas(area);
    draw_head(frame, head, name, seen);
    draw_limits(frame, within(limits), state, app.limit);
    draw_queue(frame, within(queue), lines);
    draw_tenants(frame, within(tenants), state);
    if let Some(explained) = &app.explained {
        frame.render_widget(Paragraph::new(told(explained)).wrap(Wrap { trim: false }), sentences);
    }
}

/// All but the line that keeps it apart from what follows.
fn within(area: Rect) -> Rect {
    Rect { height: area.height.saturating_sub(1), ..area }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, name: &str, seen: &Seen) {
    let state = &seen.state;
    let chart = |of: &str, values: Vec<u64>| {
        let now = values.last().copied().unwrap_or(0);
        Line::from(format!("{of:<10} {} {}", spark(values.into_iter(), SECONDS), grouped(now)))
    };
    let mut title = Line::from(vec![Span::styled(name.to_owned(), HEAD)]);
    title.push_span(format!(
        "  {} waiting, {} in flight, {} granted, {} refused, {} 429s  ",
        grouped(state.waiting),
        grouped(state.in_flight),
        grouped(state.granted_total),
        grouped(state.refused_total),
        grouped(state.rate_limited_total)
    ));
    if !state.owner.is_empty() {
        title.push_span(format!("at {}  ", state.owner));
    }
    title.extend(halt(state).map(|halt| Span::styled(format!("{halt}  "), TROUBLE)));
    title.extend(state.shadow.as_ref().map(|_| Span::styled("shadow: grants everything", WARNING)));
    let text = vec![
        title,
        chart("granted/s", seen.history.iter().map(|second| second.granted).collect()),
        chart("waiting", seen.history.iter().map(|second| second.waiting).collect()),
    ];
    frame.render_widget(Paragraph::new(text), area);
}

fn draw_limits(frame: &mut Frame<'_>, area: Rect, state: &v1::BudgetState, chosen: usize) {
    if area.is_empty() {
        return;
    }
    let (range, _) = window(area, state.limits.len(), chosen.min(state.limits.len().saturating_sub(1)));
    let rows = range.map(|at| {
        let limit = &state.limits[at];
        let configured = limit.configured.clone().unwrap_or_default();
        let part = taken(limit);
        let lesson = match (&limit.frozen_until, limit.learned_from.as_str()) {
            (Some(until), _) => Some(format!("frozen, {}", left_of(until))),
            (None, "") => None,
            (None, from) => Some(format!("from {from}")),
        };
        let hours = otherwise(state, &configured).map(|usual| format!("hours; else {}", grouped(usual)));
        let remark: Vec<String> = lesson.into_iter().chain(hours).collect();
        let cells = [
            shown(&configured).name,
            format!("{} {:>4}%", bar(part, BAR), part / 10),
            grouped(limit.level),
            grouped(limit.effective_amount),
            grouped(configured.amount),
            limit.source.clone(),
            remark.join("; "),
        ];
        let style = match limit.frozen_until.is_some() {
            true => TROUBLE,
            false if limit.effective_amount < configured.amount => WARNING,
            false => Style::new(),
        };
        (cells, if at == chosen { style.patch(CHOSEN) } else { style })
    });
    let columns = [
        left("LIMIT", Constraint::Fill(2)),
        left("TAKEN", Constraint::Length(BAR as u16 + 6)),
        right("FREE", 13),
        right("OF", 13),
        right("DECLARED", 13),
        left("BY", Constraint::Length(7)),
        left("STATE", Constraint::Fill(1)),
    ];
    frame.render_widget(table(columns, rows), area);
}

/// What is declared of a limit for the hours that no schedule names, where another amount is in force now.
fn otherwise(state: &v1::BudgetState, in_force: &v1::Limit) -> Option<u64> {
    let declared = state.budget.as_ref().filter(|declared| !declared.schedule.is_empty())?;
    let now = shown(in_force);
    let usual = declared.limits.iter().find(|limit| shown(limit).name == now.name)?;
    (shown(usual).text != now.text).then_some(usual.amount)
}

fn draw_queue(frame: &mut Frame<'_>, area: Rect, lines: &[v1::WaitingLine]) {
    if area.is_empty() {
        return;
    }
    let rows = lines.iter().take(LINES).map(|line| {
        let first = line.first.clone().unwrap_or_default();
        let wait = |of: Option<&prost_types::Duration>| of.map_or_else(String::new, |of| about(span(of)));
        let cells = [
            line.tenant.clone(),
            line.priority().as_str_name().trim_start_matches("PRIORITY_").to_lowercase(),
            line.model.clone(),
            grouped(line.waiting),
            wait(line.oldest.as_ref()),
            wait(first.estimated_wait.as_ref()),
            first.held_by,
        ];
        (cells, Style::new())
    });
    let columns = [
        left("WHO WAITS", Constraint::Fill(2)),
        left("PRIORITY", Constraint::Length(11)),
        left("MODEL", Constraint::Fill(2)),
        right("WAITING", 8),
        right("FOR", 6),
        right("STILL", 6),
        left("HELD BY", Constraint::Fill(2)),
    ];
    frame.render_widget(table(columns, rows), area);
}

fn draw_tenants(frame: &mut Frame<'_>, area: Rect, state: &v1::BudgetState) {
    if area.is_empty() {
        return;
    }
    let mut tenants: Vec<&v1::TenantState> = state.tenants.iter().collect();
    tenants.sort_by_key(|tenant| Reverse((tenant.waiting, tenant.in_flight, tenant.granted_total)));
    let rows = tenants.into_iter().take(TENANTS).map(|tenant| {
        let declared = state.budget.as_ref().and_then(|budget| budget.tenants.get(&tenant.tenant));
        let weight = declared.map_or(1, |declared| declared.weight.max(1));
        let part = |of: fn(&v1::Tenant) -> u32| match declared.map_or(0, of) {
            0 => String::new(),
            percent => format!("{percent}%"),
        };
        let cells = [
            tenant.tenant.clone(),
            grouped(weight),
            part(|declared| declared.min_percent),
            part(|declared| declared.max_percent),
            grouped(tenant.waiting),
            grouped(tenant.in_flight),
            grouped(tenant.granted_total),
        ];
        (cells, Style::new())
    });
    let columns = [
        left("TENANT", Constraint::Fill(1)),
        right("WEIGHT", 8),
        right("AT LEAST", 9),
        right("AT MOST", 8),
        right("WAITING", 9),
        right("IN FLIGHT", 9),
        right("GRANTED", 13),
    ];
    frame.render_widget(table(columns, rows), area);
}

/// What holds it back, and what would help.
fn told(explained: &v1::ExplainBudgetResponse) -> Vec<Line<'static>> {
    let wanted = |finding: &&v1::Finding| !matches!(finding.topic(), Topic::Waiting | Topic::Unspecified);
    explained.findings.iter().filter(wanted).map(|finding| Line::from(finding.text.clone())).collect()
}
