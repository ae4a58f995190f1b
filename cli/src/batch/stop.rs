//! How a run is told to end: gently at the first signal or when it can't go on, at once at the second signal.

use tokio::sync::watch;

use crate::{failure::Failure, signals::Signals};

/// What is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Everything.
    Run,
    /// Calls in flight end; no others begin.
    Finish,
    /// Nothing: what was answered is written.
    Now,
}

/// Tells the run, and hears from it.
#[derive(Clone, Debug)]
pub(super) struct Stopper(watch::Sender<Stop>);

impl Stopper {
    /// Listens for signals from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let mut signals = Signals::listen()?;
        let stopper = Self(watch::Sender::new(Stop::Run));
        let told = stopper.clone();
        tokio::spawn(async move {
            for stop in [Stop::Finish, Stop::Now] {
                signals.next().await;
                told.stop(stop);
            }
        });
        Ok(stopper)
    }

    /// Ends the run so; one that ends sooner stays so.
    pub(super) fn stop(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let sooner = stop > *now;
            *now = stop.max(*now);
            sooner
        });
    }

    /// How the run stands.
    pub(super) fn now(&self) -> Stop {
        *self.0.borrow()
    }

    /// Resolves once the run is to end so, or sooner.
    pub(super) async fn is(&self, stop: Stop) {
        let mut stops = self.0.subscribe();
        // The sender is `self`, so this does not fail.
        let _ = stops.wait_for(|now| *now >= stop).await;
    }
}
