//! `permitd`: the permit server, its administration, and tools around it, in one binary.
//!
//! Results go to stdout, everything else to stderr; failures say what failed, why, and what to do.

mod acquire;
mod batch;
mod budgets;
mod check;
mod cluster;
mod completions;
mod demo;
mod explain;
mod failure;
mod format;
mod limits;
mod permits;
mod pools;
mod profiles;
mod remote;
mod report;
mod run;
mod serve;
mod signals;
mod simulate;
mod store;
mod table;
mod token;
mod top;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const EXAMPLES: &str = "\
A first look:
  permitd demo                                                see what it is good for
  permitd serve                                               start a server on this machine
  permitd budgets set anthropic/prod --limit requests=60/1m   say what the provider allows
  permitd run anthropic/prod -- ./call-the-provider           run something when there is room
  permitd budgets watch                                       see where it goes

Exit codes: 0 done; 1 failed; 2 wrong usage; 69 no server; 75 no permit now, try again later.";

/// All of the quota you pay for, no 429s, shared fairly: permits for calls to rate-limited providers.
#[derive(Debug, Parser)]
#[command(name = "permitd", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server.
    Serve(serve::Serve),
    /// Say what is wrong with a configuration file, or what it would put in force.
    Check(check::Check),
    /// See and steer budgets, live.
    Budgets(budgets::Budgets),
    /// See names that stand for several budgets, and why any of those is passed over.
    Pools(pools::Pools),
    /// See the servers of a cluster, and steer which budgets each has.
    Cluster(cluster::Cluster),
    /// Replay what was recorded under other limits or weights.
    Simulate(simulate::Simulate),
    /// Say what holds a budget back, who waits, and what would help.
    Explain(explain::Explain),
    /// Watch budgets on a terminal by pressure, and steer them by keys.
    Top(top::Top),
    /// See what is known of providers: how they count, limit and refuse.
    Profiles(profiles::ProfilesCommand),
    /// Look after the file that a server keeps its state in.
    Store(store::StoreCommand),
    /// Run a command when there is room for it in the budget.
    Run(run::Run),
    /// Make a file of API requests through permits, and go on where it stopped.
    Batch(batch::Batch),
    /// Ask for a permit by hand.
    Acquire(acquire::Acquire),
    /// Say by hand how the call of a permit went.
    Report(report::Report),
    /// Make tokens, by which callers prove who they are.
    Token(token::Token),
    /// Watch a fleet of clients share a provider, without permitd and with it.
    Demo(demo::Demo),
    /// One client of the demo.
    #[command(hide = true)]
    DemoClient,
    /// The server of the demo.
    #[command(hide = true)]
    DemoServer(serve::Serve),
    /// Print completions for a shell.
    Completions(completions::Completions),
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Check(check) => check.run(),
            Command::Budgets(budgets) => budgets.run(),
            Command::Pools(pools) => pools.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::Explain(explain) => explain.run(),
            Command::Top(top) => top.run(),
            Command::Profiles(profiles) => profiles.run(),
            Command::Store(store) => store.run(),
            Command::Run(run) => run.run(),
            Command::Batch(batch) => batch.run(),
            Command::Acquire(acquire) => acquire.run(),
            Command::Report(report) => report.run(),
            Command::Token(token) => token.run(),
            Command::Demo(demo) => demo.run(),
            Command::DemoClient => demo::run_client(),
            Command::DemoServer(serve) => demo::run_server(serve),
            Command::Completions(completions) => completions.run(),
        }
    }

    /// Whether failures are for machines.
    fn json(&self) -> bool {
        match self {
            Command::Serve(_) | Command::DemoClient | Command::DemoServer(_) | Command::Completions(_) => {
                false
            }
            Command::Token(token) => token.json(),
            Command::Demo(demo) => demo.json,
            Command::Check(check) => check.json,
            Command::Budgets(budgets) => budgets.json(),
            Command::Pools(pools) => pools.json(),
            Command::Cluster(cluster) => cluster.json(),
            Command::Simulate(simulate) => simulate.json,
            Command::Explain(explain) => explain.remote.json,
            Command::Top(top) => top.remote.json,
            Command::Profiles(profiles) => profiles.json(),
            Command::Store(store) => store.json(),
            Command::Run(run) => run.remote.json,
            Command::Batch(batch) => batch.remote.json,
            Command::Acquire(acquire) => acquire.remote.json,
            Command::Report(report) => report.remote.json,
        }
    }
}

fn main() -> ExitCode {
    // Of all the ways that rustls can be built; nothing else in this process chooses one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = Arguments::parse().command;
    let json = command.json();
    command.run().unwrap_or_else(|failure| failure.show(json))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// Goal: the command line contradicts itself nowhere.
    #[test]
    fn arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }

    /// Goal: what stands below a command's flags is as wide as the terminal: a sentence is broken there and nowhere else.
    #[test]
    fn prose_is_not_broken_by_hand() {
        let mut left = vec![super::Arguments::command()];
        while let Some(command) = left.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for (line, next) in help.lines().zip(help.lines().skip(1)) {
                let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let is_over = line.ends_with(['.', ':']);
                assert!(!is_prose(line) || !is_prose(next) || is_over, "{}: {line}", command.get_name());
            }
            left.extend(command.get_subcommands().cloned());
        }
    }
}
