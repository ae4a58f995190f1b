//! `permitd-lab refill`

use std::time::Duration;

use permitd_lab::{
    refill::Refill,
    siege::{Error, binary},
};

/// What waits for what.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A session keeps requests waiting for a bucket that its first permit emptied. Each grant is held against the
instant at which it became possible; the way to the client and its waking up are part of what it is late.

Examples:
  cargo build --release -p permitd -p permitd-lab
  target/release/permitd-lab refill
  target/release/permitd-lab refill --rate 500 --seconds 20")]
pub(crate) struct Arguments {
    /// Permits a second that the bucket gets; several are measured one after the other.
    #[arg(long = "rate", default_values_t = [100, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rates: Vec<u32>,
    /// Requests that wait.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    waiting: u16,
    /// Seconds for each rate, alone and beside another client.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Acquires and reports a second of the other client.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    beside: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let refill = Refill {
        rates: arguments.rates.clone(),
        waiting: arguments.waiting.into(),
        turn: Duration::try_from_secs_f64(arguments.seconds)?,
        beside: arguments.beside.into(),
    };
    println!("{}", refill.measure(&binary()?, |step| eprintln!("{step}"))?);
    Ok(())
}
