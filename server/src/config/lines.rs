//! On which line of a TOML text everything stands, for messages about it.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use super::read::join;

/// On which line of the file a path stands.
#[derive(Debug)]
pub(super) struct Lines {
    by_path: HashMap<String, usize>,
}

impl Lines {
    /// Or the line and text of a syntax error.
    pub(super) fn of(text: &str) -> Result<Self, (usize, String)> {
        let breaks = Breaks::of(text);
        let table = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            (breaks.line_at(offset), error.message().to_owned())
        })?;
        let mut by_path = HashMap::new();
        collect_lines(&breaks, "", table.get_ref(), &mut by_path);
        Ok(Self { by_path })
    }

    /// The line of the path, or of the nearest thing around it.
    pub(super) fn of_path(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.by_path.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

fn collect_lines(breaks: &Breaks, at: &str, table: &DeTable<'_>, by_path: &mut HashMap<String, usize>) {
    for (name, value) in table {
        let path = join(at, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect_lines(breaks, &path, inner, by_path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect_lines(breaks, &path, inner, by_path);
                    }
                    by_path.insert(path, breaks.line_at(item.span().start));
                }
            }
            _ => {}
        }
        by_path.insert(path, breaks.line_at(name.span().start));
    }
}

/// Where a text's line breaks are.
struct Breaks(Vec<usize>);

impl Breaks {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect())
    }

    /// Lines count from 1.
    fn line_at(&self, offset: usize) -> usize {
        self.0.partition_point(|line_break| *line_break < offset) + 1
    }
}
