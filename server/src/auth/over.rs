//! Something that ends once, and tells all who wait for it. Whether it has is cheap to ask.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// Not over at first.
#[derive(Debug, Default)]
pub(super) struct Over {
    is_over: Arc<AtomicBool>,
    told: Arc<Notify>,
}

/// Waits for an end.
#[derive(Debug)]
pub(super) struct Waiting {
    is_over: Arc<AtomicBool>,
    told: Pin<Box<OwnedNotified>>,
}

impl Over {
    /// It is over from now on.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(super) fn wait(&self) -> Waiting {
        // From here on it hears of the end, so that one which comes before the first look is not missed.
        let told = Box::pin(Arc::clone(&self.told).notified_owned());
        Waiting { is_over: Arc::clone(&self.is_over), told }
    }
}

impl Waiting {
    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over() { Poll::Ready(()) } else { self.told.as_mut().poll(context) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: everybody hears of it, those who come later too.
    #[tokio::test]
    async fn tells_everybody() {
        let over = Over::default();
        let (one, other, idle) = (tokio::spawn(over.wait()), tokio::spawn(over.wait()), over.wait());
        tokio::task::yield_now().await;
        assert!(!one.is_finished() && !other.is_finished() && !idle.is_over());
        over.end();
        one.await.expect("told");
        other.await.expect("told");
        idle.await;
        over.wait().await;
    }
}
