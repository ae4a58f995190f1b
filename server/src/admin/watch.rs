//! `WatchBudgets`: a snapshot, then what changed, at most once an interval. A budget that is gone is told once more by name
//! alone, without an etag, which no living budget lacks.
//!
//! The stream looks at the budgets when its timer says so, and not while its client does not read. It looks from a thread of its
//! own, since there may be thousands of them and the streams' threads have permits to hand out.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hasher as _,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use permitd_proto::v1;
use prometheus_client::metrics::gauge::Gauge;
use prost::Message as _;
use siphasher::sip::SipHasher13;
use tokio::{
    sync::{OwnedSemaphorePermit, watch as signal},
    task::{self, JoinHandle},
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::Status;

use super::{
    elsewhere::{name_of, states_elsewhere},
    page::Wanted,
    state,
};
use crate::{
    cluster::Cluster, config::BudgetName, http::Phase, registry::Registry, status::Fault, wire::decode,
};

/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest: beyond it nobody watches.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// The interval where nobody says.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// A message ends once it has so many bytes; the rest comes in the next.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Reads the interval.
pub(super) fn read_interval(asked: Option<&prost_types::Duration>) -> Result<Duration, Fault> {
    let Some(asked) = asked else { return Ok(INTERVAL_DEFAULT) };
    let asked = decode::duration("interval", asked)?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&asked) {
        return Ok(asked);
    }
    Err(Fault::invalid("interval", format!("{asked:?} is outside 100 ms to 1 h")))
}

/// What was told of each budget, by hash.
type Told = HashMap<BudgetName, u64>;

/// Everything that is not as it was told, and what will have been told with it.
type Look = (Vec<v1::BudgetState>, Told);

/// What is watched.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) registry: Arc<Registry>,
    /// `None`: this server's own budgets only.
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) wanted: Wanted,
}

/// One watch.
pub struct Watch {
    watched: Watched,
    timer: Interval,
    /// Resolves when the server drains.
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What was told of each budget, unless a look is being taken.
    told: Told,
    looking: Option<JoinHandle<Look>>,
    /// What of the latest look was not told yet.
    left: std::vec::IntoIter<v1::BudgetState>,
    began: bool,
    ended: bool,
    gauge: Gauge,
    _room: OwnedSemaphorePermit,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("wanted", &self.watched.wanted).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(
        watched: Watched,
        every: Duration,
        mut phase: signal::Receiver<Phase>,
        room: OwnedSemaphorePermit,
        gauge: Gauge,
    ) -> Self {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        gauge.inc();
        let draining = Box::pin(async move {
            // An error means that whoever could drain is gone: the server has stopped.
            let _ = phase.wait_for(|phase| *phase >= Phase::HandingOver).await;
        });
        Self {
            watched,
            timer,
            draining,
            told: Told::new(),
            looking: None,
            left: Vec::new().into_iter(),
            began: false,
            ended: false,
            gauge,
            _room: room,
        }
    }

    /// The next message of what is left to tell.
    fn message(&mut self) -> Option<v1::WatchBudgetsResponse> {
        let mut states = Vec::new();
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Some(state) = self.left.next()
        {
            bytes += state.encoded_len();
            states.push(state);
        }
        (!states.is_empty()).then_some(v1::WatchBudgetsResponse { states })
    }
}

impl Stream for Watch {
    type Item = Result<v1::WatchBudgetsResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.draining.as_mut().poll(context).is_ready() {
            this.ended = true;
            return Poll::Ready(Some(Err(Fault::draining().into_status())));
        }
        loop {
            if let Some(message) = this.message() {
                return Poll::Ready(Some(Ok(message)));
            }
            let Some(looking) = &mut this.looking else {
                ready!(this.timer.poll_tick(context));
                let (watched, told) = (this.watched.clone(), mem::take(&mut this.told));
                this.looking = Some(match watched.cluster.clone() {
                    None => task::spawn_blocking(move || look(&watched, Vec::new(), told)),
                    Some(cluster) => task::spawn(look_everywhere(cluster, watched, told)),
                });
                continue;
            };
            let looked = ready!(Pin::new(looking).poll(context));
            this.looking = None;
            let Ok((changes, told)) = looked else {
                // The server stops, so that no thread is to be had.
                this.ended = true;
                return Poll::Ready(Some(Err(Fault::draining().into_status())));
            };
            (this.left, this.told) = (changes.into_iter(), told);
            // The first look is told even if there is nothing to see.
            if !this.began {
                this.began = true;
                return Poll::Ready(Some(Ok(this.message().unwrap_or_default())));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Compares what this server has, and `elsewhere`, with what was told.
fn look(watched: &Watched, elsewhere: Vec<v1::BudgetState>, told: Told) -> Look {
    let (mut changes, mut gone, mut told) = (Vec::new(), told, Told::new());
    let own = watched.registry.list().into_iter().filter(|cell| watched.wanted.holds_for(cell.name()));
    let own = own.map(|cell| (cell.name().clone(), state(&cell)));
    for (name, state) in own.chain(elsewhere.into_iter().filter_map(|state| Some((name_of(&state)?, state))))
    {
        let hash = hash(&state);
        if gone.remove(&name) != Some(hash) {
            changes.push(state);
        }
        told.insert(name, hash);
    }
    changes.extend(gone.into_keys().map(|name| farewell(&name)));
    (changes, told)
}

/// As [`look`], with the budgets of all servers. While one of them does not answer, nothing is news.
async fn look_everywhere(cluster: Arc<Cluster>, watched: Watched, told: Told) -> Look {
    match states_elsewhere(&cluster, &watched.wanted).await {
        Ok(elsewhere) => look(&watched, elsewhere, told),
        Err(_) => (Vec::new(), told),
    }
}

fn hash(state: &v1::BudgetState) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&state.encode_to_vec());
    hasher.finish()
}

/// A budget that is gone: its name, and no etag.
fn farewell(name: &BudgetName) -> v1::BudgetState {
    let budget = v1::Budget {
        provider: name.provider().to_owned(),
        key: name.key().to_owned(),
        ..v1::Budget::default()
    };
    v1::BudgetState { budget: Some(budget), ..v1::BudgetState::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: intervals are bounded below, so that nobody makes the server spin.
    #[test]
    fn intervals_are_bounded() {
        let span = |seconds, nanos| read_interval(Some(&prost_types::Duration { seconds, nanos }));
        assert_eq!(read_interval(None), Ok(INTERVAL_DEFAULT));
        assert_eq!(span(0, 100_000_000), Ok(INTERVAL_MIN));
        for refused in [span(0, 99_999_999), span(0, 0), span(-1, 0), span(3_601, 0), span(i64::MAX, 0)] {
            assert_eq!(refused.expect_err("out of bounds").code(), tonic::Code::InvalidArgument);
        }
    }
}
