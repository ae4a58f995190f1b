//! What stands over everything else until it is answered.

use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Block, Clear, Paragraph, Wrap},
};

use super::{FAINT, HEAD, TROUBLE};
use crate::{
    format::grouped,
    top::{
        app::{App, Dialog},
        change::{Change, Stage},
        steer::Errand,
    },
};

const HELP: &str = "\
Up, Down, j, k, PgUp, PgDn, Home, End   move
Enter, Right                            open the budget
Esc, Left                               back; among all budgets: drop the filter
/                                       show only some: a part of the name, or a glob
s, r                                    sort by the next: pressure, waiting, granted, 429s, name; reverse
Tab                                     pools and their members, and back to all budgets
p, u                                    pause, resume (which also ends an exhausted quota)
c                                       change the limit under the cursor, after a preview
q, Ctrl-C                               quit

Pressure: somebody waits and nothing is granted; then who waits most; then who has least left.
Red: nothing is granted, of one limit at least. Yellow: somebody waits, or less than a tenth is left.";

/// Columns of a dialog, with its border.
const WIDTH: u16 = 100;

pub(super) fn draw(frame: &mut Frame<'_>, dialog: &Dialog, app: &App) {
    let (title, text) = match dialog {
        // Its line is at the bottom.
        Dialog::Filter => return,
        Dialog::Help => (" Keys ", HELP.lines().map(Line::from).collect()),
        Dialog::Confirm(errand) => (" Sure? ", question(errand, app)),
        Dialog::Change(change) => (" Change a limit ", stages(change, app)),
    };
    let area = frame.area();
    let width = WIDTH.min(area.width);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let lines: usize = text.iter().map(|line| line.width().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(lines + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 3, width, height);
    frame.render_widget(Clear, place);
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: false });
    frame.render_widget(paragraph.block(Block::bordered().title(title)), place);
}

fn question(errand: &Errand, app: &App) -> Vec<Line<'static>> {
    let waiting = |name: &str| grouped(app.board.get(name).map_or(0, |seen| seen.state.waiting));
    let text = match errand {
        Errand::Pause(name) => {
            format!(
                "Pause {name}? Nothing is granted then; {} requests wait and go on waiting.",
                waiting(name)
            )
        }
        Errand::Resume(name) => {
            format!(
                "Resume {name}? That ends a pause and an exhausted quota; {} requests wait.",
                waiting(name)
            )
        }
        // Asked about in a dialog of their own.
        Errand::Preview(_) | Errand::Declare(_) => String::new(),
    };
    vec![Line::from(text), Line::default(), Line::styled("y yes, any other key no", FAINT)]
}

fn stages(change: &Change, app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::styled(format!("{} of {}", change.limit, change.budget), HEAD),
        Line::from(format!("{} is declared. Another amount: {}_", grouped(change.amount()), change.text)),
    ];
    lines.extend(change.complaint.clone().map(|complaint| Line::styled(complaint, TROUBLE)));
    lines.push(Line::default());
    let keys = match &change.stage {
        Stage::Written => "60, 100k or 2M; Enter shows what it would do, Esc leaves all as it is",
        Stage::Asked => "the server is asked",
        Stage::Previewed(after) => {
            lines.extend(change.effect(after, app.explained.as_deref()).into_iter().map(Line::from));
            lines.push(Line::default());
            "Enter puts it in force, Esc leaves all as it is"
        }
    };
    lines.push(Line::styled(keys, FAINT));
    lines
}
