//! The way out: nobody is let in, those waiting are told, reports are still taken, and then it ends, whoever is left. One of several
//! servers gives its budgets to the others first, with everybody who waits; then there is nothing to stay for.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    health::Health,
    http::Phase,
    shared::Shared,
    worker::{Stop, Workers},
};

/// Between two looks at whether anything is left to wait for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long budgets may take to get to other servers, whatever `server.drain` is.
const HAND_OVER_MIN: Duration = Duration::from_secs(2);
/// How long connections may take to end once their streams have.
const FINISH_MAX: Duration = Duration::from_millis(800);

/// Drains the server. With `server.drain` at its most (9 s), this ends within 10 s.
pub(crate) async fn drain(
    shared: &Shared,
    phase: &watch::Sender<Phase>,
    health: &Health,
    stop: &watch::Sender<Stop>,
    workers: &mut Workers,
) {
    let deadline = Instant::now() + shared.config.drain;
    // First, so that no balancer sends anybody who would be turned away.
    health.report(false).await;
    if hands_over(shared, phase, deadline).await {
        phase.send_replace(Phase::HandedOver);
        shared.sessions.leave();
    } else {
        phase.send_replace(Phase::Draining);
        shared.registry.drain();
        shared.sessions.wake_all();
    }
    // Reports may come for as long as permits are out: in sessions, or from unary calls.
    let settled = async {
        while shared.sessions.have_streams() || shared.registry.has_permits() {
            sleep(LOOK_INTERVAL).await;
        }
    };
    let all_settled = timeout_at(deadline, settled).await.is_ok();
    tracing::info!(all_settled, sessions = shared.sessions.len(), "drained");
    shared.sessions.close();
    stop.send_replace(Stop::Finish);
    if timeout(FINISH_MAX, workers.finished()).await.is_err() {
        stop.send_replace(Stop::Now);
        workers.finished().await;
    }
}

/// Gives the budgets to other servers of a cluster, and passes on meanwhile what is asked here. Whether they have all of them.
async fn hands_over(shared: &Shared, phase: &watch::Sender<Phase>, deadline: Instant) -> bool {
    let Some(cluster) = &shared.cluster else { return false };
    phase.send_replace(Phase::HandingOver);
    let handed_over = timeout_at(deadline.max(Instant::now() + HAND_OVER_MIN), cluster.leave()).await.is_ok();
    if !handed_over {
        tracing::warn!("not every budget could be handed over; the others get them when the lease has ended");
    }
    handed_over
}
