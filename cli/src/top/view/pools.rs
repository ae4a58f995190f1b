//! All pools, a line for each member, and why the one under the cursor is passed over.

use permitd_proto::v1;
use permitd_server::shown::{member_name, member_now, pool_name, shown, taken};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::Line,
    widgets::{Paragraph, Wrap},
};

use super::{
    CHOSEN, FAINT, HEAD, TROUBLE, WARNING,
    chart::bar,
    rows::{left, right, table},
    say, window,
};
use crate::{format::grouped, top::app::App};

/// Characters of the bar that tells what is taken.
const BAR: usize = 8;
/// Lines for what is said of one member.
const SAID: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let pools = &app.pools;
    let count = pools.rows().count();
    if count == 0 {
        let text = match pools.told {
            false => "nothing is told yet",
            true => "no pools; the server's configuration declares them, under [pools]",
        };
        return say(frame, area, text);
    }
    let [list, said] = Layout::vertical([Constraint::Min(0), Constraint::Length(SAID)]).areas(area);
    let chosen = pools.cursor();
    let (range, fit) = window(list, count, chosen);
    let rows: Vec<_> = pools.rows().enumerate().skip(range.start).take(range.len()).collect();
    let mut above = None;
    let rows = rows.into_iter().map(|(at, (pool, member))| {
        let name = pool_name(pool);
        // A pool's name stands once, and again on a page that begins amid its members.
        let is_new = above.as_ref() != Some(&name);
        let head = if is_new { name.clone() } else { String::new() };
        above = Some(name);
        let (cells, style) = row(head, member);
        (cells, if at == chosen { style.patch(CHOSEN) } else { style })
    });
    let columns = [
        left("POOL", Constraint::Fill(2)),
        left("MEMBER", Constraint::Fill(2)),
        right("PREFER", 6),
        right("WEIGHT", 6),
        left("TIGHTEST LIMIT", Constraint::Fill(2)),
        left("TAKEN", Constraint::Length(BAR as u16 + 6)),
        right("WAITING", 7),
        right("IN FLIGHT", 9),
        right("GRANTED", 9),
        left("NOW", Constraint::Length(11)),
    ];
    frame.render_widget(table(columns, rows), list);
    let text = pools.chosen().map(told).unwrap_or_default();
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), said);
    app.page = fit;
}

fn row(pool: String, member: &v1::PoolMember) -> ([String; 10], Style) {
    let tightest = member.tightest.as_ref();
    let limit = tightest.and_then(|limit| limit.configured.as_ref());
    let part = tightest.map_or(0, taken);
    let style = match (member.passed_over.is_empty(), member.next) {
        (false, _) => TROUBLE,
        (true, true) => HEAD,
        (true, false) if member.waiting > 0 => WARNING,
        (true, false) => Style::new(),
    };
    let cells = [
        pool,
        member_name(member),
        member.prefer.to_string(),
        member.weight.to_string(),
        limit.map_or_else(|| "no limits".to_owned(), |limit| shown(limit).name),
        format!("{} {:>4}%", bar(part, BAR), part / 10),
        grouped(member.waiting),
        grouped(member.in_flight),
        grouped(member.granted),
        member_now(member).to_owned(),
    ];
    (cells, style)
}

/// What is to be said of a member.
fn told(member: &v1::PoolMember) -> Vec<Line<'static>> {
    let name = member_name(member);
    let text = match (member.passed_over.as_slice(), member.next) {
        ([], true) => format!("{name} grants whoever comes next and fits."),
        ([], false) if member.waiting > 0 => {
            format!("{name} has a queue: whoever comes waits behind it, if for the same limits.")
        }
        ([], false) => format!("{name} can grant; another one is asked before it."),
        (why, _) => format!("{name} is passed over: {}", why.join(" ")),
    };
    vec![Line::default(), Line::styled(text, FAINT)]
}
