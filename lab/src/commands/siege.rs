//! `permitd-lab crowd`, `permitd-lab hostile` and `permitd-lab telemetry`

use std::time::Duration;

use permitd_lab::siege::{Crowd, Error, Polite, Siege, Telemetry, binary};

/// The client that means no harm.
#[derive(Debug, clap::Args)]
struct PoliteArguments {
    /// Acquires and reports a second of a polite client on a connection of its own.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Seconds of one turn of it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

impl PoliteArguments {
    fn read(&self) -> Result<Polite, Error> {
        Ok(Polite { rate: self.rate.into(), turn: Duration::try_from_secs_f64(self.seconds)? })
    }
}

/// What comes.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdArguments {
    /// Connections, each with a session and a tenant of its own.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Permits in flight, in all of them together.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Requests that wait, in all of them together.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
    #[command(flatten)]
    polite: PoliteArguments,
}

pub(crate) fn crowd(arguments: &CrowdArguments) -> Result<(), Error> {
    let CrowdArguments { connections, in_flight, waiting, polite } = arguments;
    let crowd = Crowd {
        connections: *connections,
        in_flight: (*in_flight).max(1),
        waiting: *waiting,
        polite: polite.read()?,
    };
    println!("{}", crowd.run(&binary()?)?);
    Ok(())
}

/// Who comes.
#[derive(Debug, clap::Args)]
pub(crate) struct HostileArguments {
    /// How often each kind of hostile client gets its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The server's bound on what the sessions of one connection ask in a second; 0 for none.
    #[arg(long, default_value_t = 0)]
    items_per_second: u32,
    #[command(flatten)]
    polite: PoliteArguments,
}

pub(crate) fn hostile(arguments: &HostileArguments) -> Result<(), Error> {
    let HostileArguments { rounds, items_per_second, polite } = arguments;
    let siege =
        Siege { rounds: (*rounds).max(1), items_per_second: *items_per_second, polite: polite.read()? };
    println!("{}", siege.run(&binary()?)?);
    Ok(())
}

/// How it is watched.
#[derive(Debug, clap::Args)]
pub(crate) struct TelemetryArguments {
    /// How often each server gets its turn.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Budgets that the load goes round.
    #[arg(long, default_value_t = 10_000)]
    budgets: usize,
    /// Of so many requests one is traced, as server.telemetry.sample_one_in; 0 for none.
    #[arg(long, default_value_t = 100)]
    sample_one_in: u32,
    /// Seconds between two scrapes, as in the Prometheus configuration of docs/operations.md; 0 for none.
    #[arg(long, default_value_t = 15.0)]
    scrape_every: f64,
}

pub(crate) fn telemetry(arguments: &TelemetryArguments) -> Result<(), Error> {
    let TelemetryArguments { rounds, seconds, budgets, sample_one_in, scrape_every } = arguments;
    let telemetry = Telemetry {
        rounds: (*rounds).max(1),
        turn: Duration::try_from_secs_f64(*seconds)?,
        budgets: (*budgets).max(1),
        sample_one_in: *sample_one_in,
        scrape_every: Duration::try_from_secs_f64(*scrape_every)?,
    };
    println!("{}", telemetry.run(&binary()?, |step| eprintln!("{step}"))?);
    Ok(())
}
