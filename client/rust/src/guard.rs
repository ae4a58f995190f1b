//! A permit in the hand. However a [`Guard`] ends, its permit is settled: by a report, by a cancel, or by being dropped.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::sync::oneshot;

use crate::{
    Advice, Error, Report, Usage,
    mailbox::{Command, LocalPermit, Mailbox},
};

pub(crate) type PermitId = Arc<str>;

/// What is known of a permit.
#[derive(Clone, Debug)]
pub struct Permit {
    pub(crate) id: PermitId,
    pub(crate) provider: String,
    pub(crate) key: String,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) waited: Duration,
    pub(crate) charged: Usage,
    pub(crate) source: Source,
}

/// Who granted a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A permitd server.
    Server,
    /// This client's local share, while no server could be reached.
    LocalShare,
    /// Nobody: no server could be reached and the policy is to go on
    /// ([`OutagePolicy::FailOpen`](crate::OutagePolicy::FailOpen)).
    Unmanaged,
}

impl Permit {
    /// The server's opaque id; empty if no server granted it.
    #[must_use]
    pub fn permit_id(&self) -> &str {
        &self.id
    }

    /// The API to be called.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The alias of the credential to be used.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the permit holds.
    #[must_use]
    pub fn charged(&self) -> &Usage {
        &self.charged
    }

    /// How long the request was in the queue.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// When the permit was to end by itself, by the server's clock, as it was granted. While its guard lives the client extends it.
    /// `None` if no server granted it.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Who granted it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }
}

/// Leave to make one call. Tell how it went with [`report`](Guard::report); a guard that is dropped settles by itself.
///
/// While it lives, its permit is extended whenever half of its life is over.
///
/// **Dropped without a report**, the call may have been sent, so the permit is reported as failed: its charge stays, its slot
/// returns. A call that was certainly not sent is [cancelled](Guard::cancel), and everything goes back.
#[must_use = "a guard that is dropped at once gives its slot back, but keeps its charge"]
pub struct Guard {
    /// Boxed, so that a guard is cheap to hand on.
    permit: Box<Permit>,
    hold: Hold,
    mailbox: Arc<Mailbox>,
    /// Before that nobody can have sent the call.
    handed_over: bool,
}

/// Who has to hear of the end.
#[derive(Debug)]
pub(crate) enum Hold {
    Server,
    Local(LocalPermit),
    Nobody,
    /// It was reported.
    Settled,
}

impl Guard {
    pub(crate) fn new(permit: Permit, hold: Hold, mailbox: Arc<Mailbox>) -> Self {
        Self { permit: Box::new(permit), hold, mailbox, handed_over: false }
    }

    /// The caller has it now.
    pub(crate) fn hand_over(mut self) -> Self {
        self.handed_over = true;
        self
    }

    /// What is known of the permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The server's opaque id; empty if no server granted the permit.
    #[must_use]
    pub fn permit_id(&self) -> &str {
        self.permit.permit_id()
    }

    /// What the permit holds.
    #[must_use]
    pub fn charged(&self) -> &Usage {
        self.permit.charged()
    }

    /// How long the request was in the queue.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.permit.waited()
    }

    /// See [`Permit::expires_at`].
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.permit.expires_at()
    }

    /// Whether a server knows of the permit. Others are given by the outage policy while no server can be reached.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.permit.source() == Source::Server
    }

    /// Settles the permit. The report is on its way when this returns; awaiting it gives the server's advice, dropping it only
    /// gives up the answer.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): no server can be reached; the report is kept and sent later.
    /// [`is_invalid`](Error::is_invalid): the report makes no sense; the permit is settled with its outcome alone.
    pub fn report(mut self, report: Report) -> Reporting {
        if matches!(self.hold, Hold::Nobody) {
            self.hold = Hold::Settled;
            return Reporting(Answer::Known(Some(Advice::unsettled(&report))));
        }
        let (reply, answer) = oneshot::channel();
        self.settle(report, Some(reply));
        Reporting(Answer::Awaited(answer))
    }

    /// Settles the permit without waiting for advice.
    pub fn report_detached(mut self, report: Report) {
        self.settle(report, None);
    }

    /// Gives the permit back unused: the call was certainly not sent.
    pub fn cancel(self) {
        self.report_detached(Report::cancelled());
    }

    fn settle(&mut self, report: Report, reply: Option<oneshot::Sender<Result<Advice, Error>>>) {
        let report = Box::new(report);
        match std::mem::replace(&mut self.hold, Hold::Settled) {
            Hold::Server => {
                let permit_id = Arc::clone(&self.permit.id);
                self.mailbox.push(Command::Report { permit_id, report, reply });
            }
            Hold::Local(permit) => self.mailbox.push(Command::ReportLocal { permit, report, reply }),
            Hold::Nobody | Hold::Settled => {}
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(self.hold, Hold::Settled | Hold::Nobody) {
            self.settle(if self.handed_over { Report::failed() } else { Report::cancelled() }, None);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.permit).finish()
    }
}

/// The answer to [`Guard::report`], to be awaited.
#[derive(Debug)]
pub struct Reporting(Answer);

#[derive(Debug)]
enum Answer {
    Known(Option<Advice>),
    Awaited(oneshot::Receiver<Result<Advice, Error>>),
}

impl Future for Reporting {
    type Output = Result<Advice, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answer::Known(advice) => {
                Poll::Ready(Ok(advice.take().expect("a future is not polled after it is ready")))
            }
            Answer::Awaited(answer) => {
                let answer = ready!(Pin::new(answer).poll(context));
                Poll::Ready(answer.unwrap_or_else(|_| Err(Error::closed())))
            }
        }
    }
}
