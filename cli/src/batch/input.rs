//! The input, read and understood on a thread of its own, so that neither a slow pipe nor a long line holds up a call. What is
//! read ahead is bounded: the thread waits for its reader.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek as _},
    path::{Path, PathBuf},
    thread,
};

use tokio::sync::mpsc;

use super::{
    ids::{Ids, Met, REQUESTS_MAX},
    lines::Lines,
    request::{BadLine, Request},
};
use crate::failure::Failure;

/// Bytes in a line. Longer than any provider takes.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines that are read ahead.
const AHEAD: usize = 4;
/// What editors elsewhere put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the input says, line by line. Blank lines do not count.
#[derive(Debug)]
pub(super) enum Item {
    /// So many lines there are, where that can be known beforehand.
    Total(u64),
    Call(Request),
    /// An earlier run has the result of this line's request.
    Answered,
    Bad(u64, BadLine),
    /// The rest can't be read.
    Failed(Failure),
}

/// Where the input comes from.
#[derive(Debug)]
pub(super) enum Input {
    File(PathBuf, File),
    Stdin,
}

impl Input {
    /// Opens a file, or stdin by the name of `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Input::Stdin);
        }
        let file = File::open(path).map_err(|error| cannot_read(&path.display().to_string(), &error))?;
        Ok(Input::File(path.to_owned(), file))
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Input::File(path, _) => Some(path),
            Input::Stdin => None,
        }
    }

    /// Reads it on a thread of its own. `ids` are those that are answered already.
    pub(super) fn read(self, ids: Ids) -> mpsc::Receiver<Item> {
        let (items, read) = mpsc::channel(AHEAD);
        thread::spawn(move || {
            let name = self.path().map_or("stdin".to_owned(), |path| path.display().to_string());
            let mut reading = Reading { items, ids, line: 0 };
            if let Err(error) = reading.all(self) {
                // Nobody listens to a run that has ended.
                let _ = reading.items.blocking_send(Item::Failed(cannot_read(&name, &error)));
            }
        });
        read
    }
}

struct Reading {
    items: mpsc::Sender<Item>,
    ids: Ids,
    line: u64,
}

impl Reading {
    fn all(&mut self, input: Input) -> io::Result<()> {
        match input {
            Input::Stdin => self.lines(io::stdin().lock()),
            Input::File(_, mut file) => {
                // A pipe that has a name is read as stdin is: once.
                if file.metadata()?.is_file() {
                    let total = count(BufReader::new(&file))?;
                    file.rewind()?;
                    if self.items.blocking_send(Item::Total(total)).is_err() {
                        return Ok(());
                    }
                }
                self.lines(BufReader::new(file))
            }
        }
    }

    fn lines(&mut self, reader: impl BufRead) -> io::Result<()> {
        let mut lines = Lines::new(reader, LINE_BYTES_MAX);
        while let Some(line) = lines.next()? {
            self.line += 1;
            if line.is_blank() {
                continue;
            }
            let item = if line.is_too_long {
                let problem = format!("is longer than {LINE_BYTES_MAX} bytes; split the request");
                Item::Bad(self.line, BadLine { custom_id: None, problem })
            } else {
                self.item(line.bytes)
            };
            let is_last = matches!(item, Item::Failed(_));
            if self.items.blocking_send(item).is_err() || is_last {
                break;
            }
        }
        Ok(())
    }

    fn item(&mut self, bytes: &[u8]) -> Item {
        let bytes = if self.line == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
        let request = match Request::read(bytes) {
            Ok(request) => request,
            Err(bad) => return Item::Bad(self.line, bad),
        };
        match self.ids.meet(&request.custom_id, self.line) {
            Met::New => Item::Call(request),
            Met::Answered => Item::Answered,
            Met::Doubled(first) => {
                let problem =
                    format!("custom_id: stands on line {first} already; give every request one of its own");
                Item::Bad(self.line, BadLine { custom_id: Some(request.custom_id), problem })
            }
            Met::Full => {
                let failure = Failure::new(format!("the input has more than {REQUESTS_MAX} requests"));
                Item::Failed(failure.hint("split it, and give each part an --out of its own"))
            }
        }
    }
}

/// Lines that are not blank.
fn count(reader: impl BufRead) -> io::Result<u64> {
    let mut lines = Lines::new(reader, LINE_BYTES_MAX);
    let mut count = 0;
    while let Some(line) = lines.next()? {
        count += u64::from(!line.is_blank());
    }
    Ok(count)
}

fn cannot_read(name: &str, error: &io::Error) -> Failure {
    Failure::new(format!("can't read {name}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let (items, mut read) = mpsc::channel(100);
        let mut ids = Ids::default();
        assert!(ids.answered("done"));
        let mut reading = Reading { items, ids, line: 0 };
        reading.lines(text.as_bytes()).expect("memory can be read");
        drop(reading);
        let mut said = Vec::new();
        while let Ok(item) = read.try_recv() {
            said.push(match item {
                Item::Call(request) => format!("call {}", request.custom_id),
                Item::Answered => "answered".to_owned(),
                Item::Bad(line, bad) => format!("bad {line}: {}", bad.problem),
                Item::Total(_) | Item::Failed(_) => panic!("{item:?}"),
            });
        }
        said
    }

    /// Goal: blank lines count for line numbers and nothing else; doubles, answered ones and lines without an end are told apart.
    #[test]
    fn tells_lines_apart() {
        let line = |id: &str| format!("{{\"custom_id\":\"{id}\",\"url\":\"/v1\",\"body\":{{}}}}");
        let text = format!(
            "\u{feff}{}\r\n\n{}\n  \n{}\nnonsense\n{}",
            line("a"),
            line("done"),
            line("a"),
            line("b")
        );
        let said = read(&text);
        assert_eq!(said[..2], ["call a", "answered"]);
        assert!(said[2].starts_with("bad 5: custom_id: stands on line 1 already"), "{said:?}");
        assert!(said[3].starts_with("bad 6: is no JSON object"), "{said:?}");
        assert_eq!(said[4..], ["call b"]);
        assert_eq!(count(text.as_bytes()).expect("memory can be read"), 5);
    }

    /// Goal: a line longer than any may be is told by its number, and the next one runs.
    #[test]
    fn a_line_too_long_is_one_bad_line() {
        let text = format!("{}\n{{\"custom_id\":\"a\",\"params\":{{}}}}", "x".repeat(LINE_BYTES_MAX + 1));
        let said = read(&text);
        assert!(said[0].starts_with("bad 1: is longer than"), "{:.100}", said[0]);
        assert_eq!(said[1..], ["call a"]);
    }
}
