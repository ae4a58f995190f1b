//! Serves one connection: HTTP/2 by hyper, calls of `PermitService` straight to it, everything else through the router.
//!
//! The task of the connection begins its calls itself. Most are answered at once, and those cost no task and no wake-up of their own: with
//! the way past the router, a call takes an eighth less of the server's time. What has to wait gets a task.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hyper::{body::Incoming, rt::Executor, server::conn::http2};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    service::Routes,
};
use tower::ServiceExt as _;

use crate::{config::ServerConfig, connection::Connection, service::Permits, turns};

/// HTTP/2 windows: large enough for a full message at once.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Calls of one connection that begin in one turn.
const CALLS_PER_TURN: usize = 16;
/// Calls that may still have to begin when more are let in. A client that resets a stream may open another, and the call of the first is here
/// until its turn has come.
const CALLS_LEFT_MAX: usize = 64;

/// Serves a connection until its peer has gone, or until `finish`: then no new calls are taken, and those there may finish.
pub(crate) async fn serve<S>(
    connection: Connection,
    service: S,
    config: Arc<ServerConfig>,
    finish: impl Future,
) where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let peer = connection.peer();
    let service = service.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        request
    });
    let calls = Calls::default();
    let mut http = http2::Builder::new(calls.clone());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(u32::try_from(config.bounds.streams_per_connection).unwrap_or(u32::MAX))
        .keep_alive_interval(config.keepalive.interval)
        .keep_alive_timeout(config.keepalive.timeout)
        // Nobody reads it.
        .auto_date_header(false);
    let connection = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    let mut served = pin!(Served { connection, calls });
    let ended = tokio::select! {
        ended = &mut served => ended,
        _ = finish => {
            Pin::new(&mut served.connection).graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A connection, and the calls that came over it.
struct Served<C> {
    connection: C,
    calls: Calls,
}

impl<C: Future + Unpin> Future for Served<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        if let Poll::Ready(ended) = self.poll_connection(context) {
            return Poll::Ready(ended);
        }
        if self.calls.begin() > 0 {
            // Sends all of their answers at once.
            if let Poll::Ready(ended) = self.poll_connection(context) {
                return Poll::Ready(ended);
            }
            if self.calls.left() > 0 {
                turns::end(context);
            }
        }
        Poll::Pending
    }
}

impl<C: Future + Unpin> Served<C> {
    /// Takes in calls and sends answers, unless too many have still to begin.
    fn poll_connection(&mut self, context: &mut Context<'_>) -> Poll<C::Output> {
        match self.calls.left() <= CALLS_LEFT_MAX {
            true => Pin::new(&mut self.connection).poll(context),
            false => Poll::Pending,
        }
    }
}

impl<C> Drop for Served<C> {
    fn drop(&mut self) {
        // Each of them holds on to the calls, as hyper has it.
        let left = mem::take(&mut *self.calls.0.lock());
        drop(left);
    }
}

/// Calls of one connection that have not begun.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<VecDeque<Call>>>);

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.lock().push_back(Box::pin(call));
    }
}

impl Calls {
    /// How many have still to begin.
    fn left(&self) -> usize {
        self.0.lock().len()
    }

    /// Begins as many as a turn may, in the order in which they came; says how many.
    fn begin(&self) -> usize {
        for begun in 0..CALLS_PER_TURN {
            let Some(mut call) = self.0.lock().pop_front() else { return begun };
            let first = || call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            // As with a task of its own, a panic ends the call alone; the runtime's hook has told of it.
            if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(first)) {
                // The task polls it first of all, and so misses nothing.
                tokio::spawn(call);
            }
        }
        CALLS_PER_TURN
    }
}

/// All services of a worker.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) permits: Permits,
    /// Everything but permits.
    pub(crate) others: Routes,
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.permits.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if Permits::has(request.uri().path()) {
            self.permits.call(request)
        } else {
            Box::pin(self.others.clone().oneshot(request))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::task::yield_now;

    use super::*;

    /// A connection that never ends, over which so many calls came.
    fn served<F: Future<Output = ()> + Send + 'static>(
        calls: usize,
        call: impl Fn(usize) -> F,
    ) -> Served<BoxFuture<(), Infallible>> {
        let served = Served { connection: Box::pin(pending()) as BoxFuture<_, _>, calls: Calls::default() };
        (0..calls).for_each(|number| served.calls.execute(call(number)));
        served
    }

    /// Goal: a connection with many calls begins them in order, and lets others go first after each turn.
    #[tokio::test]
    async fn calls_begin_in_turn() {
        const CALLS: usize = 10 * CALLS_PER_TURN;
        let begun = Arc::new(Mutex::new(Vec::new()));
        let many = served(CALLS, |number| {
            let begun = Arc::clone(&begun);
            async move { begun.lock().push(number) }
        });
        let busy = tokio::spawn(many);
        let mut before = 0;
        while before < CALLS {
            yield_now().await;
            let now = begun.lock().len();
            assert!(now <= before + CALLS_PER_TURN, "{} calls in one turn", now - before);
            before = now;
        }
        assert_eq!(*begun.lock(), (0..CALLS).collect::<Vec<_>>());
        busy.abort();
    }

    /// Goal: a call that waits, and one that panics, keep neither the connection nor the calls behind them.
    #[tokio::test]
    async fn calls_stand_alone() {
        let ended = Arc::new(AtomicUsize::new(0));
        let calls = served(4, |number| {
            let ended = Arc::clone(&ended);
            async move {
                match number {
                    0 => yield_now().await,
                    1 => panic!("one of the calls, as the test has it"),
                    2 => pending().await,
                    _ => {}
                }
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
        let serving = tokio::spawn(calls);
        while ended.load(Ordering::Relaxed) < 2 {
            yield_now().await;
        }
        assert!(!serving.is_finished());
        serving.abort();
    }

    /// Goal: nothing is left of calls that never began, though each holds on to all of them.
    #[tokio::test]
    async fn nothing_is_left_behind() {
        let token = Arc::new(());
        let left = served(0, |_| async {});
        for _ in 0..3 {
            let (calls, token) = (left.calls.clone(), Arc::clone(&token));
            left.calls.execute(async move {
                pending::<()>().await;
                drop((calls, token));
            });
        }
        assert_eq!(Arc::strong_count(&token), 4);
        drop(left);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    /// Goal: however many calls a connection brings, and whatever becomes of their streams, only so many are kept; and all are made.
    #[tokio::test]
    async fn calls_do_not_pile_up() {
        const AT_ONCE: usize = 1_000;
        let (calls, begun) = (Calls::default(), Arc::new(AtomicUsize::new(0)));
        let (brought, count) = (calls.clone(), Arc::clone(&begun));
        let mut most = 0;
        let connection = poll_fn(move |_| {
            for _ in 0..AT_ONCE {
                let count = Arc::clone(&count);
                brought.execute(async move {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            most = most.max(brought.left());
            assert!(most <= AT_ONCE + CALLS_LEFT_MAX, "{most} calls are kept");
            Poll::<Infallible>::Pending
        });
        let serving = tokio::spawn(Served { connection, calls });
        while begun.load(Ordering::Relaxed) < 10 * AT_ONCE {
            assert!(!serving.is_finished(), "it goes on");
            yield_now().await;
        }
        serving.abort();
    }

    /// Goal: what has begun is sent before the connection waits.
    #[tokio::test]
    async fn answers_are_sent() {
        let polls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&polls);
        let connection = poll_fn(move |_| {
            // Once before its call began, and once after.
            if count.fetch_add(1, Ordering::Relaxed) == 1 { Poll::Ready(()) } else { Poll::Pending }
        });
        let calls = Calls::default();
        calls.execute(async {});
        Served { connection, calls }.await;
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
