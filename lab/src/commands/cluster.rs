//! `permitd-lab cluster`

use std::time::Duration;

use permitd_lab::{
    cluster::Cluster,
    siege::{Error, binary},
};

/// What is measured.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything runs on this machine: an etcd of one member, the servers (the permitd beside this program) and
the load. So ratios say more than figures. It takes about two minutes, and wants a machine that does
nothing else. It measures, one after the other, each beside what it has to reach:

  the hop      acquire to grant at a budget's owner and at another server, asked in turn by one client
  throughput   one server; several, each asked for the budgets that it owns, known beforehand and as
               servers tell clients that want to follow owners; several, each asked for all
  writes       what etcd writes while nobody asks, at a steady pace, and at all that goes through
  replaced     the longest wait of callers when a server is told to stop (SIGTERM) and started again
  killed       the same when it ends without a word (kill -9), with leases of 4 s

Callers of the last two use the client library: some are at the server that ends, some at others.

Examples:
  cargo build --release -p permitd -p permitd-lab
  target/release/permitd-lab cluster
  target/release/permitd-lab cluster --budgets 10000 --rounds 3
  target/release/permitd-lab cluster --json | jq .hop")]
pub(crate) struct Arguments {
    /// Servers of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=20))]
    servers: u16,
    /// Budgets that they share.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    budgets: u32,
    /// How often each way gets its turn, and how often a server ends in each way.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds of one turn.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections of the load, each with one session.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let cluster = Cluster {
        servers: arguments.servers.into(),
        budgets: arguments.budgets as usize,
        rounds: arguments.rounds.into(),
        turn: Duration::try_from_secs_f64(arguments.seconds)?,
        connections: arguments.connections.max(arguments.servers).into(),
    };
    let figures = cluster.run(&binary()?, |step| eprintln!("{step}"))?;
    match arguments.json {
        true => println!("{}", figures.json()),
        false => print!("{figures}"),
    }
    Ok(())
}
