//! Lines on their way to the disk, on a thread of its own. A line counts once the disk has it: lines that come together are
//! written and synced together, so that syncing costs no throughput, and nothing that was counted is lost whatever dies.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::mpsc;

use super::{output::Outputs, progress::Board};

/// Lines that wait for the disk; more wait where they were made.
const LINES_WAITING_MAX: usize = 16;
/// Bytes that are enough for one write; what comes after them is for the next.
const TOGETHER_BYTES: usize = 4 * 1024 * 1024;

/// A line, and where it belongs.
#[derive(Debug)]
pub(super) enum Entry {
    Result(String),
    Error(String),
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Entry>);

/// The thread that writes them.
#[derive(Debug)]
pub(super) struct Writing(JoinHandle<io::Result<()>>);

impl Writer {
    /// Starts the thread. It ends after the last line of the last writer, or at the first failure.
    pub(super) fn start(outputs: Outputs, board: Arc<Board>) -> (Self, Writing) {
        let (entries, lines) = mpsc::channel(LINES_WAITING_MAX);
        (Self(entries), Writing(thread::spawn(move || write_all(lines, &outputs, &board))))
    }

    /// Hands a line over. False if writing failed; [`Writing::end`] says why.
    pub(super) async fn put(&self, entry: Entry) -> bool {
        self.0.send(entry).await.is_ok()
    }

    /// Resolves when writing has failed.
    pub(super) async fn failed(&self) {
        self.0.closed().await;
    }
}

impl Writing {
    /// Waits until everything is written, or says why it can't be.
    pub(super) fn end(self) -> io::Result<()> {
        self.0.join().expect("the thread that writes does not panic")
    }
}

fn write_all(mut lines: mpsc::Receiver<Entry>, outputs: &Outputs, board: &Board) -> io::Result<()> {
    while let Some(first) = lines.blocking_recv() {
        let mut together = Together::default();
        together.add(first);
        while together.results.len() + together.errors.len() < TOGETHER_BYTES
            && let Ok(entry) = lines.try_recv()
        {
            together.add(entry);
        }
        append(&outputs.results, &together.results)?;
        append(&outputs.errors, &together.errors)?;
        board.written(together.results_count, together.errors_count);
    }
    Ok(())
}

/// Lines that are written at once.
#[derive(Debug, Default)]
struct Together {
    results: Vec<u8>,
    results_count: u64,
    errors: Vec<u8>,
    errors_count: u64,
}

impl Together {
    fn add(&mut self, entry: Entry) {
        let (bytes, count, line) = match entry {
            Entry::Result(line) => (&mut self.results, &mut self.results_count, line),
            Entry::Error(line) => (&mut self.errors, &mut self.errors_count, line),
        };
        bytes.extend_from_slice(line.as_bytes());
        *count += 1;
    }
}

/// Adds to a file, for good. Where only a part could be written, its whole lines stay: they were paid for.
fn append(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let before = file.metadata()?.len();
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // If this fails too, the next run mends it.
        let _ = keep_whole_lines(file, before, bytes);
    }
    written
}

/// Cuts off the part of a line at the end of a file that had `before` bytes, and to which a part of `bytes` was added.
fn keep_whole_lines(file: &File, before: u64, bytes: &[u8]) -> io::Result<()> {
    let added = usize::try_from(file.metadata()?.len().saturating_sub(before)).unwrap_or(usize::MAX);
    let added = &bytes[..added.min(bytes.len())];
    let whole = added.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(before.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    /// Goal: of what a full disk took only in part, the whole lines stay and the rest goes, wherever it stopped.
    #[test]
    fn whole_lines_stay() {
        let path = std::env::temp_dir().join(format!("permitd-writer-{}", std::process::id()));
        let (old, bytes) = ("old\n", "one\ntwo\nthree\n");
        for added in 0..=bytes.len() {
            fs::write(&path, format!("{old}{}", &bytes[..added])).expect("a place for temporary files");
            let file = OpenOptions::new().append(true).open(&path).expect("it is there");
            keep_whole_lines(&file, 4, bytes.as_bytes()).expect("it can be cut");
            let kept = fs::read_to_string(&path).expect("text");
            let whole = &bytes[..bytes[..added].rfind('\n').map_or(0, |end| end + 1)];
            assert_eq!(kept, format!("{old}{whole}"), "{added} bytes were added");
        }
        fs::remove_file(&path).expect("it is ours");
    }
}
