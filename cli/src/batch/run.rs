//! A run: lines come in, requests go out as permits come, results are written. It ends when everything is done, when it is told
//! to, or when it can't go on; then calls in flight end first.

use std::sync::Arc;

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    call::{Caller, Ended},
    input::Item,
    progress::{Board, LOOK_EVERY, Screen},
    record::Record,
    request::Request,
    stop::{Stop, Stopper},
    writer::{Entry, Writer},
};
use crate::failure::Failure;

/// Bytes of all requests that are held at once, however many they are. One more is begun as long as there are fewer.
const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a run works with.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) items: mpsc::Receiver<Item>,
    pub(super) caller: Arc<Caller>,
    pub(super) writer: Writer,
    pub(super) board: Arc<Board>,
    pub(super) stopper: Stopper,
    /// Requests at once, waiting or in flight.
    pub(super) concurrency: usize,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Whether every line was seen to.
    pub(super) is_complete: bool,
    /// Why it could not go on.
    pub(super) failure: Option<Failure>,
}

/// Requests that are waiting or in flight.
#[derive(Debug, Default)]
struct Running {
    tasks: JoinSet<Through>,
    held_bytes: usize,
}

/// A request that has left the run.
#[derive(Debug)]
struct Through {
    bytes: usize,
    /// Why the run can't go on, if that is what it met.
    failure: Option<Failure>,
    was_left: bool,
}

impl Run {
    pub(super) async fn make_all(mut self, screen: &mut Screen) -> Outcome {
        let mut running = Running::default();
        let mut outcome = Outcome { is_complete: true, failure: None };
        let (mut input_ended, mut told) = (false, Stop::Run);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = self.stopper.now();
            if stopping > told {
                told = stopping;
                screen.say(&stop_message(stopping, &self.board, outcome.failure.is_some()));
            }
            if stopping == Stop::Now {
                break;
            }
            let reading = stopping == Stop::Run && !input_ended;
            if !reading && running.tasks.is_empty() {
                break;
            }
            let has_room = running.tasks.len() < self.concurrency && running.held_bytes < HELD_BYTES_MAX;
            tokio::select! {
                item = self.items.recv(), if reading && has_room => match item {
                    Some(item) => self.see_to(item, &mut running, &mut outcome).await,
                    None => input_ended = true,
                },
                Some(through) = running.tasks.join_next() => {
                    let through = through.expect("a request's task neither panics nor is aborted");
                    running.held_bytes -= through.bytes;
                    outcome.is_complete &= !through.was_left;
                    if let Some(failure) = through.failure {
                        self.stop_for(failure, &mut outcome);
                    }
                }
                () = self.stopper.is(Stop::Finish), if told < Stop::Finish => {}
                () = self.stopper.is(Stop::Now) => {}
                () = self.writer.failed(), if told < Stop::Finish => self.stopper.stop(Stop::Finish),
                _ = looks.tick() => screen.look(&self.board.counts()),
            }
        }
        outcome.is_complete &= input_ended && running.tasks.is_empty();
        // Until the last of them is gone there is somebody who may still write.
        running.tasks.shutdown().await;
        outcome
    }

    async fn see_to(&mut self, item: Item, running: &mut Running, outcome: &mut Outcome) {
        match item {
            Item::Total(lines) => self.board.total(lines),
            Item::Answered => self.board.answered_before(),
            Item::Bad(line, bad) => {
                let message = format!("line {line}: {}", bad.problem);
                let record = Record::invalid(bad.custom_id.as_deref(), line, &message);
                // If it can't be written, the loop is about to hear of it.
                self.writer.put(Entry::Error(record.line())).await;
            }
            Item::Call(request) => {
                running.held_bytes += request.bytes();
                let (caller, writer) = (Arc::clone(&self.caller), self.writer.clone());
                running.tasks.spawn(see_through(request, caller, writer));
            }
            Item::Failed(failure) => self.stop_for(failure, outcome),
        }
    }

    /// The first reason is the one that is told.
    fn stop_for(&self, failure: Failure, outcome: &mut Outcome) {
        outcome.is_complete = false;
        outcome.failure.get_or_insert(failure);
        self.stopper.stop(Stop::Finish);
    }
}

/// Makes a request and hands its result over to be written.
async fn see_through(request: Request, caller: Arc<Caller>, writer: Writer) -> Through {
    let through = Through { bytes: request.bytes(), failure: None, was_left: false };
    let custom_id = &*request.custom_id;
    let entry = match caller.make(&request).await {
        Ended::Answered(answer) => Entry::Result(Record::answered(custom_id, &answer).line()),
        Ended::Refused(answer) => Entry::Error(Record::answered(custom_id, &answer).line()),
        Ended::Failed(code, message) => Entry::Error(Record::failed(custom_id, code, &message).line()),
        Ended::Left => return Through { was_left: true, ..through },
        Ended::Stuck(failure) => return Through { failure: Some(failure), ..through },
    };
    Through { was_left: !writer.put(entry).await, ..through }
}

fn stop_message(stop: Stop, board: &Board, is_stuck: bool) -> String {
    let in_flight = board.counts().in_flight;
    match stop {
        Stop::Now => format!("stopping at once; {in_flight} calls in flight are given up"),
        _ if is_stuck => format!("can't go on; waiting for {in_flight} calls in flight"),
        _ => {
            format!("stopping: no new calls, waiting for {in_flight} in flight; Ctrl-C again to stop at once")
        }
    }
}
