//! One hostile client at full speed beside a polite one: what that costs the polite one. Both have connections of their own; the hostile
//! one gets what the machine's cores have left, as if it ran elsewhere.
//!
//! Most of what it costs may be the machine: with few cores, whoever keeps them busy makes others wait. So it also attacks another server
//! on the same cores. What is more than that is what sharing a server costs.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use permitd_proto::v1::{
    AcquireRequest, ReportRequest, SessionRequest, permit_service_client::PermitServiceClient,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, runtime, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{Error, Polite, Waits};
use crate::{
    bench::{connect, hello},
    server::Server,
};

/// What a hostile client does, as fast as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// Asks for what is refused at once, in a session's largest messages.
    Asks,
    /// The same, and never reads an answer.
    Deaf,
    /// Reports permits that nobody issued.
    Forges,
    /// Makes single calls that are refused.
    Calls,
    /// Connects, begins to speak, and hangs up.
    Connects,
}

impl Hostile {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Asks, Self::Deaf, Self::Forges, Self::Calls, Self::Connects];
    /// Items in one message, and calls at once.
    const ITEMS: usize = 1_000;
    const CALLS: usize = 64;
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// How often each kind gets its turn; what counts is the median.
    pub rounds: usize,
    /// Who is measured.
    pub polite: Polite,
    /// What one connection's sessions may ask a second, as `server.bounds.items_per_second`; 0 for as much as it likes.
    pub items_per_second: u32,
}

/// What it came to.
#[derive(Clone, Debug)]
pub struct Sieged {
    siege: Siege,
    alone: Waits,
    beside: Vec<Beside>,
}

/// How the polite client fared beside one hostile client.
#[derive(Clone, Debug)]
struct Beside {
    kind: Hostile,
    /// Both at the same server.
    together: Waits,
    /// The hostile one at another server on the same cores.
    apart: Waits,
    /// What the hostile one got rid of in a second at the server of both.
    rate: f64,
}

impl Siege {
    /// Runs it.
    ///
    /// # Errors
    /// If the server can't be started, or the polite client is refused.
    pub fn run(self, binary: &Path) -> Result<Sieged, Error> {
        let config = format!(
            "[server.bounds]\nitems_per_second = {}\n[budgets.\"siege/small\"]\nlimits = [\"requests=1/1d\"]\n\
             [providers.bench]\nlimits = [\"requests=1000M/1s\", \"in_flight=1M\"]\n",
            self.items_per_second
        );
        let (server, other) = (Server::start(binary, &config)?, Server::start(binary, &config)?);
        let mut alone = Vec::new();
        let mut beside = Hostile::ALL.map(|kind| (kind, Vec::new(), Vec::new(), 0.0));
        for _ in 0..self.rounds {
            for (kind, together, apart, rate) in &mut beside {
                alone.push(self.polite.measure(server.address)?);
                let attack = Attack::begin(*kind, server.address)?;
                together.push(self.polite.measure(server.address)?);
                *rate += attack.end(self.polite.turn) / self.rounds as f64;
                let attack = Attack::begin(*kind, other.address)?;
                apart.push(self.polite.measure(server.address)?);
                attack.end(self.polite.turn);
            }
        }
        let medians = |(kind, together, apart, rate)| Beside {
            kind,
            together: median(together),
            apart: median(apart),
            rate,
        };
        Ok(Sieged { siege: self, alone: median(alone), beside: beside.into_iter().map(medians).collect() })
    }
}

fn median(mut waits: Vec<Waits>) -> Waits {
    let mut of = |part: fn(&Waits) -> Duration| {
        waits.sort_by_key(part);
        part(&waits[waits.len() / 2])
    };
    Waits { p50: of(|waits| waits.p50), p99: of(|waits| waits.p99) }
}

/// One hostile client, on a thread that gets what others leave.
struct Attack {
    done: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Attack {
    fn begin(kind: Hostile, server: SocketAddr) -> Result<Self, Error> {
        let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn({
            let (done, over) = (Arc::clone(&done), Arc::clone(&over));
            move || {
                // Where it can't be polite to the machine, the figures are worse than they have to be.
                let _ = rustix::process::nice(19);
                runtime.block_on(async {
                    while !over.load(Ordering::Relaxed) {
                        // Whatever ends it, it begins again.
                        let _ = kind.attack(server, &done, &over).await;
                    }
                });
            }
        });
        Ok(Self { done, over, thread })
    }

    /// Ends it, and tells how much it did in a second.
    fn end(self, turn: Duration) -> f64 {
        let done = self.done.load(Ordering::Relaxed) as f64;
        self.over.store(true, Ordering::Relaxed);
        // A hostile client that panicked has said so.
        let _ = self.thread.join();
        done / turn.as_secs_f64()
    }
}

impl Hostile {
    async fn attack(self, server: SocketAddr, done: &AtomicU64, over: &AtomicBool) -> Result<(), Error> {
        match self {
            Self::Asks | Self::Deaf | Self::Forges => self.talk(server, done, over).await,
            Self::Calls => call(server, done, over).await,
            Self::Connects => {
                let mut stream = TcpStream::connect(server).await?;
                stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    async fn talk(self, server: SocketAddr, done: &AtomicU64, over: &AtomicBool) -> Result<(), Error> {
        let mut client = PermitServiceClient::new(connect(server).await?);
        let (send, requests) = mpsc::channel(4);
        send.send(hello()).await?;
        let mut answers = client.session(ReceiverStream::new(requests)).await?.into_inner();
        answers.message().await?.ok_or("no welcome")?;
        let deaf = self == Self::Deaf;
        let reading = tokio::spawn(async move {
            if deaf {
                std::future::pending::<()>().await;
            }
            while let Ok(Some(_)) = answers.message().await {}
        });
        let message = self.message();
        while !over.load(Ordering::Relaxed) {
            tokio::select! {
                sent = send.send(message.clone()) => sent?,
                // One that is not read from any more looks up all the same.
                () = tokio::time::sleep(Duration::from_millis(100)) => continue,
            }
            done.fetch_add(Self::ITEMS as u64, Ordering::Relaxed);
        }
        reading.abort();
        Ok(())
    }

    fn message(self) -> SessionRequest {
        if self == Self::Forges {
            let forged =
                |n| ReportRequest { permit_id: format!("{n:034}"), outcome: 1, ..Default::default() };
            let report = (0..Self::ITEMS).map(forged).collect();
            return SessionRequest { report, ..SessionRequest::default() };
        }
        let acquire = (0..Self::ITEMS as u64).map(hopeless).collect();
        SessionRequest { acquire, ..SessionRequest::default() }
    }
}

/// What is refused at once.
fn hopeless(request_id: u64) -> AcquireRequest {
    let max_wait = Some(prost_types::Duration::default());
    let (provider, key) = ("siege".into(), "small".into());
    AcquireRequest { provider, key, request_id, max_wait, count: 2, ..AcquireRequest::default() }
}

async fn call(server: SocketAddr, done: &AtomicU64, over: &AtomicBool) -> Result<(), Error> {
    let channel = connect(server).await?;
    let mut calls = JoinSet::new();
    while !over.load(Ordering::Relaxed) {
        if calls.len() >= Hostile::CALLS {
            calls.join_next().await;
            done.fetch_add(1, Ordering::Relaxed);
        }
        let mut client = PermitServiceClient::new(channel.clone());
        calls.spawn(async move { drop(client.acquire(hopeless(0)).await) });
    }
    Ok(())
}

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Asks => "asks for what is refused",
            Self::Deaf => "asks, and never reads",
            Self::Forges => "reports forged permits",
            Self::Calls => "makes calls that are refused",
            Self::Connects => "connects and hangs up",
        })
    }
}

impl fmt::Display for Sieged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Siege { rounds, polite, items_per_second } = self.siege;
        let bound = if items_per_second == 0 { "none".to_owned() } else { items_per_second.to_string() };
        writeln!(
            f,
            "polite client: {:.0} items a second, {rounds} rounds of {:?} each; items_per_second: {bound}",
            polite.rate, polite.turn
        )?;
        let Waits { p50, p99 } = self.alone;
        writeln!(f, "alone: p50 {p50:.1?}, p99 {p99:.1?}")?;
        writeln!(
            f,
            "{:<26} {:>10} {:>10} {:>12} {:>12} {:>10} {:>12}",
            "beside one that", "p50", "p99", "p50, apart", "p99, apart", "p99 more", "it does a s"
        )?;
        for Beside { kind, together, apart, rate } in &self.beside {
            let more = together.p99.as_secs_f64() / apart.p99.as_secs_f64() * 100.0 - 100.0;
            let [one, two, three, four] =
                [together.p50, together.p99, apart.p50, apart.p99].map(|wait| format!("{wait:.1?}"));
            let kind = kind.to_string();
            writeln!(f, "{kind:<26} {one:>10} {two:>10} {three:>12} {four:>12} {more:>8.0} % {rate:>12.0}")?;
        }
        write!(f, "apart: the hostile client is at another server on the same cores")
    }
}
