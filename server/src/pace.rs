//! How fast one connection may go, where `server.bounds` says, and with permits that it never got. A second's worth may come at once. Calls that come faster are refused
//! before anything of them is read, with when to come again; a session that asks faster is not read from until its time has come.

use std::{
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
};

use crate::{config::Bounds, connection::Peer, status::Fault};

/// What may come at once, in time that it would take otherwise.
const BURST: Duration = Duration::from_secs(1);

/// Permits that the sessions of one connection may name in a second without holding them: nobody who means well names more, but for a moment
/// after a server without stored state was started anew.
const FORGED_PER_SECOND: u32 = 10_000;

/// How fast one connection may go, as far as that is bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paces {
    calls: Option<Pace>,
    /// What its sessions ask for, together.
    items: Option<Pace>,
    /// And what of it was about permits that were never given to them.
    forged: Option<Pace>,
}

impl Paces {
    /// A new connection's.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let [calls, items, forged] =
            [bounds.calls_per_second, bounds.items_per_second, FORGED_PER_SECOND].map(Pace::new);
        Self { calls, items, forged }
    }

    /// So many items came in sessions, with so many forged permits. How long to wait before more are read, if at all.
    pub(crate) fn spend(&self, items: usize, forged: usize) -> Option<Duration> {
        if self.items.is_none() && forged == 0 {
            return None;
        }
        let now = Instant::now();
        let wait = |pace: &Option<Pace>, spent| pace.as_ref().and_then(|pace| pace.spend(now, spent));
        wait(&self.items, items).max(wait(&self.forged, forged))
    }

    /// How long to wait, if at all, before anything is read of a session that begins: so long as for what its connection's sessions sent
    /// before.
    pub(crate) fn behind(&self) -> Option<Duration> {
        let now = Instant::now();
        let wait = |pace: &Option<Pace>| pace.as_ref().and_then(|pace| pace.spend(now, 0));
        wait(&self.items).max(wait(&self.forged))
    }
}

/// One connection's calls, or items of its sessions.
#[derive(Clone, Debug)]
struct Pace {
    per_second: u32,
    /// When all until now would have come at the steady rate.
    even: Arc<Mutex<Instant>>,
}

impl Pace {
    /// A new connection's; `None` if none is bound.
    fn new(per_second: u32) -> Option<Self> {
        (per_second > 0).then(|| Self { per_second, even: Arc::new(Mutex::new(Instant::now())) })
    }

    /// So many items came. How long to wait before more are read, if at all.
    fn spend(&self, now: Instant, items: usize) -> Option<Duration> {
        let mut even = self.even.lock();
        let span = Duration::from_secs(1) / self.per_second * u32::try_from(items).unwrap_or(u32::MAX);
        *even = (*even).max(now) + span;
        even.checked_duration_since(now + BURST).filter(|early| !early.is_zero())
    }

    /// Whether one more call may be made now; if not, after how long.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut even = self.even.lock();
        let next = (*even).max(now) + Duration::from_secs(1) / self.per_second;
        match next.checked_duration_since(now + BURST) {
            None | Some(Duration::ZERO) => {
                *even = next;
                Ok(())
            }
            Some(early) => Err(early),
        }
    }
}

/// Holds calls to their connection's pace.
#[derive(Clone, Debug)]
pub(crate) struct Paced<S>(pub(crate) S);

impl<S> Service<http::Request<Body>> for Paced<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let pace = request.extensions().get::<Peer>().and_then(|peer| peer.paces.calls.as_ref());
        match pace.map_or(Ok(()), |pace| pace.take(Instant::now())) {
            Ok(()) => Box::pin(self.0.call(request)),
            Err(wait) => Box::pin(ready(Ok(too_fast(wait).into_status().into_http()))),
        }
    }
}

fn too_fast(wait: Duration) -> Fault {
    let message =
        "this connection makes calls faster than the server takes them; use a session, or slow down";
    Fault::exhausted("TOO_MANY_CALLS", "server.bounds.calls_per_second", message).after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a second's worth at once, then the steady rate, and a wait that is enough; what was not used is not saved up.
    #[test]
    fn holds_the_rate() {
        let pace = Pace::new(4).expect("a bound");
        let start = *pace.even.lock();
        let after = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        for _ in 0..4 {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(Duration::from_millis(250)));
        assert_eq!(pace.take(after(249)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(after(250)), Ok(()));
        assert_eq!(pace.take(after(250)), Err(Duration::from_millis(250)));
        let taken = (0..100).filter(|_| pace.take(after(60_000)).is_ok()).count();
        assert_eq!(taken, 4);
        assert!(Pace::new(0).is_none());
    }

    /// Goal: without bounds, only forged permits are waited for, and few of them not.
    #[test]
    fn forgers_wait() {
        let bounds = Bounds { calls_per_second: 0, items_per_second: 0, ..Bounds::default() };
        let paces = Paces::new(&bounds);
        assert_eq!(paces.spend(usize::MAX, 0), None);
        assert_eq!(paces.spend(1_000, 1_000), None);
        assert_eq!(paces.behind(), None);
        assert!(paces.spend(20_000, 2 * FORGED_PER_SECOND as usize) > Some(Duration::from_millis(500)));
        assert!(
            paces.behind() > Some(Duration::from_millis(500)),
            "and whoever begins a session beside them"
        );
    }

    /// Goal: what was read too fast is waited for, to the item, however much of it came at once.
    #[test]
    fn waits_for_what_was_read() {
        let pace = Pace::new(1_000).expect("a bound");
        let start = *pace.even.lock();
        assert_eq!(pace.spend(start, 1_000), None);
        assert_eq!(pace.spend(start, 500), Some(Duration::from_millis(500)));
        assert_eq!(pace.spend(start + Duration::from_secs(2), 500), None);
        assert_eq!(pace.spend(start + Duration::from_secs(2), 10_000), Some(Duration::from_millis(9_500)));
    }
}
