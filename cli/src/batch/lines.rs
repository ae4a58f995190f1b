//! Lines of a file that may be of any size, read one at a time into bounded memory.

use std::io::{self, BufRead};

/// Lines as they come.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    bytes_max: usize,
    line: Vec<u8>,
}

/// One line, without its end.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The line, or as much of it as may be.
    pub(super) bytes: &'a [u8],
    /// Whether it has more bytes than may be.
    pub(super) is_too_long: bool,
    /// Whether its end was there. Only the last line can lack it.
    pub(super) is_ended: bool,
    /// Bytes that it takes in the file, with its end.
    pub(super) length: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader, bytes_max, line: Vec::new() }
    }

    /// The next line; `None` after the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut length, mut is_too_long, mut is_ended) = (0, false, false);
        while !is_ended {
            let read = match self.reader.fill_buf() {
                Ok([]) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            let room = self.bytes_max - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            is_too_long |= part.len() > room;
            is_ended = end.is_some();
            let used = part.len() + usize::from(is_ended);
            self.reader.consume(used);
            length += u64::try_from(used).unwrap_or(u64::MAX);
        }
        Ok((length > 0).then_some(Line { bytes: &self.line, is_too_long, is_ended, length }))
    }
}

impl Line<'_> {
    /// Whether nothing stands on it.
    pub(super) fn is_blank(&self) -> bool {
        !self.is_too_long && self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::Lines;

    /// Goal: lines longer than they may be cost no memory and do not disturb the next one, whatever pieces they come in.
    #[test]
    fn reads_lines_of_any_length() {
        let text = b"ab\n\nabcdefgh\nabcdef\nlast";
        for piece in 1..=text.len() {
            let mut lines = Lines::new(BufReader::with_capacity(piece, &text[..]), 6);
            let mut read = Vec::new();
            while let Some(line) = lines.next().expect("memory can be read") {
                let bytes = String::from_utf8_lossy(line.bytes).into_owned();
                read.push((bytes, line.is_too_long, line.is_ended, line.length));
            }
            let line =
                |text: &str, is_too_long, is_ended, length| (text.to_owned(), is_too_long, is_ended, length);
            let all = [
                line("ab", false, true, 3),
                line("", false, true, 1),
                line("abcdef", true, true, 9),
                line("abcdef", false, true, 7),
                line("last", false, false, 4),
            ];
            assert_eq!(read, all, "in pieces of {piece}");
        }
    }
}
