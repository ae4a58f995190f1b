//! What a client is told to do, and what it says it did.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use serde::{Deserialize, Serialize};

/// The first line of stdin, as far as this client reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) slots: usize,
    pub(crate) jobs: Vec<Job>,
    pub(crate) provider: String,
    pub(crate) permitd: String,
    pub(crate) budget: String,
}

/// Whether somebody waits for the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Batch,
    Interactive,
}

/// One call.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Job {
    /// When it is wanted, in milliseconds after the start; for interactive jobs.
    pub(crate) at_ms: Option<u64>,
    pub(crate) prompt_chars: usize,
    pub(crate) max_tokens: u64,
}

/// The last line of stdout. Times are in seconds after the start.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    #[serde(skip)]
    began: Instant,
    failures: Vec<String>,
    jobs: Vec<Times>,
}

/// When a job was wanted, when its last attempt set out, when it was answered.
#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    wanted: f64,
    set_out: Option<f64>,
    ended: Option<f64>,
    failed: bool,
    attempts: u32,
    refused: u32,
    input_tokens: u64,
}

impl Record {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, failures: Vec::new(), jobs: Vec::new() }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// A job is wanted from now on; answers its place.
    pub(crate) fn wanted(&mut self, input_tokens: u64) -> usize {
        let wanted = self.began.elapsed().as_secs_f64();
        let times = Times {
            wanted,
            set_out: None,
            ended: None,
            failed: false,
            attempts: 0,
            refused: 0,
            input_tokens,
        };
        self.jobs.push(times);
        self.jobs.len() - 1
    }

    pub(crate) fn sets_out(&mut self, place: usize) {
        self.jobs[place].attempts += 1;
        self.jobs[place].set_out = Some(self.began.elapsed().as_secs_f64());
    }

    /// The latest attempt came to nothing: the job still waits.
    pub(crate) fn refused(&mut self, place: usize) {
        self.jobs[place].refused += 1;
        self.jobs[place].set_out = None;
    }

    /// The job is over, for the reason given if it failed.
    pub(crate) fn ended(&mut self, place: usize, failure: Option<String>) {
        self.jobs[place].ended = Some(self.began.elapsed().as_secs_f64());
        self.jobs[place].failed = failure.is_some();
        self.failures.extend(failure);
    }
}

/// The next job that nobody has taken.
pub(crate) fn next(jobs: &Mutex<VecDeque<(usize, Job)>>) -> Option<(usize, Job)> {
    locked(jobs).pop_front()
}

/// Nobody panics while holding one of these locks.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
