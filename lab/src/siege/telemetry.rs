//! What it costs to be watched: a server whose metrics are scraped and whose spans go to a collector, beside one of which nobody asks
//! anything. The two take turns under the same load. Counting itself can't be switched off; it is in both. Where neither is watched, the
//! difference is what the measurement itself is off by.

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

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport};

use super::Error;
use crate::{
    bench::{self, Place, Plan, median},
    http,
    server::{Memory, Server},
};

/// Calls of each budget before anything counts: each remembers its last 1,024 answers, and only when it does is what two servers need the
/// same for any number of calls.
const CALLS_BEFORE: f64 = 1_100.0;
/// Items of a call: it is asked for, and reported.
const ITEMS_OF_A_CALL: f64 = 2.0;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Telemetry {
    /// How often each server gets its turn.
    pub rounds: usize,
    /// How long a turn takes.
    pub turn: Duration,
    /// Budgets that the load goes round.
    pub budgets: usize,
    /// Of so many requests one is traced; 0 for none.
    pub sample_one_in: u32,
    /// Between two scrapes; zero for none.
    pub scrape_every: Duration,
}

/// What it came to.
#[derive(Clone, Debug)]
pub struct Told {
    telemetry: Telemetry,
    alone: Seen,
    watched: Seen,
    spans: u64,
    scrapes: u64,
}

/// Of one server.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Items a second, of each turn.
    rates: Vec<f64>,
    /// CPU seconds of the server for an item, of each turn.
    costs: Vec<f64>,
    /// Memory after each round.
    memory: Vec<Memory>,
}

impl Telemetry {
    /// Runs it.
    ///
    /// # Errors
    /// If a server can't be started, refuses anything, or is not watched.
    pub fn run(self, binary: &Path, mut progress: impl FnMut(&str)) -> Result<Told, Error> {
        let Self { rounds, sample_one_in, scrape_every, .. } = self;
        let watcher = Watcher::default();
        let collector = watcher.collect()?;
        let (are_traced, are_scraped) = (sample_one_in > 0, !scrape_every.is_zero());
        let telemetry =
            format!("[server.telemetry]\notlp = \"http://{collector}\"\nsample_one_in = {sample_one_in}\n");
        let telemetry = if are_traced { telemetry } else { String::new() };
        let alone = Server::start(binary, &self.config(""))?;
        let watched = match are_scraped {
            true => Server::with_http(binary, &self.config(&telemetry))?,
            false => Server::start(binary, &self.config(&telemetry))?,
        };
        if let Some(http) = watched.http {
            watcher.scrape(http, scrape_every);
        }
        let (mut one, mut other) = (Seen::default(), Seen::default());
        progress("until every budget has been busy");
        self.warm_up(&alone)?;
        self.warm_up(&watched)?;
        for round in 1..=rounds {
            progress(&format!("round {round} of {rounds}"));
            one.add(self, &alone)?;
            other.add(self, &watched)?;
            one.memory.push(alone.memory()?);
            other.memory.push(watched.memory()?);
        }
        let (spans, scrapes) = watcher.counted();
        if are_traced && spans == 0 || are_scraped && scrapes == 0 {
            return Err(format!("{spans} spans and {scrapes} scrapes: nobody watched").into());
        }
        Ok(Told { telemetry: self, alone: one, watched: other, spans, scrapes })
    }

    /// Has the budgets come to be, and to need as much as they ever will.
    fn warm_up(self, server: &Server) -> Result<(), Error> {
        let (mut items, wanted) = (0.0, CALLS_BEFORE * ITEMS_OF_A_CALL * self.budgets as f64);
        while items < wanted {
            items += bench::sessions(&[Place::of_all(server.address, self.budgets)], &self.plan())?
                * self.turn.as_secs_f64();
        }
        Ok(())
    }

    fn plan(self) -> Plan {
        Plan { turn: self.turn, budgets: self.budgets, ..Plan::default() }
    }

    fn config(self, telemetry: &str) -> String {
        format!(
            "[server.bounds]\nbudgets = {}\n{telemetry}\
             [providers.bench]\nlimits = [\"requests=1000M/1s\", \"tokens=1000000M/1s\", \"in_flight=1M\"]\n",
            self.budgets + 1
        )
    }
}

impl Seen {
    /// One turn.
    fn add(&mut self, telemetry: Telemetry, server: &Server) -> Result<(), Error> {
        let Telemetry { turn, budgets, .. } = telemetry;
        let before = server.cpu()?;
        let rate = bench::sessions(&[Place::of_all(server.address, budgets)], &telemetry.plan())?;
        let spent = server.cpu()?.saturating_sub(before);
        self.rates.push(rate);
        // The load also runs for a fifth of a turn before it is counted.
        self.costs.push(spent.as_secs_f64() / (rate * turn.as_secs_f64() * 1.2));
        Ok(())
    }
}

/// Who watches: a collector of spans, and one who scrapes.
#[derive(Clone, Debug, Default)]
struct Watcher(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    spans: AtomicU64,
    scrapes: AtomicU64,
    over: AtomicBool,
}

impl Watcher {
    fn counted(&self) -> (u64, u64) {
        self.0.over.store(true, Ordering::Relaxed);
        (self.0.spans.load(Ordering::Relaxed), self.0.scrapes.load(Ordering::Relaxed))
    }

    /// Takes spans, on a thread that gets what others leave: as a rule a collector runs elsewhere.
    fn collect(&self) -> Result<SocketAddr, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let service = TraceServiceServer::new(self.clone());
        thread::spawn(move || {
            let _ = rustix::process::nice(19);
            let served = runtime.block_on(async {
                let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
                transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?;
                Ok::<(), Error>(())
            });
            if let Err(error) = served {
                eprintln!("permitd-lab: the collector: {error}");
            }
        });
        Ok(address)
    }

    /// Scrapes until the end. A scrape that fails is not counted, and said.
    fn scrape(&self, http: SocketAddr, every: Duration) {
        let counts = Arc::clone(&self.0);
        thread::spawn(move || {
            while !counts.over.load(Ordering::Relaxed) {
                match scrape(http) {
                    Ok(()) => drop(counts.scrapes.fetch_add(1, Ordering::Relaxed)),
                    Err(_) if counts.over.load(Ordering::Relaxed) => return,
                    Err(error) => eprintln!("permitd-lab: the scrape: {error}"),
                }
                thread::sleep(every);
            }
        });
    }
}

fn scrape(server: SocketAddr) -> Result<(), Error> {
    let text = http::get(server, "/metrics")?;
    if text.contains("permitd_grants_total") { Ok(()) } else { Err("no metrics of a server".into()) }
}

#[tonic::async_trait]
impl TraceService for Watcher {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.spans.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Telemetry { rounds, turn, budgets, sample_one_in, scrape_every } = self.telemetry;
        writeln!(
            f,
            "{budgets} budgets, {rounds} rounds of {turn:?}; one request in {sample_one_in} traced ({} spans), \
             scraped every {scrape_every:?} ({} times); medians",
            self.spans, self.scrapes
        )?;
        writeln!(f, "{:<22} {:>12} {:>16} {:>12} {:>12}", "", "items/s", "server us/item", "memory", "code")?;
        for (who, seen) in [("nobody asks", &self.alone), ("metrics and traces", &self.watched)] {
            let (rate, cost) = (median(seen.rates.iter().copied()), median(seen.costs.iter().copied()) * 1e6);
            let of = |bytes: fn(&Memory) -> u64| median(seen.memory.iter().map(|memory| mib(bytes(memory))));
            let (own, files) = (of(|memory| memory.own), of(|memory| memory.files));
            writeln!(f, "{who:<22} {rate:>12.0} {cost:>16.3} {own:>8.1} MiB {files:>8.1} MiB")?;
        }
        let more = |of: fn(&Seen) -> &Vec<f64>| {
            let [watched, alone] = [&self.watched, &self.alone].map(|seen| median(of(seen).iter().copied()));
            watched / alone * 100.0 - 100.0
        };
        let differences = |bytes: fn(&Memory) -> u64| -> Vec<f64> {
            let pairs = self.watched.memory.iter().zip(&self.alone.memory);
            pairs.map(|(watched, alone)| mib(bytes(watched)) - mib(bytes(alone))).collect()
        };
        let own = differences(|memory| memory.own);
        let (least, most) =
            own.iter().fold((f64::MAX, f64::MIN), |(least, most), one| (least.min(*one), most.max(*one)));
        writeln!(
            f,
            "{:<22} {:>+10.1} % {:>+14.1} % {:>+8.1} MiB {:>+8.1} MiB; memory from {least:+.1} to {most:+.1} MiB",
            "what that costs",
            more(|seen| &seen.rates),
            more(|seen| &seen.costs),
            median(own.iter().copied()),
            median(differences(|memory| memory.files)),
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
