//! `permitd-lab growth`

use std::time::Duration;

use permitd_lab::{
    growth::{Each, Regions, Sharing, Size},
    siege::{Error, binary},
};

/// What docs/growth.md tells of.
const SIZES: [(u32, u32); 4] = [(3, 10_000), (30, 300_000), (100, 1_000_000), (1_000, 10_000_000)];
/// Between two measurements of shares.
const MEASURED_EVERY: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(10)];

/// What is measured and reckoned.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A cluster of three servers is started on a real etcd, and budgets are made in it: what each takes of etcd
and of servers is measured, and what clusters of other sizes would ask for is reckoned from that. Beats are
what servers tell of themselves, which every other one hears. Then regions share a limit, in virtual time.

Examples:
  cargo build --release -p permitd -p permitd-lab
  target/release/permitd-lab growth
  target/release/permitd-lab growth --budgets 50000 --active-one-in 10")]
pub(crate) struct Arguments {
    /// Budgets that are made.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    budgets: u32,
    /// Of so many budgets, one is used in any one second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    active_one_in: u32,
    /// Regions that share a limit.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    regions: u16,
    /// Milliseconds from one region to another, one way.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    trip_ms: u16,
    /// What all regions ask for together, on average, in percent of the limit.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=400))]
    demand: u16,
    /// Decides when requests come.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let each = Each::measure(&binary()?, arguments.budgets as usize)?;
    println!("{each}");
    let active_one_in = arguments.active_one_in;
    let sizes = SIZES.map(|(servers, budgets)| Size { servers, budgets, active_one_in });
    println!("{}\n", Size::table(&sizes, &each));
    let regions = Regions {
        regions: arguments.regions.into(),
        limit: 1_000.0,
        demand: f64::from(arguments.demand) / 100.0,
        trip: Duration::from_millis(arguments.trip_ms.into()),
        time: Duration::from_secs(600),
        seed: arguments.seed,
    };
    println!(
        "{} regions, {:?} apart, {} % of {:.0} requests a second asked for; ten minutes",
        regions.regions, regions.trip, arguments.demand, regions.limit
    );
    println!("{:<34} {:>8} {:>10} {:>10}", "", "used", "p50", "p99");
    let leased = MEASURED_EVERY.map(Sharing::Leased);
    for sharing in [Sharing::Central, Sharing::Equal].into_iter().chain(leased) {
        println!("{}", regions.run(sharing));
    }
    Ok(())
}
