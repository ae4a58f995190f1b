//! An open loop at a fixed rate: every half millisecond each connection sends what is due then, whatever became of what it sent
//! before, and a wait is counted from the moment at which it was due (no coordinated omission). A thread that sleeps keeps the time: an
//! asynchronous timer is a millisecond late by itself.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use permitd_proto::v1::{SessionRequest, permit_service_client::PermitServiceClient};
use tokio::{runtime, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    Error, Plan,
    cpu::{Cpu, LOAD_THREAD},
    echo,
    load::{acquire_of, connect, hello, report},
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Permitd,
    Echo,
}

/// Messages on their way on one connection; further ones are late, and counted so.
const UNDER_WAY_MAX: usize = 4_096;

/// The longest wait that is told apart: a minute.
pub(super) const WAIT_MAX_NANOS: u64 = 60_000_000_000;

/// Between two sends on one connection.
pub(super) const STEP: Duration = Duration::from_micros(500);

/// What one turn came to.
#[derive(Clone, Debug)]
pub(super) struct Paced {
    /// Acquire to grant, in nanoseconds.
    pub(super) waits: Histogram<u64>,
    /// CPUs that were busy.
    pub(super) busy: f64,
}

/// One turn at `items` (acquires and reports) a second, after a warm-up of a fifth of it.
pub(super) fn run(plan: &Plan, address: SocketAddr, server: Server, items: f64) -> Result<Paced, Error> {
    let loaders = thread::available_parallelism().map_or(1, usize::from).min(plan.connections);
    let from = Instant::now() + plan.turn / 5;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for loader in 0..loaders {
            let load = move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                let numbers = (loader..plan.connections).step_by(loaders);
                runtime.block_on(pace(plan, address, server, items, numbers, from))
            };
            threads.push(thread::Builder::new().name(LOAD_THREAD.to_owned()).spawn_scoped(scope, load)?);
        }
        thread::sleep(from.saturating_duration_since(Instant::now()));
        let cpu = Cpu::now()?;
        thread::sleep(plan.turn);
        let cpu = Cpu::now()?.since(cpu);
        let mut waits = Histogram::new_with_max(WAIT_MAX_NANOS, 3)?;
        for thread in threads {
            waits.add(thread.join().map_err(|_| "a load thread panicked")??)?;
        }
        Ok(Paced { waits, busy: (cpu.servers + cpu.load).as_secs_f64() / plan.turn.as_secs_f64() })
    })
}

/// One thread's connections.
async fn pace(
    plan: &Plan,
    address: SocketAddr,
    server: Server,
    items: f64,
    numbers: impl Iterator<Item = usize>,
    from: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut tasks: JoinSet<Result<Histogram<u64>, Error>> = JoinSet::new();
    let mut clocks = Vec::new();
    for number in numbers {
        let channel = connect(address).await?;
        let each = Pace {
            plan: plan.clone(),
            number,
            per_step: items / 2.0 * STEP.as_secs_f64() / plan.connections as f64,
            asked: 0,
            from,
            waits: Histogram::new_with_max(WAIT_MAX_NANOS, 3)?,
        };
        let (clock, steps) = mpsc::channel(UNDER_WAY_MAX);
        clocks.push(clock);
        match server {
            Server::Permitd => drop(tasks.spawn(each.permitd(channel, steps))),
            Server::Echo => drop(tasks.spawn(each.echo(channel, steps))),
        }
    }
    let until = from + plan.turn;
    thread::Builder::new().name(LOAD_THREAD.to_owned()).spawn(move || tell_time(until, &clocks))?;
    let mut waits = Histogram::new_with_max(WAIT_MAX_NANOS, 3)?;
    while let Some(ended) = tasks.join_next().await {
        waits.add(ended??)?;
    }
    Ok(waits)
}

/// Tells every connection when the next step is due, until the turn is over.
pub(super) fn tell_time(until: Instant, clocks: &[mpsc::Sender<Instant>]) {
    let mut due = Instant::now();
    while due < until {
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
    /// Acquires so far, which go round the budgets.
    asked: usize,
    /// What was due before is the warm-up.
    from: Instant,
    waits: Histogram<u64>,
}

/// When the acquires of one tick were due, by the number of the tick, which is the upper part of their request_id.
type Due = Vec<Instant>;
/// When to send.
type Steps = mpsc::Receiver<Instant>;
const TICK_SHIFT: u32 = 20;

impl Pace {
    async fn permitd(mut self, channel: Channel, mut steps: Steps) -> Result<Histogram<u64>, Error> {
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
        Ok(self.waits)
    }

    async fn echo(mut self, channel: Channel, mut steps: Steps) -> Result<Histogram<u64>, Error> {
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
        Ok(self.waits)
    }

    fn acquires(&mut self, due: &Due, carried: &mut f64) -> Vec<permitd_proto::v1::AcquireRequest> {
        let number = *carried as u64;
        *carried -= number as f64;
        let tick = (self.number as u64) << 48 | (due.len() as u64) << TICK_SHIFT;
        let asked = (0..number).zip(self.asked..);
        self.asked += number as usize;
        asked.map(|(n, key)| acquire_of(tick | n, key % self.plan.budgets)).collect()
    }

    fn count(&mut self, due: &Due, answered: impl Iterator<Item = u64>) {
        let now = Instant::now();
        for request_id in answered {
            let due = due[(request_id >> TICK_SHIFT) as usize & 0xfff_ffff];
            if due >= self.from {
                self.waits.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
            }
        }
    }
}
