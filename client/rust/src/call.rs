//! One call that does it all: acquire, run, report, and again while the server advises it.

use std::{error, fmt, future::Future};

use tokio::time::{Instant, timeout_at};

use crate::{Client, Error, Guard, Permit, Report, Request};

/// Attempts where nobody said a number.
const ATTEMPTS: u32 = 4;

/// Reads the report out of a call's result. Closures do.
pub trait Classify<T, E> {
    /// How the call went.
    fn classify(&self, result: &Result<T, E>) -> Report;
}

impl<T, E, F: Fn(&Result<T, E>) -> Report> Classify<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Report {
        self(result)
    }
}

/// `Ok` is a success with everything as estimated, `Err` a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E> Classify<T, E> for ByResult {
    fn classify(&self, result: &Result<T, E>) -> Report {
        if result.is_ok() { Report::success() } else { Report::failed() }
    }
}

/// Passes on status and headers of a response; the server reads them by the provider's profile. An `Err` is a failure.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResponse;

#[cfg(feature = "http")]
impl<B, E> Classify<http::Response<B>, E> for ByResponse {
    fn classify(&self, result: &Result<http::Response<B>, E>) -> Report {
        result.as_ref().map_or_else(|_| Report::failed(), Report::response)
    }
}

/// A way of making calls, from [`Client::caller`](crate::Client::caller).
///
/// ```no_run
/// # struct Reply { status: u16, used: u64 }
/// # async fn ask(_prompt: &str) -> std::io::Result<Reply> { Ok(Reply { status: 200, used: 1 }) }
/// # async fn example(client: permitd_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use permitd_client::{Report, Request};
///
/// let caller = client.caller().attempts(6).classify(|result: &std::io::Result<Reply>| match result {
///     Ok(reply) => Report::status(reply.status).tokens(reply.used),
///     Err(_) => Report::failed(),
/// });
/// let reply = caller.call(Request::new("anthropic/prod").tokens(1_200), |_permit| ask("hello")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a caller does nothing before call()"]
pub struct Caller<C> {
    client: Client,
    classify: C,
    attempts: u32,
}

impl Caller<ByResult> {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, classify: ByResult, attempts: ATTEMPTS }
    }
}

impl<C> Caller<C> {
    /// How often the call is made at most; at least once. Default: 4.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How results are read. Also for an `Ok` that holds a refusal, such as an HTTP response with status 429.
    pub fn classify<D>(self, classify: D) -> Caller<D> {
        Caller { client: self.client, classify, attempts: self.attempts }
    }

    /// Acquires, runs the future that `call` makes, reports how it went; and again, waiting in the queue, while the server advises it,
    /// attempts are left and the request's deadline has not passed. The result is the last call's own: with its attempts used up also an
    /// `Ok` that holds a refusal.
    ///
    /// Dropping the returned future leaves the queue; a call that it interrupts is reported as failed.
    ///
    /// # Errors
    /// [`CallError::Permit`]: no permit for the first attempt, or the deadline passed during a call. [`CallError::Call`]: the caller's own.
    pub async fn call<T, E, Fut>(
        &self,
        request: impl Into<Request>,
        mut call: impl FnMut(Permit) -> Fut,
    ) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let request = request.into();
        let mut last = None;
        for attempt in 1..=self.attempts {
            let guard = match (self.client.acquire(request.clone()).await, last) {
                (Ok(guard), _) => guard,
                // There is something better to tell than that it cannot be tried again.
                (Err(_), Some(result)) => return result,
                (Err(error), None) => return Err(CallError::Permit(error)),
            };
            let began = Instant::now();
            let call = call(guard.permit().clone());
            let result = match request.deadline {
                Some(deadline) => match timeout_at(deadline, call).await {
                    Ok(result) => result,
                    // The dropped guard reports the interrupted call.
                    Err(_) => return Err(CallError::Permit(Error::deadline())),
                },
                None => call.await,
            };
            let report = self.classify.classify(&result).latency_if_unknown(began.elapsed());
            let result = result.map_err(CallError::Call);
            if !worth_another(guard, report, attempt < self.attempts, request.deadline).await {
                return result;
            }
            last = Some(result);
        }
        last.expect("at least one attempt was made")
    }
}

/// Reports, and waits for the advice only where it matters.
async fn worth_another(guard: Guard, report: Report, attempts_left: bool, deadline: Option<Instant>) -> bool {
    if report.is_good() || !attempts_left {
        guard.report_detached(report);
        return false;
    }
    let advice = guard.report(report);
    let advice = match deadline {
        Some(deadline) => timeout_at(deadline, advice).await.ok(),
        None => Some(advice.await),
    };
    matches!(advice, Some(Ok(advice)) if advice.retry)
}

/// Why a [`call`](crate::Client::call) has no result.
#[derive(Clone, Debug)]
pub enum CallError<E> {
    /// No permit, or not in time.
    Permit(Error),
    /// The call itself failed.
    Call(E),
}

impl<E> CallError<E> {
    /// Why there was no permit, if that is what failed.
    pub fn permit(&self) -> Option<&Error> {
        match self {
            CallError::Permit(error) => Some(error),
            CallError::Call(_) => None,
        }
    }

    /// The call's own error, if that is what failed.
    pub fn into_call(self) -> Option<E> {
        match self {
            CallError::Permit(_) => None,
            CallError::Call(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Permit(error) => error.fmt(f),
            CallError::Call(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            CallError::Permit(error) => error.source(),
            CallError::Call(error) => error.source(),
        }
    }
}
