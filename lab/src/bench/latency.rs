//! An open loop at a fixed rate: every half millisecond each connection sends what is due then, whatever became of what it sent
//! before, and a wait is counted from the moment at which it was due (no coordinated omission). A thread that sleeps keeps the time: an
//! asynchronous timer is a millisecond late by itself.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use permitd_proto::v1::{SessionRequest, permit_service_client::PermitServiceClient};
use tokio::{runtime, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

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

/// Between two sends on one connection.
pub(super) const STEP: Duration = Duration::from_micros(500);

/// Acquire to grant, in nanoseconds, at `items` (acquires and reports) a second.
pub(super) fn run(
    plan: &Plan,
    servers: &Servers,
    server: Server,
    items: f64,
) -> Result<Histogram<u64>, Error> {
    let waits = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(60_000_000_000, 3)?));
    let loaders = thread::available_parallelism().map_or(1, usize::from).min(plan.connections);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for loader in 0..loaders {
            let waits = &waits;
            threads.push(scope.spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                let numbers = (loader..plan.connections).step_by(loaders);
                runtime.block_on(pace(plan, servers, server, items, numbers, waits))
            }));
        }
        for thread in threads {
            thread.join().map_err(|_| "a load thread panicked")??;
        }
        Ok::<(), Error>(())
    })?;
    let waits = waits.lock().clone();
    Ok(waits)
}

/// One thread's connections.
async fn pace(
    plan: &Plan,
    servers: &Servers,
    server: Server,
    items: f64,
    numbers: impl Iterator<Item = usize>,
    waits: &Arc<Mutex<Histogram<u64>>>,
) -> Result<(), Error> {
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    let mut clocks = Vec::new();
    for number in numbers {
        let address = if server == Server::Permitd { servers.permitd } else { servers.echo };
        let channel = connect(address).await?;
        let each = Pace {
            plan: plan.clone(),
            number,
            per_step: items / 2.0 * STEP.as_secs_f64() / plan.connections as f64,
            waits: Arc::clone(waits),
        };
        let (clock, steps) = mpsc::channel(UNDER_WAY_MAX);
        clocks.push(clock);
        match server {
            Server::Permitd => drop(tasks.spawn(each.permitd(channel, steps))),
            Server::Echo => drop(tasks.spawn(each.echo(channel, steps))),
        }
    }
    let turn = plan.turn;
    thread::spawn(move || tell_time(turn, &clocks));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Tells every connection when the next step is due, until the turn is over.
fn tell_time(turn: Duration, clocks: &[mpsc::Sender<Instant>]) {
    let started = Instant::now();
    let mut due = started;
    while due - started < turn {
        due += STEP;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for clock in clocks {
            // A connection that is that far behind fails by itself.
            let _ = clock.try_send(due);
        }
    }
}

struct Pace {
    plan: Plan,
    number: usize,
    /// Acquires in a step; the fraction is carried over.
    per_step: f64,
    waits: Arc<Mutex<Histogram<u64>>>,
}

/// When the acquires of one tick were due, by the number of the tick, which is the upper part of their request_id.
type Due = Vec<Instant>;
/// When to send.
type Steps = mpsc::Receiver<Instant>;
const TICK_SHIFT: u32 = 20;

impl Pace {
    async fn permitd(self, channel: Channel, mut steps: Steps) -> Result<(), Error> {
        let mut client = PermitServiceClient::new(channel);
        let (send, requests) = mpsc::channel(UNDER_WAY_MAX);
        send.send(hello()).await?;
        let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
        responses.message().await?.ok_or("no welcome")?;
        let (mut due, mut reports) = (Due::new(), Vec::new());
        let mut over = false;
        let (mut carried, mut under_way) = (0.0, 0_usize);
        while !over || under_way > 0 {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let response = response?.ok_or("the session ended")?;
                    under_way -= response.granted.len();
                    self.count(&due, response.granted.iter().map(|granted| granted.request_id));
                    let permits = response.granted.into_iter().filter_map(|granted| granted.permit);
                    reports.extend(permits.map(|permit| report(permit.permit_id)));
                }
                step = steps.recv(), if !over => {
                    let Some(instant) = step else {
                        over = true;
                        continue;
                    };
                    carried += self.per_step;
                    let acquires = self.acquires(&due, &mut carried);
                    under_way += acquires.len();
                    due.push(instant);
                    let report = std::mem::take(&mut reports);
                    send.send(SessionRequest { acquire: acquires, report, ..SessionRequest::default() }).await?;
                }
            }
        }
        Ok(())
    }

    async fn echo(self, channel: Channel, mut steps: Steps) -> Result<(), Error> {
        let (send, requests) = mpsc::channel(UNDER_WAY_MAX);
        send.send(hello()).await?;
        let mut responses = echo::stream(channel, ReceiverStream::new(requests)).await?;
        responses.message().await?.ok_or("no echo")?;
        let mut due = Due::new();
        let mut over = false;
        let (mut carried, mut under_way) = (0.0, 0_usize);
        while !over || under_way > 0 {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let response = response?.ok_or("the echo ended")?;
                    under_way -= response.acquire.len();
                    self.count(&due, response.acquire.iter().map(|acquire| acquire.request_id));
                }
                step = steps.recv(), if !over => {
                    let Some(instant) = step else {
                        over = true;
                        continue;
                    };
                    carried += self.per_step;
                    let acquires = self.acquires(&due, &mut carried);
                    under_way += acquires.len();
                    due.push(instant);
                    let report = acquires.iter().map(|_| report("p1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into())).collect();
                    send.send(SessionRequest { acquire: acquires, report, ..SessionRequest::default() }).await?;
                }
            }
        }
        Ok(())
    }

    fn acquires(&self, due: &Due, carried: &mut f64) -> Vec<permitd_proto::v1::AcquireRequest> {
        let number = *carried as u64;
        *carried -= number as f64;
        let tick = (self.number as u64) << 48 | (due.len() as u64) << TICK_SHIFT;
        (0..number).map(|n| acquire(tick | n, self.plan.budgets)).collect()
    }

    fn count(&self, due: &Due, answered: impl Iterator<Item = u64>) {
        let (now, mut waits) = (Instant::now(), self.waits.lock());
        for request_id in answered {
            let tick = (request_id >> TICK_SHIFT) as usize & 0xfff_ffff;
            waits.saturating_record(now.saturating_duration_since(due[tick]).as_nanos() as u64);
        }
    }
}
