//! A crowd of callers, and the checker of what they saw.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use permitd_proto::v1::{AcquireRequest, Outcome, Permit, ReportRequest, Usage, acquire_response::Event};
use permitd_tests::{Draws, Server, Session, ask, report, soon, span, success};
use tokio::task::JoinSet;

/// The clocks of server and test are the same one, read at different moments; nothing else is tolerated.
pub(crate) const CLOCK: Duration = Duration::from_micros(50);

/// One call as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Before the request was sent.
    pub(crate) sent: Instant,
    /// After the grant was read.
    pub(crate) granted: Instant,
    /// Before the report was sent.
    pub(crate) reported: Instant,
    pub(crate) model: String,
    pub(crate) tenant: String,
    /// What it used in the end.
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

impl Seen {
    pub(crate) fn used(&self, unit: &str) -> u64 {
        match unit {
            "requests" => self.requests,
            _ => self.tokens,
        }
    }
}

pub(crate) fn of<'a>(
    calls: &'a [Seen],
    unit: &'a str,
    keep: impl Fn(&Seen) -> bool,
) -> Vec<(Instant, Instant, u64)> {
    calls.iter().filter(|call| keep(call)).map(|call| (call.sent, call.granted, call.used(unit))).collect()
}

/// What one caller does over and over until the time is up.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) tokens_max: u64,
    /// Whether reports tell less than was charged.
    pub(crate) refunds: bool,
}

/// Many callers for so long, each over a stream of its own, and everything that they saw.
pub(crate) async fn crowd(server: &Arc<Server>, callers: u64, lasts: Duration, habits: Habits) -> Vec<Seen> {
    let ends = Instant::now() + lasts;
    let mut crowd = JoinSet::new();
    for caller in 0..callers {
        let server = Arc::clone(server);
        crowd.spawn(async move { one_caller(&server, caller, ends, habits).await });
    }
    let mut calls = Vec::new();
    while let Some(seen) = soon("the crowd", crowd.join_next()).await {
        calls.extend(seen.expect("no panic"));
    }
    calls
}

pub(crate) async fn one_caller(server: &Server, caller: u64, ends: Instant, habits: Habits) -> Vec<Seen> {
    let mut draws = Draws(caller + 1);
    let mut way =
        if caller.is_multiple_of(2) { Way::Calls } else { Way::Session(Box::new(server.session("").await)) };
    let mut calls = Vec::new();
    let tenant = format!("t{}", caller % 3);
    for request_id in 1.. {
        if Instant::now() >= ends {
            break;
        }
        let model = ["a-1", "b-1"][usize::try_from(draws.below(2)).expect("small")];
        let tokens = 1 + draws.below(habits.tokens_max);
        let wait = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(500)];
        let request = AcquireRequest {
            request_id,
            tokens,
            model: model.to_owned(),
            tenant: tenant.clone(),
            max_wait: span(wait[usize::try_from(draws.below(3)).expect("small")]),
            ..ask("k")
        };
        let changes_its_mind = draws.below(6) == 0;
        let sent = Instant::now();
        let Some(permit) = way.acquire(server, request, changes_its_mind).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let granted = Instant::now();
        let (said, requests, used) = if draws.below(8) == 0 {
            (report(&permit.permit_id, Outcome::Cancelled), 0, 0)
        } else {
            let used = if habits.refunds { draws.below(tokens + 1) } else { tokens };
            let actual = Usage { tokens: Some(used), ..Usage::default() };
            (ReportRequest { actual: Some(actual), ..success(&permit.permit_id) }, 1, used)
        };
        let reported = Instant::now();
        assert!(server.report(said).await.settled, "settled once");
        let (model, tenant) = (model.to_owned(), tenant.clone());
        calls.push(Seen { sent, granted, reported, model, tenant, requests, tokens: used });
    }
    calls
}

/// How a caller asks.
pub(crate) enum Way {
    Calls,
    Session(Box<Session>),
}

impl Way {
    /// Asks for one permit. Who changes its mind takes the request back at once, and gets none whichever comes first: only sessions can,
    /// since nobody knows what a call that is dropped had been told.
    pub(crate) async fn acquire(
        &mut self,
        server: &Server,
        request: AcquireRequest,
        changes_its_mind: bool,
    ) -> Option<Permit> {
        let id = request.request_id;
        match self {
            Self::Calls => {
                let mut call = server.acquire(request).await.ok()?;
                loop {
                    match call.next().await {
                        Ok(Some(Event::Granted(permit))) => return Some(permit),
                        Ok(Some(Event::Queued(_))) => {}
                        Ok(None) | Err(_) => return None,
                    }
                }
            }
            Self::Session(session) => {
                session.ask(id, request).await;
                if changes_its_mind {
                    session.cancel(id).await;
                }
                loop {
                    if let Some(refused) = session.refused.pop_front() {
                        assert_eq!(refused.request_id, id, "{refused:?}");
                        session.granted.clear();
                        return None;
                    }
                    if let Some(granted) = session.granted.pop_front()
                        && !changes_its_mind
                    {
                        assert_eq!(granted.request_id, id, "{granted:?}");
                        return granted.permit;
                    }
                    session.queued.clear();
                    soon("an answer", session.read()).await.expect("a session");
                }
            }
        }
    }
}
