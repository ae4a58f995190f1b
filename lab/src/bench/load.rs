//! Closed loops: every connection keeps its window full, and sends whatever it has ready in one message, as clients do.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use permitd_proto::v1::{
    AcquireRequest, Hello, Outcome, ReportRequest, SessionRequest, acquire_response::Event,
    permit_service_client::PermitServiceClient,
};
use tokio::{runtime, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::{
    Error, Mix, Plan,
    cpu::{Cpu, LOAD_THREAD},
    echo,
};

/// What runs against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Load {
    /// Messages of acquires and reports against the echo.
    EchoStream,
    /// The same against permitd's session.
    Session,
    /// Calls with one acquire against the echo.
    EchoCall,
    /// Unary Acquire, then Report.
    Unary,
}

/// Where connections go, and which budgets they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) server: SocketAddr,
    /// By their numbers: what is asked goes round them.
    pub(crate) keys: Arc<[usize]>,
}

impl Place {
    /// A server that is asked for as many budgets as there are.
    pub(crate) fn of_all(server: SocketAddr, budgets: usize) -> Self {
        Self { server, keys: (0..budgets).collect() }
    }
}

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) items: u64,
    pub(super) taken: Duration,
    pub(super) cpu: Cpu,
}

impl Load {
    pub(super) const ALL: [Load; 4] = [Load::EchoStream, Load::Session, Load::EchoCall, Load::Unary];

    /// One turn of it, by connections that go to these places in turn.
    pub(super) fn run(self, plan: &Plan, places: &[Place]) -> Result<Turn, Error> {
        let counted = Arc::new(Counted::default());
        let loaders = thread::available_parallelism().map_or(1, usize::from).min(plan.connections);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for loader in 0..loaders {
                let numbers = (loader..plan.connections).step_by(loaders);
                let counted = &counted;
                let thread = thread::Builder::new().name(LOAD_THREAD.to_owned());
                let load = move || self.load(plan, places, numbers, counted);
                threads.push(thread.spawn_scoped(scope, load)?);
            }
            thread::sleep(plan.turn / 5);
            let (before, started, cpu) = (counted.items(), Instant::now(), Cpu::now()?);
            thread::sleep(plan.turn);
            let turn = Turn {
                items: counted.items() - before,
                taken: started.elapsed(),
                cpu: Cpu::now()?.since(cpu),
            };
            counted.over.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().map_err(|_| "a load thread panicked")??;
            }
            Ok(turn)
        })
    }

    /// One thread's part of the load.
    fn load(
        self,
        plan: &Plan,
        places: &[Place],
        numbers: impl Iterator<Item = usize>,
        counted: &Arc<Counted>,
    ) -> Result<(), Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
            for number in numbers {
                let Place { server, keys } = places[number % places.len()].clone();
                let channel = connect(server).await?;
                let (plan, counted) = (plan.clone(), Arc::clone(counted));
                match self {
                    Load::Session => drop(tasks.spawn(session(channel, plan, number, keys, counted))),
                    Load::EchoStream => drop(tasks.spawn(echo_stream(channel, plan, number, counted))),
                    Load::Unary | Load::EchoCall => {
                        for _ in 0..plan.window {
                            let (channel, counted) = (channel.clone(), Arc::clone(&counted));
                            match self {
                                Load::Unary => tasks.spawn(callers(channel, counted)),
                                _ => tasks.spawn(echo_calls(channel, counted)),
                            };
                        }
                    }
                }
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Load::EchoStream => "bare echo, stream",
            Load::Session => "permitd, session",
            Load::EchoCall => "bare echo, calls",
            Load::Unary => "permitd, Acquire and Report",
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Counted {
    items: AtomicU64,
    pub(super) over: AtomicBool,
}

impl Counted {
    pub(super) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, items: usize) -> bool {
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

pub(crate) async fn connect(server: SocketAddr) -> Result<Channel, Error> {
    Ok(Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true).connect().await?)
}

pub(super) fn acquire(request_id: u64, budgets: usize) -> AcquireRequest {
    acquire_of(request_id, request_id as usize % budgets)
}

/// Asks for the budget of that number.
pub(crate) fn acquire_of(request_id: u64, key: usize) -> AcquireRequest {
    AcquireRequest {
        provider: PROVIDER.into(),
        key: key_of(key),
        tokens: 1_200,
        model: "claude-sonnet-4-5".into(),
        tenant: "web".into(),
        request_id,
        ..AcquireRequest::default()
    }
}

/// The provider of all budgets of a benchmark: each is made on first use.
pub(crate) const PROVIDER: &str = "bench";

/// The key of the budget of that number.
pub(crate) fn key_of(number: usize) -> String {
    format!("key-{number}")
}

pub(crate) fn report(permit_id: String) -> ReportRequest {
    ReportRequest { permit_id, outcome: Outcome::Success.into(), ..ReportRequest::default() }
}

pub(crate) fn hello() -> SessionRequest {
    SessionRequest { hello: Some(Hello::default()), ..SessionRequest::default() }
}

async fn session(
    channel: Channel,
    plan: Plan,
    number: usize,
    keys: Arc<[usize]>,
    counted: Arc<Counted>,
) -> Result<(), Error> {
    let mut client = PermitServiceClient::new(channel);
    let (send, requests) = mpsc::channel(plan.window + 2);
    send.send(hello()).await?;
    let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
    // Connections begin at budgets of their own.
    let first = number * keys.len() / plan.connections;
    let mut asks = ((number as u64) << 40..).zip(keys.iter().cycle().skip(first));
    let mut next = || {
        let asked = asks.next().map(|(request_id, key)| acquire_of(request_id, *key));
        plan.mix.of(&plan, asked.unwrap_or_default())
    };
    // In several messages, so that both sides have something to do.
    for _ in 0..plan.window / MESSAGE {
        let acquire = (0..MESSAGE).map(|_| next()).collect();
        send.send(SessionRequest { acquire, ..SessionRequest::default() }).await?;
    }
    // What is asked and not answered, and granted and not settled. At the end there is none: what nobody reports would be in the way of
    // the next turn until it expires.
    let (mut asked, mut held, mut is_over) = (plan.window / MESSAGE * MESSAGE, 0, false);
    while let Some(response) = responses.message().await? {
        if let Some(refused) = response.refused.first()
            && plan.mix != Mix::Refusing
        {
            return Err(format!("refused: {}", refused.message).into());
        }
        let (granted, reported) = (response.granted.len(), response.reported.len());
        let answered = granted + response.refused.len();
        is_over |= !counted.add(answered + reported);
        let acquire: Vec<_> = (0..if is_over { 0 } else { answered }).map(|_| next()).collect();
        asked = asked + acquire.len() - answered;
        held = held + granted - reported;
        if is_over && asked + held == 0 {
            break;
        }
        let permits = response.granted.into_iter().filter_map(|granted| granted.permit);
        let report: Vec<_> = permits.map(|permit| report(permit.permit_id)).collect();
        if !acquire.is_empty() || !report.is_empty() {
            send.send(SessionRequest { acquire, report, ..SessionRequest::default() }).await?;
        }
    }
    Ok(())
}

/// Acquires in the first messages; later on, as many as were granted at once.
const MESSAGE: usize = 16;

async fn echo_stream(
    channel: Channel,
    plan: Plan,
    number: usize,
    counted: Arc<Counted>,
) -> Result<(), Error> {
    let (send, requests) = mpsc::channel(plan.window + 2);
    send.send(hello()).await?;
    let mut responses = echo::stream(channel, ReceiverStream::new(requests)).await?;
    let mut ids = (number as u64) << 40..;
    // What a session's client sends while it is busy: reports, and as many new acquires.
    let mut next = |items: usize| SessionRequest {
        acquire: (0..items)
            .map(|_| plan.mix.of(&plan, acquire(ids.next().unwrap_or_default(), plan.budgets)))
            .collect(),
        report: (0..items).map(|_| report("p1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into())).collect(),
        ..SessionRequest::default()
    };
    for _ in 0..plan.window / MESSAGE {
        send.send(next(MESSAGE)).await?;
    }
    while let Some(response) = responses.message().await? {
        if !counted.add(response.acquire.len() + response.report.len()) {
            break;
        }
        if !response.acquire.is_empty() {
            send.send(next(response.acquire.len())).await?;
        }
    }
    Ok(())
}

/// Every caller by itself, one permit after the other.
async fn callers(channel: Channel, counted: Arc<Counted>) -> Result<(), Error> {
    loop {
        unary(channel.clone()).await?;
        if !counted.add(2) {
            return Ok(());
        }
    }
}

/// One acquire, and its report.
pub(crate) async fn unary(channel: Channel) -> Result<(), Error> {
    let mut client = PermitServiceClient::new(channel);
    let mut answers = client.acquire(acquire(0, 1)).await?.into_inner();
    let permit = loop {
        match answers.message().await?.and_then(|answer| answer.event) {
            Some(Event::Granted(permit)) => break permit,
            // For a write, where it is the first after a start.
            Some(Event::Queued(_)) => {}
            _ => return Err("not granted".into()),
        }
    };
    client.report(report(permit.permit_id)).await?;
    Ok(())
}

async fn echo_calls(channel: Channel, counted: Arc<Counted>) -> Result<(), Error> {
    let mut grpc = tonic::client::Grpc::new(channel);
    loop {
        echo::call(&mut grpc, acquire(0, 1)).await?;
        if !counted.add(1) {
            return Ok(());
        }
    }
}
