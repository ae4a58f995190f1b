//! The ends of sampled requests: noted under the lock, where limits have names, and told without it.

use std::sync::Arc;

use permitd_budget::{Acquired, Event, HeldBy, Refusal, Time};

use super::{Cell, Exemplar, NotTaken, State};
use crate::{
    inbox::Waiter,
    traces::{Ended, Trace},
};

/// A sampled request that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    trace: Arc<Trace>,
    at: Time,
    ended: Ended,
}

impl Cell {
    /// Sends the spans of what ended.
    pub(super) fn tell_finished(finished: Vec<Finished>) {
        for Finished { trace, at, ended } in finished {
            trace.end(at, ended);
        }
    }
}

impl State {
    /// What was answered at once, if it was.
    pub(super) fn note_answer(
        &mut self,
        now: Time,
        trace: Option<Arc<Trace>>,
        answer: &Result<Acquired, NotTaken>,
    ) {
        let Some(trace) = trace else { return };
        match answer {
            Ok(Acquired::Granted(grant)) => self.note_grant(now, trace, grant.waited, HeldBy::Turn),
            Ok(Acquired::Waiting(_)) => {}
            Err(NotTaken::Refused(refusal)) => self.note_refusal(now, trace, refusal),
            Err(NotTaken::TooManyPermits) => {
                let ended = Ended::Refused { reason: "TOO_MANY_PERMITS", limit: None };
                self.finished.push(Finished { trace, at: now, ended });
            }
            // It is asked again, as another one.
            Err(NotTaken::Gone) => trace.forget(),
        }
    }

    /// What those who waited are told.
    pub(super) fn note_events(&mut self, now: Time, events: &[Event<Waiter>]) {
        for event in events {
            match event {
                Event::Granted {
                    waiter: Waiter { trace: Some(trace), .. },
                    grant,
                    remaining: 0,
                    held_by,
                } => {
                    self.note_grant(now, Arc::clone(trace), grant.waited, *held_by);
                }
                Event::Refused { waiter: Waiter { trace: Some(trace), .. }, refusal } => {
                    self.note_refusal(now, Arc::clone(trace), refusal);
                }
                Event::Granted { .. } | Event::Refused { .. } | Event::Expired { .. } => {}
            }
        }
    }

    fn note_grant(&mut self, now: Time, trace: Arc<Trace>, waited: std::time::Duration, held_by: HeldBy) {
        if let Some(exemplars) = &mut self.exemplars {
            let exemplar = Exemplar { trace_id: trace.trace_id(), waited, at: now };
            exemplars.keep(trace.priority(), exemplar);
        }
        let limit = self.heart.if_awake().and_then(|heart| heart.limit_at(held_by));
        let held_by = match held_by {
            HeldBy::Turn => None,
            HeldBy::Limit(_) => limit.clone(),
            HeldBy::Frozen => Some("frozen".to_owned()),
            HeldBy::Paused => Some("paused".to_owned()),
            HeldBy::Store => Some("store".to_owned()),
        };
        self.finished.push(Finished { trace, at: now, ended: Ended::Granted { waited, held_by, limit } });
    }

    fn note_refusal(&mut self, now: Time, trace: Arc<Trace>, refusal: &Refusal) {
        let ended = Ended::Refused { reason: refusal.reason.name(), limit: refusal.limit.clone() };
        self.finished.push(Finished { trace, at: now, ended });
    }
}
