//! What permitd costs beside the transport that it stands on: the same load against a permitd server and against a bare tonic echo in
//! the same process, in turn, so that a noisy machine treats both alike. What counts is the ratio.
//!
//! Servers of others that somebody runs get their turns in the same rounds ([`Peer`]).
//!
//! Server and load share the machine's cores. Each server runs in the same layout: one thread with a single-threaded runtime
//! per core, connections handed out in turn.

mod beside;
mod cpu;
mod echo;
mod latency;
mod load;
mod mix;
mod peers;
mod servers;
mod steps;
mod summary;

use std::{net::SocketAddr, time::Duration};

use hdrhistogram::Histogram;
use permitd_server::config::Data;

pub(crate) use crate::bench::summary::median;
use crate::bench::{
    beside::Beside,
    load::Load,
    servers::Servers,
    summary::{Figures, Latencies},
};
pub(crate) use crate::bench::{
    cpu::of_process as cpu_of_process,
    load::{PROVIDER, Place, acquire_of, connect, hello, key_of, report, unary},
};
pub use crate::bench::{
    mix::Mix,
    peers::{Peer, PeerProcess},
    steps::Steps,
    summary::Summary,
};

/// What to measure with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each server gets its turn.
    pub rounds: usize,
    /// How long one turn takes, after a warm-up of a fifth of it.
    pub turn: Duration,
    /// Connections, each with one session.
    pub connections: usize,
    /// Acquires under way on each of them.
    pub window: usize,
    /// Budgets that the acquires go round.
    pub budgets: usize,
    /// Tenants that ask, in turn.
    pub tenants: usize,
    /// What becomes of acquires. Where they are not all granted at once, only the session is measured, beside the echo.
    pub mix: Mix,
    /// Only the session, and no latency: for a profiler.
    pub session_only: bool,
    /// Only latency, at so many items a second.
    pub rate: Option<f64>,
    /// Where permitd keeps its state.
    pub data: Data,
    /// Servers of others, which get their turns as well.
    pub peers: Vec<Peer>,
    /// Their processes, as far as they are not to be looked for.
    pub peer_processes: Vec<PeerProcess>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 5,
            turn: Duration::from_secs(2),
            connections: 8,
            window: 64,
            budgets: 1,
            tenants: 1,
            mix: Mix::Granted,
            session_only: false,
            rate: None,
            data: Data::Memory,
            peers: Vec::new(),
            peer_processes: Vec::new(),
        }
    }
}

/// Why nothing was measured.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The waits of one polite client's acquires, in nanoseconds, at `items` (acquires and reports) a second.
pub(crate) fn paced(server: SocketAddr, turn: Duration, items: f64) -> Result<Histogram<u64>, Error> {
    let plan = Plan { turn, connections: 1, ..Plan::default() };
    paced_by(&plan, server, items)
}

/// The same, of a client with that plan.
pub(crate) fn paced_by(plan: &Plan, server: SocketAddr, items: f64) -> Result<Histogram<u64>, Error> {
    Ok(latency::run(plan, server, latency::Server::Permitd, items)?.waits)
}

/// Items (acquires and reports) a second that sessions get out of servers in processes of their own.
pub(crate) fn sessions(places: &[Place], plan: &Plan) -> Result<f64, Error> {
    let turn = Load::Session.run(plan, places)?;
    Ok(turn.items as f64 / turn.taken.as_secs_f64())
}

/// Runs the whole plan. Tells `progress` what it is at.
///
/// # Errors
/// If a server can't be started or a call fails: no figure is made up.
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Result<Summary, Error> {
    let servers = Servers::start(0, plan)?;
    let mut beside = Beside::find(plan)?;
    let mut figures = Figures::default();
    let loads = Load::ALL.into_iter().filter(|load| match plan.rate {
        Some(_) => false,
        None if plan.session_only => *load == Load::Session,
        None if plan.mix != Mix::Granted => matches!(load, Load::EchoStream | Load::Session),
        None => true,
    });
    for round in 1..=plan.rounds {
        for load in loads.clone() {
            progress(&format!("round {round} of {}: {load}", plan.rounds));
            figures.add(load, load.run(plan, &[Place::of_all(servers.of(load), plan.budgets)])?);
        }
        beside
            .round(plan, &servers, |name| progress(&format!("round {round} of {}: {name}", plan.rounds)))?;
    }
    let rate = plan.rate.unwrap_or_else(|| figures.median(Load::Session) / 2.0);
    let mut latencies = Latencies { rate, permitd: Vec::new(), echo: Vec::new() };
    let waits = if plan.session_only || plan.mix != Mix::Granted { 0 } else { plan.rounds };
    for round in 1..=waits {
        progress(&format!("round {round} of {}: latency", plan.rounds));
        latencies.permitd.push(latency::run(plan, servers.permitd, latency::Server::Permitd, rate)?);
        latencies.echo.push(latency::run(plan, servers.echo, latency::Server::Echo, rate)?);
        beside.wait(plan, &servers)?;
    }
    servers.stop();
    Ok(Summary::new(plan, &figures, &latencies, &beside))
}
