//! `permitd demo`: a fleet of client processes shares one rate-limited provider key, first as people do it today, then through
//! permitd. Nothing in it is scripted: a simulated provider enforces limits and counts, and the clients measure their waits.
//!
//! Every process that the demo starts ends with it: it kills them when it is done, interrupted or failing, and each of them also
//! ends by itself when its stdin does, which holds even for a demo that was killed.

mod backoff;
mod fleet;
mod measure;
mod permits;
mod phase;
mod protocol;
mod provider_call;
mod scenario;
mod screen;
mod served;
mod summary;
mod worker;

use std::process::ExitCode;

use clap::{Args, value_parser};
use tokio::runtime;

use self::{
    phase::Simulator,
    protocol::Way,
    scenario::{CLIENTS_MAX, CLIENTS_MIN, SECONDS_MAX, SECONDS_MIN, Scenario},
    screen::Screen,
    served::Served,
    summary::Summary,
};
use crate::{
    failure::Failure,
    format::print,
    remote::block_on,
    serve::Serve,
    signals::{INTERRUPTED, Signals},
};

/// A fleet of clients shares a rate-limited provider: first with retries and backoff, then through permitd.
#[derive(Debug, Args)]
#[command(after_help = "\
Starts a simulated provider, a permitd server and the clients on free ports of this machine, and ends them all.

Examples:
  permitd demo
  permitd demo --seconds 60 --clients 16
  permitd demo --json > figures.json")]
pub(crate) struct Demo {
    /// How long it takes in all, more or less.
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    seconds: u64,
    /// Decides prompts, outputs, latencies and jitter. What the machine does in between is its own affair.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Client processes: equal workers, one that is greedy and one that is interactive.
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(i64::from(CLIENTS_MIN)..=i64::from(CLIENTS_MAX)))]
    clients: u32,
    /// Print the figures as JSON; progress goes to stderr.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Demo {
    /// Shows both phases.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // Two threads, so that a slow terminal does not slow the simulated provider down.
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("can't start the runtime").because(error))?;
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            tokio::select! {
                shown = self.show() => shown,
                () = signals.next() => {
                    Err(Failure::new("interrupted; all processes of the demo are ended").exit_code(INTERRUPTED))
                }
            }
        })
    }

    async fn show(&self) -> Result<ExitCode, Failure> {
        let scenario = Scenario::new(self.seconds, self.seed, self.clients);
        let mut screen = Screen::new(self.json, scenario.clients.len());
        screen.say(&scenario.introduction());
        let simulator = Simulator::start(&scenario).await?;
        let served = Served::start().await?;
        let declared = scenario.declared();
        let budget = served.declare(&declared).await?;

        let at_most = scenario.phase_at_most();
        screen.begin("1 of 2: every client by itself, retries with exponential backoff and jitter");
        let backoff = phase::run(&scenario, &simulator, Way::Backoff, at_most, &mut screen).await?;
        screen.begin("2 of 2: the same calls through permitd");
        let way = Way::Permits { server: served.url.clone(), budget };
        let permitd = phase::run(&scenario, &simulator, way, at_most, &mut screen).await?;

        let summary = Summary { scenario: &scenario, declared, backoff, permitd };
        if self.json {
            print(serde_json::to_string(&summary).expect("plain data is always JSON"))?;
        } else {
            print(format!("\n{}", summary.render()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The hidden command that the demo's clients run.
pub(crate) fn run_client() -> Result<ExitCode, Failure> {
    block_on(async { Ok(worker::run().await) })
}

/// The hidden command that the demo's server runs.
pub(crate) fn run_server(serve: Serve) -> Result<ExitCode, Failure> {
    served::run(serve)
}
