//! A trace of what callers asked of budgets and how their calls went, for `permitd simulate`: a file with one JSON object a line, bounded
//! in bytes. It has names of budgets, tenants and models, amounts and times; nothing that was sent or answered.
//!
//! Lines are handed over under a budget's lock without waiting. What the writer can't keep up with is left out, and counted in the file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use permitd_budget::{CallFacts, CheckedSpec, Outcome, Priority, Report, Request, Time, Usage};
use serde::{Deserialize, Serialize};

use crate::config::{BudgetName, budget_toml, priority_name};

/// Lines on their way to the file.
const LINES_MAX: usize = 65_536;
/// After which what was written can be read by others.
const FLUSH: Duration = Duration::from_secs(1);

/// One line of a trace. Times are in nanoseconds since 1970, by the server's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// What is declared of a budget, before its first line and whenever it changes.
    Declared {
        /// When.
        at: u64,
        /// Which.
        budget: String,
        /// As the configuration would declare it.
        toml: String,
    },
    /// Somebody asks for permits.
    Asked {
        /// When.
        at: u64,
        /// Of which budget.
        budget: String,
        /// Whose request.
        tenant: String,
        /// For which model; may be empty.
        model: String,
        /// Its class.
        priority: String,
        /// How many permits.
        count: u32,
        /// What each is expected to use.
        estimate: Amounts,
        /// How long it may wait; absent for the budget's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_wait_nanos: Option<u64>,
    },
    /// A call was reported.
    Called {
        /// When.
        at: u64,
        /// Of which budget.
        budget: String,
        /// Whose permit.
        tenant: String,
        /// For which model.
        model: String,
        /// Its class.
        priority: String,
        /// When it was asked for.
        asked: u64,
        /// When it was granted.
        granted: u64,
        /// How the call went.
        outcome: String,
        /// What it used; what is absent is as estimated.
        used: Amounts,
    },
    /// So many lines are missing here.
    Lost {
        /// How many.
        lines: u64,
    },
}

/// Amounts by unit; what is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the heart's usage")]
pub struct Amounts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, u64>,
}

impl From<&Usage> for Amounts {
    fn from(usage: &Usage) -> Self {
        Self {
            requests: usage.requests,
            tokens: usage.tokens,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            max_output_tokens: usage.max_output_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            other: usage.other.iter().map(|(unit, amount)| (unit.to_string(), *amount)).collect(),
        }
    }
}

impl From<Amounts> for Usage {
    fn from(amounts: Amounts) -> Self {
        Self {
            requests: amounts.requests,
            tokens: amounts.tokens,
            input_tokens: amounts.input_tokens,
            output_tokens: amounts.output_tokens,
            max_output_tokens: amounts.max_output_tokens,
            cached_input_tokens: amounts.cached_input_tokens,
            other: amounts.other.into_iter().map(|(unit, amount)| (unit.into(), amount)).collect(),
        }
    }
}

/// Takes lines from budgets.
#[derive(Debug)]
pub(crate) struct Recorder {
    lines: Mutex<Option<SyncSender<Line>>>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes the file.
#[derive(Debug)]
pub(crate) struct RecorderThread {
    recorder: Arc<Recorder>,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Begins a file of at most `bytes_max` bytes; what was in it is gone.
    pub(crate) fn start(path: &Path, bytes_max: u64) -> io::Result<(Arc<Self>, RecorderThread)> {
        let file = File::create(path)?;
        let (sender, lines) = sync_channel(LINES_MAX);
        let lost = Arc::<AtomicU64>::default();
        let recorder = Arc::new(Self { lines: Mutex::new(Some(sender)), lost: Arc::clone(&lost) });
        let writer = Writer { file: BufWriter::new(file), left: bytes_max, lost };
        let thread = thread::Builder::new().name("record".to_owned()).spawn(move || writer.run(&lines))?;
        Ok((Arc::clone(&recorder), RecorderThread { recorder, thread }))
    }

    pub(crate) fn declared(&self, at: Time, budget: &BudgetName, spec: &CheckedSpec) {
        let toml = budget_toml(budget, spec);
        self.put(Line::Declared { at: at.as_nanos(), budget: budget.to_string(), toml });
    }

    pub(crate) fn asked<W>(&self, at: Time, budget: &BudgetName, request: &Request<'_, W>) {
        // Whichever ends first.
        let gives_up = request.gives_up.map(|time| time.since(at));
        let max_wait = request.max_wait.into_iter().chain(gives_up).min();
        self.put(Line::Asked {
            at: at.as_nanos(),
            budget: budget.to_string(),
            tenant: request.tenant.to_owned(),
            model: request.model.to_owned(),
            priority: priority_name(request.priority).to_owned(),
            count: request.count.max(1),
            estimate: (&request.estimate).into(),
            max_wait_nanos: max_wait.map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
        });
    }

    pub(crate) fn called(&self, at: Time, budget: &BudgetName, call: &CallFacts, report: &Report) {
        let nanos = |time: Time| time.as_nanos();
        self.put(Line::Called {
            at: nanos(at),
            budget: budget.to_string(),
            tenant: call.tenant.clone(),
            model: call.model.clone(),
            priority: priority_name(call.priority).to_owned(),
            asked: nanos(asked_at(call)),
            granted: nanos(call.granted),
            outcome: report.outcome.name().to_owned(),
            used: (&report.actual).into(),
        });
    }

    fn put(&self, line: Line) {
        if let Some(sender) = &*self.lines.lock()
            && sender.try_send(line).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RecorderThread {
    /// Writes what is on its way. False if the thread panicked.
    pub(crate) fn finish(self) -> bool {
        drop(self.recorder.lines.lock().take());
        self.thread.join().is_ok()
    }
}

struct Writer {
    file: BufWriter<File>,
    /// Bytes that may still be written.
    left: u64,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Line>) {
        loop {
            let wrote = match lines.recv_timeout(FLUSH) {
                Ok(line) => self.write_all(&line),
                Err(RecvTimeoutError::Timeout) => self.file.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = wrote {
                tracing::error!(%error, "the trace ends here");
                return;
            }
        }
        if let Err(error) = self.file.flush() {
            tracing::error!(%error, "the end of the trace is not written");
        }
    }

    fn write_all(&mut self, line: &Line) -> io::Result<()> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.write(&Line::Lost { lines: lost })?;
        }
        self.write(line)
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let bytes = text.len() as u64;
        if bytes > self.left {
            // Smaller ones that follow would leave a trace with holes.
            if self.left > 0 {
                tracing::warn!("the trace has all the bytes that it may have, and goes no further");
            }
            self.left = 0;
            return Ok(());
        }
        self.left -= bytes;
        self.file.write_all(&text)
    }
}

/// When the permit of a call was asked for.
pub(crate) fn asked_at(call: &CallFacts) -> Time {
    let waited = u64::try_from(call.waited.as_nanos()).unwrap_or(u64::MAX);
    Time::from_nanos(call.granted.as_nanos().saturating_sub(waited))
}

/// The class of that name.
#[must_use]
pub fn priority_of(name: &str) -> Option<Priority> {
    Priority::ALL.into_iter().find(|priority| priority_name(*priority) == name)
}

/// Whether a call of that outcome was made and is over.
#[must_use]
pub fn was_made(outcome: &str) -> bool {
    outcome != Outcome::Cancelled.name()
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;

    /// Goal: what is recorded is read back line by line, the file has at most its bytes, and a full one ends with a whole line.
    #[test]
    fn is_bounded_and_read_back() {
        let folder = std::env::temp_dir().join(format!("permitd-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("trace.jsonl");
        for (bytes_max, all) in [(1_000_000, true), (3_000, false)] {
            let (recorder, thread) = Recorder::start(&path, bytes_max).expect("a file");
            let name: BudgetName = "p/k".parse().expect("a name");
            let limits = vec![LimitSpec::in_flight(5)];
            let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("sound");
            recorder.declared(Time::ZERO, &name, &spec);
            for number in 0..100 {
                let request = Request {
                    tenant: "web",
                    model: "m",
                    priority: Priority::Batch,
                    estimate: Usage::of_tokens(number),
                    count: 1,
                    max_wait: None,
                    gives_up: Some(Time::from_nanos(number + 7)),
                    waiter: (),
                };
                recorder.asked(Time::from_nanos(number), &name, &request);
            }
            assert!(thread.finish(), "no panic");
            let text = std::fs::read_to_string(&path).expect("written");
            assert!(text.len() as u64 <= bytes_max && text.ends_with('\n'), "{}", text.len());
            let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
            assert_eq!(lines.len() == 101, all, "{}", lines.len());
            assert!(
                matches!(&lines[0], Line::Declared { toml, .. } if toml.contains("in_flight=5")),
                "{:?}",
                lines[0]
            );
            let Line::Asked { at: 4, estimate, max_wait_nanos: Some(7), .. } = &lines[5] else {
                panic!("{:?}", lines[5])
            };
            assert_eq!(Usage::from(estimate.clone()), Usage::of_tokens(4));
        }
        std::fs::remove_dir_all(&folder).expect("gone");
    }
}
