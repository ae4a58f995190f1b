//! Tables with aligned columns: a bold head on a terminal, plain text in a pipe. Nothing is cut off.

use crate::format::on_terminal;

/// Between two columns.
const GAP: &str = "  ";

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table to be printed.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text for stdout as it is.
    pub(crate) fn render(&self) -> String {
        self.render_for(on_terminal())
    }

    fn render_for(&self, terminal: bool) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([self.columns[at].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let head = self.line(&head, &widths);
        let head = if terminal { format!("\x1b[1m{head}\x1b[0m") } else { head };
        let rows = self.rows.iter().map(|row| self.line(row, &widths));
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (at, (_, align)) in self.columns.iter().enumerate() {
            let cell = cells.get(at).map_or("", String::as_str);
            let padding = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            if at > 0 {
                line += GAP;
            }
            match align {
                Align::Left => line += &format!("{cell}{padding}"),
                Align::Right => line += &format!("{padding}{cell}"),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    /// Goal: columns stand under their heads, and no line ends in spaces.
    #[test]
    fn aligns() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("END", Align::Left)]);
        table.row(["a".to_owned(), "1,000".to_owned(), "x".to_owned()]);
        table.row(["longer".to_owned(), "5".to_owned()]);
        let expected = "NAME        N  END\na       1,000  x\nlonger      5";
        assert_eq!(table.render_for(false), expected);
        assert!(table.render_for(true).starts_with("\x1b[1mNAME"));
    }
}
