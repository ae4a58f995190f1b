//! Turns on a worker: whoever has had enough of its thread for now lets all others go first, those included of whom only the network
//! knows yet. What is enough is bounded where the work is done: bytes in [`crate::connection`], items in [`crate::session`], calls
//! here.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    sync::Semaphore,
    task::{coop::poll_proceed, yield_now},
};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
};

use crate::connection::Peer;

/// What a task may do in one turn by the runtime's count, which is kept in a byte.
const COUNT_MAX: usize = u8::MAX as usize;
/// Calls of one connection that begin in one round of its worker, in which everybody else has a turn, too.
const CALLS_PER_ROUND: usize = 8;

/// Ends the turn of the task that is being polled: [`poll`] is pending until its next one.
pub(crate) fn end(context: &mut Context<'_>) {
    for _ in 0..=COUNT_MAX {
        match poll_proceed(context) {
            Poll::Ready(part) => part.made_progress(),
            // Comes back behind everybody who is ready, and behind a look at the network.
            Poll::Pending => return,
        }
    }
    // Nobody counts here, as outside of a runtime.
    context.waker().wake_by_ref();
}

/// Ready while the turn of the task lasts.
pub(crate) fn poll(context: &mut Context<'_>) -> Poll<()> {
    let part = ready!(poll_proceed(context));
    part.made_progress();
    Poll::Ready(())
}

/// The calls of one connection that may begin in this round.
#[derive(Clone, Debug)]
pub(crate) struct Round(Arc<Begin>);

#[derive(Debug)]
struct Begin {
    left: Semaphore,
    /// Whether somebody waits for the next round.
    ending: AtomicBool,
}

impl Default for Round {
    fn default() -> Self {
        Self(Arc::new(Begin { left: Semaphore::new(CALLS_PER_ROUND), ending: AtomicBool::new(false) }))
    }
}

impl Round {
    /// Whether a call may begin now.
    fn take(&self) -> bool {
        let Ok(one) = self.0.left.try_acquire() else { return false };
        one.forget();
        if self.0.left.available_permits() == 0 && !self.0.ending.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().renew());
        }
        true
    }

    /// When a call may begin.
    async fn wait(self) {
        // It is never closed.
        if let Ok(one) = self.0.left.acquire().await {
            one.forget();
        }
    }

    /// Begins rounds as long as calls wait for them.
    async fn renew(self) {
        while self.0.left.available_permits() == 0 {
            yield_now().await;
            self.0.left.add_permits(CALLS_PER_ROUND - self.0.left.available_permits());
        }
        self.0.ending.store(false, Ordering::Relaxed);
    }
}

/// Lets the calls of a connection begin in its turn.
#[derive(Clone, Debug)]
pub(crate) struct InTurn<S>(pub(crate) S);

impl<S> Service<http::Request<Body>> for InTurn<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.extensions().get::<Peer>().map(|peer| peer.round.clone()) {
            Some(round) if !round.take() => {
                let same = self.0.clone();
                let mut ready = mem::replace(&mut self.0, same);
                Box::pin(async move {
                    round.wait().await;
                    ready.call(request).await
                })
            }
            _ => Box::pin(self.0.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, io::Write as _, sync::Mutex};

    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Goal: whoever ends its turns lets those in of whom only the network knows, however long it goes on.
    #[tokio::test]
    async fn the_network_gets_its_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut sender =
            std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut receiver, _): (TcpStream, _) = listener.accept().await.expect("it came");
        let busy = Arc::new(AtomicBool::new(true));
        let stop = Arc::clone(&busy);
        let mut turns = 0;
        let hog = tokio::spawn(async move {
            while busy.load(Ordering::Relaxed) {
                turns += 1;
                poll_fn(|context| {
                    end(context);
                    assert!(poll(context).is_pending(), "the turn is over");
                    Poll::Ready(())
                })
                .await;
                poll_fn(poll).await;
            }
            turns
        });
        let reader = tokio::spawn(async move {
            receiver.read_u8().await.expect("a byte");
            stop.store(false, Ordering::Relaxed);
        });
        sender.write_all(&[1]).expect("sent");
        reader.await.expect("it reads");
        let turns = hog.await.expect("it ends");
        assert!(turns < 10, "{turns} turns went before what was there to read");
    }

    /// Goal: a connection that makes many calls at once does not keep another's waiting; and all of them are made, in order.
    #[tokio::test]
    async fn calls_begin_in_turn() {
        const CALLS: usize = 100;
        let begun = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&begun);
        let service = InTurn(tower::service_fn(move |request: http::Request<Body>| {
            let name = request.extensions().get::<usize>().copied();
            note.lock().expect("no panic").push(name.expect("a name"));
            async { Ok::<_, Infallible>(http::Response::new(Body::empty())) }
        }));
        let (many, one) = (Peer::default(), Peer::default());
        let calls = (0..CALLS).map(|name| (name, many.clone())).chain([(CALLS, one)]);
        let calls: Vec<_> = calls
            .map(|(name, peer)| {
                let mut request = http::Request::new(Body::empty());
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(name);
                tokio::spawn(service.clone().call(request))
            })
            .collect();
        for call in calls {
            call.await.expect("no panic").expect("made");
        }
        let mut begun = begun.lock().expect("no panic").clone();
        let place = begun.iter().position(|name| *name == CALLS).expect("it was made");
        assert!(place <= 2 * CALLS_PER_ROUND, "{place} calls of the other connection went first");
        begun.remove(place);
        assert_eq!(begun, (0..CALLS).collect::<Vec<_>>());
    }
}
