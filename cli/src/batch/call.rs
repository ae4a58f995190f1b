//! One request from its turn in the queue to its end: a permit, a call, a report, and again while permitd advises it.

use std::{sync::Arc, time::Duration};

use permitd_client::{Client, Error, Guard, Outcome, Priority, Report, Request as Ask};
use reqwest::StatusCode;
use tokio::time::sleep;

use super::{
    answer::Answer,
    progress::Board,
    provider::{NoAnswer, Provider},
    request::Request,
    stop::{Stop, Stopper},
};
use crate::failure::{FAILED, Failure, TRY_LATER, UNAVAILABLE};

/// Between two tries after the first failure; doubled with each further one, and scattered by half, so that not all come at once.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long one place in the queue is waited for; then a new one is asked for.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With success.
    Answered(Answer),
    /// With an answer that is none.
    Refused(Answer),
    /// Without an answer; with a code and a message.
    Failed(&'static str, String),
    /// Not yet: the run was stopped before.
    Left,
    /// Not yet: the run can't go on, for a reason that is not this request's.
    Stuck(Failure),
}

/// How requests are made.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) ask: Ask,
    pub(super) provider: Provider,
    pub(super) board: Arc<Board>,
    pub(super) stopper: Stopper,
    /// How often a request is called at most.
    pub(super) attempts: u32,
}

/// What becomes of a call that did not succeed.
enum Next {
    /// It is made again; the queue holds it back as long as need be.
    Queue(Ended),
    /// It is made again after a pause, since no limit holds it back; at least so long, if the provider said.
    Pause(Ended, Option<Duration>),
    End(Ended),
}

impl Caller {
    /// What permits are asked for.
    pub(super) fn ask(budget: &str, priority: Priority) -> Ask {
        Ask::new(budget).priority(priority).max_wait(MAX_WAIT)
    }

    /// Makes a request, as often as it takes and may be.
    pub(super) async fn make(&self, request: &Request) -> Ended {
        let (mut attempts_left, mut pause) = (self.attempts, PAUSE_FIRST);
        let mut answered_before = self.board.answered();
        loop {
            let guard = tokio::select! {
                biased;
                () = self.stopper.is(Stop::Finish) => return Ended::Left,
                guard = self.permit(request) => match guard {
                    Ok(guard) => guard,
                    Err(ended) => return ended,
                },
            };
            let next = self.call(request, guard).await;
            // A refusal is not the request's fault as long as others get through.
            let answered = self.board.answered();
            let counts = !matches!(next, Next::Queue(_)) || answered == answered_before;
            answered_before = answered;
            attempts_left -= u32::from(counts);
            let (last, again_after) = match next {
                Next::Queue(last) => (last, None),
                Next::Pause(last, told) => (last, Some(scattered(pause).max(told.unwrap_or_default()))),
                Next::End(ended) => return ended,
            };
            if attempts_left == 0 {
                return last;
            }
            self.board.repeated();
            if let Some(span) = again_after {
                pause = (pause * 2).min(PAUSE_MAX);
                tokio::select! {
                    () = self.stopper.is(Stop::Finish) => return Ended::Left,
                    () = sleep(span) => {}
                }
            }
        }
    }

    /// Waits for a permit, however long it takes.
    async fn permit(&self, request: &Request) -> Result<Guard, Ended> {
        let _waiting = self.board.waiting();
        let ask = self.ask.clone().model(&*request.model).estimate(request.estimate.clone());
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.client.acquire(ask.clone()).await {
                Ok(guard) => return Ok(guard),
                Err(error) => error,
            };
            if error.is_impossible() {
                return Err(Ended::Failed("larger_than_limit", error.to_string()));
            }
            if error.is_invalid() {
                return Err(Ended::Failed("invalid_request", error.to_string()));
            }
            let is_used_up = error.reason() == "QUOTA_EXHAUSTED";
            if is_used_up || !(error.retry_after().is_some() || error.is_timeout()) {
                return Err(Ended::Stuck(no_permit(&error)));
            }
            // A queue that is full, for example. Whoever waits at all is woken by the queue and not by this.
            let advised = error.retry_after().unwrap_or_default();
            sleep(scattered(advised.clamp(PAUSE_FIRST, PAUSE_MAX).max(pause))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn call(&self, request: &Request, guard: Guard) -> Next {
        let sent = {
            let _in_flight = self.board.in_flight();
            self.provider.send(request).await
        };
        match sent {
            Ok(answer) => self.heard(answer, guard).await,
            Err(NoAnswer::NotSent(why)) => {
                guard.cancel();
                let stuck = Ended::Stuck(self.provider.unreachable(&why));
                // One that never answered is nothing to wait for.
                if self.board.heard() { Next::Pause(stuck, None) } else { Next::End(stuck) }
            }
            Err(NoAnswer::Lost(why)) => {
                guard.report_detached(Report::failed());
                Next::Pause(Ended::Failed("no_answer", format!("the call has no answer: {why}")), None)
            }
            Err(NoAnswer::Unusable(code, message)) => {
                guard.report_detached(Report::success());
                Next::End(Ended::Failed(code, message))
            }
        }
    }

    /// What an answer means. permitd's server reads it, and says whether another call is worth it.
    async fn heard(&self, answer: Answer, guard: Guard) -> Next {
        let report = answer.report();
        self.board.heard_answer(&answer);
        if answer.status.is_success() {
            guard.report_detached(report);
            return Next::End(Ended::Answered(answer));
        }
        let advice = guard.report(report).await;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Next::End(Ended::Stuck(unauthorised(&answer)));
        }
        // Where nobody can be asked, another try does no harm; the next permit tells more.
        let Ok(advice) = advice else { return Next::Pause(Ended::Refused(answer), None) };
        match advice.outcome {
            Outcome::QuotaExhausted => Next::End(Ended::Stuck(used_up(&answer))),
            _ if !advice.retry => Next::End(Ended::Refused(answer)),
            Outcome::Failed | Outcome::Success => Next::Pause(Ended::Refused(answer), advice.retry_after),
            _ => Next::Queue(Ended::Refused(answer)),
        }
    }
}

/// Half of it to one and a half.
fn scattered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}

/// permitd gives no permits, to nobody.
fn no_permit(error: &Error) -> Failure {
    let exit_code = match error.reason() {
        "QUOTA_EXHAUSTED" => TRY_LATER,
        _ if error.is_unavailable() => UNAVAILABLE,
        _ => FAILED,
    };
    Failure::new(format!("no permits: {error}")).exit_code(exit_code)
}

fn unauthorised(answer: &Answer) -> Failure {
    let failure = Failure::new("the provider does not know the credential (401)").because(excerpt(answer));
    failure.hint("name the variable with the right one by --auth-env, and its header by --auth-header")
}

fn used_up(answer: &Answer) -> Failure {
    let failure = Failure::new("the provider's quota is used up").because(excerpt(answer));
    failure.hint("raise it, or wait for its reset; then `permitd budgets resume`").exit_code(TRY_LATER)
}

fn excerpt(answer: &Answer) -> String {
    const CHARACTERS: usize = 300;
    answer.body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARACTERS).collect()
}
