//! An open loop at a fixed rate: every millisecond each connection sends what is due then, whatever became of what it sent before, and
//! a wait is counted from the moment at which it was due (no coordinated omission).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use permitd_proto::v1::{SessionRequest, permit_service_client::PermitServiceClient};
use tokio::{runtime, sync::mpsc, task::JoinSet, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Error, Plan, echo,
    load::{acquire, connect, hello, report},
    servers::Servers,
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Permitd,
    Echo,
}

/// Messages on their way on one connection; further ones are late, and counted so.
const UNDER_WAY_MAX: usize = 4_096;

/// Acquire to grant, in nanoseconds, at `items` (acquires and reports) a second.
pub(super) fn run(
    plan: &Plan,
    servers: &Servers,
    server: Server,
    items: f64,
) -> Result<Histogram<u64>, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let waits = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(60_000_000_000, 3)?));
    runtime.block_on(async {
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        for number in 0..plan.connections {
            let address = if server == Server::Permitd { servers.permitd } else { servers.echo };
            let channel = connect(address).await?;
            let each = Pace {
                plan: plan.clone(),
                number,
                per_tick: items / 2.0 / 1_000.0 / plan.connections as f64,
                waits: Arc::clone(&waits),
            };
            match server {
                Server::Permitd => drop(tasks.spawn(each.permitd(channel))),
                Server::Echo => drop(tasks.spawn(each.echo(channel))),
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let waits = waits.lock().clone();
        Ok(waits)
    })
}

struct Pace {
    plan: Plan,
    number: usize,
    /// Acquires a millisecond; the fraction is carried over.
    per_tick: f64,
    waits: Arc<Mutex<Histogram<u64>>>,
}

/// When the acquires of one tick were due, by the number of the tick, which is the upper part of their request_id.
type Due = Vec<Instant>;
const TICK_SHIFT: u32 = 20;

impl Pace {
    async fn permitd(self, channel: tonic::transport::Channel) -> Result<(), Error> {
        let mut client = PermitServiceClient::new(channel);
        let (send, requests) = mpsc::channel(UNDER_WAY_MAX);
        send.send(hello()).await?;
        let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
        responses.message().await?.ok_or("no welcome")?;
        let (mut due, mut reports) = (Due::new(), Vec::new());
        let mut ticks = self.ticks();
        let mut left = self.plan.turn.as_millis() as u64;
        let (mut carried, mut under_way) = (0.0, 0_usize);
        while left > 0 || under_way > 0 {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let response = response?.ok_or("the session ended")?;
                    under_way -= response.granted.len();
                    self.count(&due, response.granted.iter().map(|granted| granted.request_id));
                    let permits = response.granted.into_iter().filter_map(|granted| granted.permit);
                    reports.extend(permits.map(|permit| report(permit.permit_id)));
                }
                instant = ticks.tick(), if left > 0 => {
                    left -= 1;
                    carried += self.per_tick;
                    let acquires = self.acquires(&due, &mut carried);
                    under_way += acquires.len();
                    due.push(instant.into_std());
                    let report = std::mem::take(&mut reports);
                    send.send(SessionRequest { acquire: acquires, report, ..SessionRequest::default() }).await?;
                }
            }
        }
        Ok(())
    }

    async fn echo(self, channel: tonic::transport::Channel) -> Result<(), Error> {
        let (send, requests) = mpsc::channel(UNDER_WAY_MAX);
        send.send(hello()).await?;
        let mut responses = echo::stream(channel, ReceiverStream::new(requests)).await?;
        responses.message().await?.ok_or("no echo")?;
        let mut due = Due::new();
        let mut ticks = self.ticks();
        let mut left = self.plan.turn.as_millis() as u64;
        let (mut carried, mut under_way) = (0.0, 0_usize);
        while left > 0 || under_way > 0 {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let response = response?.ok_or("the echo ended")?;
                    under_way -= response.acquire.len();
                    self.count(&due, response.acquire.iter().map(|acquire| acquire.request_id));
                }
                instant = ticks.tick(), if left > 0 => {
                    left -= 1;
                    carried += self.per_tick;
                    let acquires = self.acquires(&due, &mut carried);
                    under_way += acquires.len();
                    due.push(instant.into_std());
                    let report = acquires.iter().map(|_| report("p1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into())).collect();
                    send.send(SessionRequest { acquire: acquires, report, ..SessionRequest::default() }).await?;
                }
            }
        }
        Ok(())
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    }

    fn acquires(&self, due: &Due, carried: &mut f64) -> Vec<permitd_proto::v1::AcquireRequest> {
        let number = *carried as u64;
        *carried -= number as f64;
        let tick = (self.number as u64) << 48 | (due.len() as u64) << TICK_SHIFT;
        (0..number).map(|n| acquire(tick | n, self.plan.budgets)).collect()
    }

    fn count(&self, due: &Due, answered: impl Iterator<Item = u64>) {
        let mut waits = self.waits.lock();
        for request_id in answered {
            let tick = (request_id >> TICK_SHIFT) as usize & 0xfff_ffff;
            waits.saturating_record(due[tick].elapsed().as_nanos() as u64);
        }
    }
}
