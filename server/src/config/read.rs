//! Reads a tree of values by path, and remembers everything that is wrong with it: whatever was not asked for is unknown.

use std::{collections::BTreeMap, fmt::Display};

use config::{Value, ValueKind};

use super::{
    error::Problem,
    limit_text::{nearest, parse_amount},
};

/// One table of the tree while it is read. What is left in it at the end is unknown.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    path: String,
    rest: BTreeMap<String, Value>,
    asked: Vec<String>,
    notes: &'a Notes,
}

/// What reading brings to light, shared by all tables.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Problems with their paths, in the order found, with where the value came from.
    pub(super) problems: std::cell::RefCell<Vec<Found>>,
    /// Every path that was asked for.
    pub(super) asked: std::cell::RefCell<Vec<String>>,
}

/// A problem before it is known on which line it stands.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) origin: Option<String>,
    pub(super) message: String,
}

impl Found {
    pub(super) fn at(self, place: String) -> Problem {
        Problem { place, path: self.path, message: self.message }
    }
}

impl Notes {
    pub(crate) fn problem(&self, path: String, origin: Option<&str>, message: String) {
        let origin = origin.map(str::to_owned);
        self.problems.borrow_mut().push(Found { path, origin, message });
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(
        path: String,
        entries: impl IntoIterator<Item = (String, Value)>,
        notes: &'a Notes,
    ) -> Self {
        Self { path, rest: entries.into_iter().collect(), asked: Vec::new(), notes }
    }

    /// A table from a value that ought to be one.
    pub(crate) fn of(path: String, value: Value, notes: &'a Notes) -> Self {
        let origin = value.origin().map(str::to_owned);
        match value.kind {
            ValueKind::Table(entries) => Self::new(path, entries, notes),
            other => {
                notes.problem(
                    path.clone(),
                    origin.as_deref(),
                    format!("{} where a table belongs", kind(&other)),
                );
                Self::new(path, [], notes)
            }
        }
    }

    /// The path of an entry.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.notes.asked.borrow_mut().push(self.path_of(name));
        self.asked.push(name.to_owned());
        self.rest.remove(name)
    }

    /// Takes a table out; an empty one if it is not there.
    pub(crate) fn table(&mut self, name: &str) -> Table<'a> {
        let path = self.path_of(name);
        match self.take(name) {
            Some(value) => Table::of(path, value, self.notes),
            None => Table::new(path, [], self.notes),
        }
    }

    /// Takes a list out, each item with its path; an empty one if it is not there. `example` is a list as it would be right.
    pub(crate) fn items(&mut self, name: &str, example: &str) -> Vec<(String, Value)> {
        let path = self.path_of(name);
        let Some(value) = self.take(name) else { return Vec::new() };
        let origin = value.origin().map(str::to_owned);
        match value.kind {
            ValueKind::Array(items) => {
                items.into_iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect()
            }
            other => {
                let message = format!("{} where a list belongs, like {example}", kind(&other));
                self.notes.problem(path, origin.as_deref(), message);
                Vec::new()
            }
        }
    }

    /// Takes a list of tables out: `[[name]]`.
    pub(crate) fn tables(&mut self, name: &str) -> Vec<Table<'a>> {
        let example = format!("[[{name}]]");
        let items = self.items(name, &example);
        items.into_iter().map(|(path, item)| Table::of(path, item, self.notes)).collect()
    }

    /// Takes all entries out: a table whose keys people choose.
    pub(crate) fn entries(mut self) -> Vec<(String, String, Value)> {
        let rest = std::mem::take(&mut self.rest);
        rest.into_iter().map(|(name, value)| (self.path_of(&name), name, value)).collect()
    }

    /// Takes an entry out and reads it with `read`; notes what is wrong with it.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        match read(&value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.notes.problem(self.path_of(name), value.origin(), error.to_string());
                None
            }
        }
    }

    /// As [`Table::read`]; notes it if there is no such entry.
    pub(crate) fn need<T, E: Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        if !self.rest.contains_key(name) {
            self.problem(format!("{name} is missing"));
        }
        self.read(name, read)
    }

    /// Notes what is wrong with the table as a whole.
    pub(crate) fn problem(&self, message: String) {
        self.notes.problem(self.path.clone(), None, message);
    }

    /// What everything is noted in.
    pub(crate) fn notes(&self) -> &'a Notes {
        self.notes
    }

    /// Notes every entry that nobody asked for, with the nearest that somebody would have.
    pub(crate) fn finish(self) {
        let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        for (name, value) in &self.rest {
            let message = match nearest(name, &known) {
                Some(near) => format!("unknown key; did you mean {}?", self.path_of(near)),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            self.notes.problem(self.path_of(name), first_origin(value), message);
        }
    }
}

/// The path of an entry in the table at `path`; names that are no bare TOML keys are quoted.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name = if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Tables have no origin of their own: that of something in them will do.
fn first_origin(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(entries) => entries.values().find_map(first_origin),
        ValueKind::Array(items) => items.iter().find_map(first_origin),
        _ => None,
    })
}

/// What a value is, for people.
pub(crate) fn kind(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

pub(crate) fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        other => Err(format!("{} where text belongs", kind(other))),
    }
}

pub(crate) fn texts(value: &Value) -> Result<Vec<String>, String> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(text).collect(),
        other => Err(format!("{} where a list of texts belongs", kind(other))),
    }
}

pub(crate) fn duration(value: &Value) -> Result<std::time::Duration, String> {
    match &value.kind {
        ValueKind::String(text) => super::parse_duration(text),
        ValueKind::I64(number) => Err(format!("{number} has no unit; write \"{number}s\" or \"{number}m\"")),
        other => Err(format!("{} where a duration belongs, like \"5m\"", kind(other))),
    }
}

/// A whole number, or text of one (the environment has nothing but text).
pub(crate) fn number(value: &Value) -> Result<u64, String> {
    let negative = |number: &dyn Display| format!("{number} is negative");
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).map_err(|_| negative(number)),
        ValueKind::I128(number) => u64::try_from(*number).map_err(|_| format!("{number} is out of range")),
        ValueKind::U64(number) => Ok(*number),
        ValueKind::String(text) => parse_amount(text),
        other => Err(format!("{} where a whole number belongs", kind(other))),
    }
}

pub(crate) fn flag(value: &Value) -> Result<bool, String> {
    match &value.kind {
        ValueKind::Boolean(flag) => Ok(*flag),
        ValueKind::String(text) if text == "true" => Ok(true),
        ValueKind::String(text) if text == "false" => Ok(false),
        other => Err(format!("{} where true or false belongs", kind(other))),
    }
}
