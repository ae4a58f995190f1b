//! `permitd-lab bench`

use std::time::Duration;

use permitd_lab::bench::{self, Plan};
use permitd_server::config::Data;

/// What to measure with.
#[derive(Debug, clap::Args)]
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
    /// Only permitd's session: to look at with a profiler.
    #[arg(long, conflicts_with = "rate")]
    session_only: bool,
    /// Only latency, at so many items (acquires and reports) a second; without it, at half of what the session reached.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Where permitd keeps its state: a folder, or `none`.
    #[arg(long, default_value = "none")]
    data: Data,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), bench::Error> {
    let turn = Duration::try_from_secs_f64(arguments.seconds)?;
    let [rounds, connections, window, budgets] =
        [arguments.rounds, arguments.connections, arguments.window, arguments.budgets]
            .map(|number| number.max(1));
    let plan = Plan {
        rounds,
        turn,
        connections,
        window: window.max(16),
        budgets,
        session_only: arguments.session_only,
        rate: arguments.rate.map(f64::from),
        data: arguments.data.clone(),
    };
    let summary = bench::run(&plan, |step| eprintln!("{step}"))?;
    println!("{summary}");
    Ok(())
}
