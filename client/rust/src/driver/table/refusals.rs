//! What refusals do. Some pass by themselves, such as of a server that can't write to its store: within the time that it has, a request
//! waits for the server as it would wait in the queue, and its caller is not told.

use std::time::Duration;

use permitd_proto::v1 as wire;
use tokio::time::Instant;
use tonic::Code;

use super::{HeldState, Refusing, Table, earlier};
use crate::{Error, Outcome, Report, convert, error::reasons, guard::PermitId};

/// Not before that, whatever the server says, so that nobody asks in a busy loop.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// Requests that are asked again within such a span go along together.
const TOGETHER: Duration = Duration::from_millis(10);

/// When asking again may help, if the refusal passes.
fn passes_after(refused: &wire::Refused) -> Option<Duration> {
    let wait = refused.retry_after.filter(|_| refused.code == Code::Unavailable as u32)?;
    Some(convert::duration(wait).max(WAIT_MIN))
}

impl Table {
    pub(crate) fn refused(&mut self, refused: wire::Refused, now: Instant) -> Refusing {
        if !refused.permit_id.is_empty() {
            self.permit_refused(refused, now);
            return Refusing::Told;
        }
        self.cancelling.remove(&refused.request_id);
        if refused.reason == reasons::DRAINING {
            return Refusing::Draining;
        }
        let request_id = self.own_id(refused.request_id);
        if self.ask_again(request_id, &refused, now) {
            return Refusing::Told;
        }
        if let Some(mut waiting) = self.remove(request_id) {
            waiting.reply.send(Err(Error::refused(refused)));
        }
        Refusing::Told
    }

    fn permit_refused(&mut self, refused: wire::Refused, now: Instant) {
        let permit_id: PermitId = refused.permit_id.as_str().into();
        let Some(held) = self.permits.get_mut(&permit_id) else { return };
        let passes_at = passes_after(&refused).map(|wait| now + wait);
        match &mut held.state {
            HeldState::Live { extend_at: at, .. } | HeldState::Reporting { again_at: at, .. }
                if passes_at.is_some() =>
            {
                *at = passes_at;
                self.next_sweep = earlier(self.next_sweep, passes_at);
            }
            HeldState::Live { extend_at, .. } => *extend_at = None,
            // The refusal of an extension, while the report was on its way: that has an answer of its own.
            HeldState::Reporting { .. } if refused.reason == reasons::PERMIT_UNKNOWN => {}
            // Even the outcome alone is refused: there is nothing left to say, the permit will expire.
            HeldState::Reporting { bare: true, .. } => {
                self.reported(&permit_id, Err(Error::refused(refused)))
            }
            HeldState::Reporting { report, reply, bare, .. } => {
                let outcome = report.outcome().unwrap_or(if report.is_good() {
                    Outcome::Success
                } else {
                    Outcome::Failed
                });
                **report = Report::new(outcome);
                *bare = true;
                if let Some(reply) = reply.take() {
                    drop(reply.send(Err(Error::refused(refused))));
                }
                self.outbox.report(permit_id);
            }
        }
    }

    /// When [`ask_due`](Self::ask_due) has something to do.
    pub(crate) fn next_again(&self) -> Option<Instant> {
        self.next_again
    }

    /// Lets a request wait on where its refusal passes within the time that it has. The server gets another number for it, since the
    /// old one stays refused. False if the caller has to be told.
    fn ask_again(&mut self, request_id: u64, refused: &wire::Refused, now: Instant) -> bool {
        let (Some(wait), Some(waiting)) = (passes_after(refused), self.waiting.get_mut(&request_id)) else {
            return false;
        };
        let again_at = now + wait;
        let ends_at = waiting.wait.and_then(|wait| waiting.asked_at.checked_add(wait));
        if ends_at.is_some_and(|at| at < again_at) {
            return false;
        }
        self.renumbered.remove(&waiting.number);
        waiting.number = self.mailbox.next_request_id();
        waiting.sent = false;
        waiting.again_at = Some(again_at);
        self.renumbered.insert(waiting.number, request_id);
        self.next_again = earlier(self.next_again, Some(again_at));
        true
    }

    /// Asks again what was refused for now.
    pub(crate) fn ask_due(&mut self, now: Instant) {
        if self.next_again.is_none_or(|at| now < at) {
            return;
        }
        self.next_again = None;
        for request_id in self.waiting_ids() {
            let Some(waiting) = self.waiting.get_mut(&request_id) else { continue };
            if waiting.again_at.take_if(|at| *at <= now + TOGETHER).is_some() {
                self.outbox.acquire(request_id);
            }
            self.next_again = earlier(self.next_again, waiting.again_at);
        }
    }
}
