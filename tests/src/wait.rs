//! Waiting for what has to come: never for a fixed time, and never for ever.

use std::{future::Future, time::Duration};

use tokio::time::{sleep, timeout};

/// How long anything may take before a test gives up on it. Nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks at a condition that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits for what has to come.
///
/// # Panics
/// If it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Looks again and again until it holds.
///
/// # Panics
/// If it never does.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            sleep(LOOK_INTERVAL).await;
        }
    })
    .await;
}
