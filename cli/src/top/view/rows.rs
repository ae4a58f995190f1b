//! Tables of which only the rows that are seen are built.

use ratatui::{
    layout::{Alignment, Constraint},
    style::Style,
    text::Text,
    widgets::{Row, Table},
};

use super::HEAD;

/// How a column stands, and how wide it is.
pub(super) type Column = (&'static str, Alignment, Constraint);

/// A column whose texts begin at its left.
pub(super) const fn left(name: &'static str, width: Constraint) -> Column {
    (name, Alignment::Left, width)
}

/// A column of figures, which end at its right.
pub(super) const fn right(name: &'static str, width: u16) -> Column {
    (name, Alignment::Right, Constraint::Length(width))
}

/// A table with a head.
pub(super) fn table<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = ([String; N], Style)>,
) -> Table<'static> {
    let stand = |texts: [String; N]| {
        let cells = texts.into_iter().zip(columns);
        Row::new(cells.map(|(text, (_, alignment, _))| Text::from(text).alignment(alignment)))
    };
    let head = stand(columns.map(|(name, ..)| name.to_owned())).style(HEAD);
    let rows: Vec<Row<'_>> = rows.into_iter().map(|(texts, style)| stand(texts).style(style)).collect();
    Table::new(rows, columns.map(|(.., width)| width)).header(head)
}
