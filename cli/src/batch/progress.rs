//! Where a run stands, and what of it is seen on stderr: one line that is drawn over on a terminal, a line now and then elsewhere.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use reqwest::StatusCode;

use super::answer::Answer;
use crate::format::{grouped, rough};

/// Between two looks at the board.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The stretch that the rate is taken over.
const RATE_OVER: Duration = Duration::from_secs(30);

/// Counts of a run, kept by whoever makes them.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Lines of the input; 0 while that is not known.
    total: AtomicU64,
    /// Answered by earlier runs.
    before: AtomicU64,
    results_written: AtomicU64,
    errors_written: AtomicU64,
    answers: AtomicU64,
    successes: AtomicU64,
    limited: AtomicU64,
    repeated: AtomicU64,
    waiting: AtomicU64,
    in_flight: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

/// A board at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) before: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) limited: u64,
    pub(super) repeated: u64,
    pub(super) waiting: u64,
    pub(super) in_flight: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

/// Counts itself out when it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Board {
    pub(super) fn total(&self, lines: u64) {
        self.total.store(lines, Relaxed);
    }

    pub(super) fn answered_before(&self) {
        self.before.fetch_add(1, Relaxed);
    }

    /// The disk has them.
    pub(super) fn written(&self, results: u64, errors: u64) {
        self.results_written.fetch_add(results, Relaxed);
        self.errors_written.fetch_add(errors, Relaxed);
    }

    /// The provider said something.
    pub(super) fn heard_answer(&self, answer: &Answer) {
        self.answers.fetch_add(1, Relaxed);
        self.limited.fetch_add(u64::from(answer.status == StatusCode::TOO_MANY_REQUESTS), Relaxed);
        if answer.status.is_success() {
            self.successes.fetch_add(1, Relaxed);
            let usage = answer.usage();
            self.input_tokens.fetch_add(usage.input_tokens.unwrap_or(0), Relaxed);
            self.output_tokens.fetch_add(usage.output_tokens.unwrap_or(0), Relaxed);
        }
    }

    /// Whether the provider ever said anything.
    pub(super) fn heard(&self) -> bool {
        self.answers.load(Relaxed) > 0
    }

    /// Calls of this run that succeeded.
    pub(super) fn answered(&self) -> u64 {
        self.successes.load(Relaxed)
    }

    /// A request is called again.
    pub(super) fn repeated(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }

    pub(super) fn waiting(&self) -> Counted<'_> {
        counted(&self.waiting)
    }

    pub(super) fn in_flight(&self) -> Counted<'_> {
        counted(&self.in_flight)
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Relaxed);
        Counts {
            total: read(&self.total),
            before: read(&self.before),
            answered: read(&self.results_written),
            failed: read(&self.errors_written),
            limited: read(&self.limited),
            repeated: read(&self.repeated),
            waiting: read(&self.waiting),
            in_flight: read(&self.in_flight),
            input_tokens: read(&self.input_tokens),
            output_tokens: read(&self.output_tokens),
        }
    }
}

fn counted(count: &AtomicU64) -> Counted<'_> {
    count.fetch_add(1, Relaxed);
    Counted(count)
}

impl Counts {
    /// Requests that are through, by this run or an earlier one.
    pub(super) fn done(&self) -> u64 {
        self.before + self.answered + self.failed
    }
}

/// Where progress goes.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    began: Instant,
    next_line: Instant,
    /// What this run had done, some time ago and until now.
    samples: VecDeque<(Instant, u64)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let samples = VecDeque::from([(now, 0)]);
        Self { is_terminal: io::stderr().is_terminal(), began: now, next_line: now + LINE_EVERY, samples }
    }

    /// Since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        put(&format!("{clear}permitd: {text}\n"));
    }

    /// The run as it stands.
    pub(super) fn look(&mut self, counts: &Counts) {
        let now = Instant::now();
        while self.samples.len() > 1 && now - self.samples[0].0 > RATE_OVER {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let made = counts.answered + counts.failed;
        let per_second = made.saturating_sub(before) as f64 / (now - since).as_secs_f64().max(0.001);
        self.samples.push_back((now, made));
        let line = line(counts, per_second);
        if self.is_terminal {
            // A line that wraps could not be drawn over.
            let line: String = line.chars().take(columns() - 1).collect();
            put(&format!("\r\x1b[K{line}"));
        } else if now >= self.next_line {
            self.next_line = now + LINE_EVERY;
            put(&format!("{line}\n"));
        }
    }

    /// Takes the line that is drawn over away.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            put("\r\x1b[K");
        }
    }
}

/// How wide the terminal is; at least 2.
fn columns() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stderr())
        && size.ws_col > 1
    {
        return size.ws_col.into();
    }
    80
}

/// Nobody looking is no reason to stop.
fn put(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn line(counts: &Counts, per_second: f64) -> String {
    let mut parts = vec![match counts.total {
        0 => format!("{} done", grouped(counts.done())),
        total => format!("{} of {} done", grouped(counts.done()), grouped(total)),
    }];
    if counts.failed > 0 {
        parts.push(format!("{} failed", grouped(counts.failed)));
    }
    parts.push(format!("{per_second:.1}/s"));
    let left = counts.total.saturating_sub(counts.done());
    if left > 0 && per_second > 0.0 {
        // More seconds than a u64 holds are for ever, too.
        let eta = Duration::from_secs((left as f64 / per_second).ceil() as u64);
        parts.push(format!("ETA {}", rough(eta)));
    }
    parts.push(format!("in flight {}", grouped(counts.in_flight)));
    parts.push(format!("waiting {}", grouped(counts.waiting)));
    parts.push(format!("429s {}", grouped(counts.limited)));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a line says what is known, and nothing that is not.
    #[test]
    fn tells_what_is_known() {
        let counts = Counts { answered: 1_000, before: 500, in_flight: 3, waiting: 7, ..Counts::default() };
        assert_eq!(line(&counts, 12.34), "1,500 done, 12.3/s, in flight 3, waiting 7, 429s 0");
        let counts = Counts { total: 2_000, failed: 1, limited: 2, ..counts };
        assert_eq!(
            line(&counts, 10.0),
            "1,501 of 2,000 done, 1 failed, 10.0/s, ETA 50s, in flight 3, waiting 7, 429s 2"
        );
        assert!(!line(&counts, 0.0).contains("ETA"), "nobody knows");
    }

    /// Goal: what waits or is in flight counts itself out however it ends.
    #[test]
    fn counts_out() {
        let board = Board::default();
        let one = board.waiting();
        {
            let _other = board.waiting();
            assert_eq!(board.counts().waiting, 2);
        }
        drop(one);
        assert_eq!(board.counts(), Counts::default());
    }
}
