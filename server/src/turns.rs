//! Turns on a worker: whoever has had enough of its thread for now lets all others go first, those included of whom only the network
//! knows yet. What is enough is bounded where the work is done: bytes in [`crate::connection`], items in [`crate::session`], calls
//! in [`crate::serving`].

use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;

/// What a task may do in one turn by the runtime's count, which is kept in a byte.
const COUNT_MAX: usize = u8::MAX as usize;

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

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::Write as _,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

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
}
