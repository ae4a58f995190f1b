//! `permitd-lab bench`

use std::{path::PathBuf, time::Duration};

use permitd_lab::bench::{self, Mix, Peer, PeerProcess, Plan};
use permitd_server::config::Data;

/// What to measure with.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Servers of others are asked for one permit at a time, with limits that nobody reaches, in the same rounds:
  envoy=http://HOST:PORT/DOMAIN   envoy.service.ratelimit.v3 (envoyproxy/ratelimit, Limitador): one descriptor, key=key-N,
                                  in that domain, or in `permitd`; the server has to be configured to limit it
  throttlecrab=http://HOST:PORT   throttlecrab's gRPC
  gubernator=http://HOST:PORT     gubernator's GetRateLimits, one and a window at a time
  redis=redis://HOST:PORT         a token bucket as a script, one at a time on each of connections x window, and pipelined

Examples:
  permitd-lab bench
  permitd-lab bench --budgets 100000 --rounds 3
  permitd-lab bench --mix queueing --tenants 1000
  permitd-lab bench --peer redis=redis://127.0.0.1:6379 --peer throttlecrab=http://127.0.0.1:50051
  permitd-lab bench --peer envoy=http://127.0.0.1:8081 --peer-pid envoy=4711 --peer-pid envoy=4712")]
pub(crate) struct Arguments {
    /// How often each server gets its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections, each with one session.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Acquires under way on each connection.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Budgets that the acquires go round.
    #[arg(long, default_value_t = 1)]
    budgets: usize,
    /// Tenants that ask, in turn.
    #[arg(long, default_value_t = 1)]
    tenants: usize,
    /// What becomes of the acquires of sessions. Calls and waits are measured where all are granted.
    #[arg(long, value_enum, default_value_t = Mix::Granted, conflicts_with_all = ["rate", "peers"])]
    mix: Mix,
    /// Only permitd's session: to look at with a profiler.
    #[arg(long, conflicts_with = "rate")]
    session_only: bool,
    /// Only latency, at so many items (acquires and reports) a second; without it, at half of what the session reached.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Where permitd keeps its state: a folder, or `none`.
    #[arg(long, default_value = "none")]
    data: Data,
    /// A server of others that runs, and what it speaks: envoy, throttlecrab, gubernator or redis.
    #[arg(long = "peer", value_name = "NAME=URL", conflicts_with_all = ["session_only", "rate"])]
    peers: Vec<Peer>,
    /// Its process, if it does not listen there itself or needs others: several are added up.
    #[arg(long = "peer-pid", value_name = "NAME=PID", requires = "peers")]
    peer_processes: Vec<PeerProcess>,
    /// Draw pictures into this folder, too.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), bench::Error> {
    let turn = Duration::try_from_secs_f64(arguments.seconds)?;
    let [rounds, connections, window, budgets, tenants] =
        [arguments.rounds, arguments.connections, arguments.window, arguments.budgets, arguments.tenants]
            .map(|number| number.max(1));
    let plan = Plan {
        rounds,
        turn,
        connections,
        window: window.max(16),
        budgets,
        tenants,
        mix: arguments.mix,
        session_only: arguments.session_only,
        rate: arguments.rate.map(f64::from),
        data: arguments.data.clone(),
        peers: arguments.peers.clone(),
        peer_processes: arguments.peer_processes.clone(),
    };
    let summary = bench::run(&plan, |step| eprintln!("{step}"))?;
    println!("{summary}");
    arguments.svg.as_deref().map_or(Ok(()), |folder| summary.draw(folder))
}
