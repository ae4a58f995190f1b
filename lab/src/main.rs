//! `permitd-lab`: the laboratory's tools as commands.

mod commands;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "permitd-lab", about = "Tools to measure permitd with.", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure a permitd server against a bare echo on the same transport.
    Bench(commands::bench::Arguments),
    /// Count the instructions of the hot path with valgrind, which a busy machine does not change.
    Instructions(commands::instructions::Arguments),
    /// Do the same work so many times, and nothing else: for a profiler.
    Steps(commands::instructions::StepsArguments),
    /// Measure how late grants are that waited for a bucket to refill.
    Refill(commands::refill::Arguments),
    /// Serve a simulated provider: Anthropic's and OpenAI's shapes, exact limits, counters.
    Provider(commands::provider::Arguments),
    /// Play fleets of clients against providers whose true limits nobody told, in virtual time, and check what comes out.
    Scenarios(commands::scenarios::Arguments),
    /// Measure what several servers cost and bear as one: the hop, throughput, etcd's writes, and servers that end. Needs etcd.
    Cluster(commands::cluster::Arguments),
    /// Measure a server's memory with many connections and many requests that wait, and what that costs others.
    Crowd(commands::siege::CrowdArguments),
    /// Measure how what a grant costs, memory and the start grow with requests, tenants, limits and budgets.
    Depth(commands::depth::Arguments),
    /// Measure what one budget asks of a cluster, and reckon what many ask for; try a limit that regions share. Needs etcd.
    Growth(commands::growth::Arguments),
    /// Measure what one hostile client at full speed costs a polite one.
    Hostile(commands::siege::HostileArguments),
    /// Measure what metrics and traces cost.
    Telemetry(commands::siege::TelemetryArguments),
}

// The allocator that the server's binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Instructions(arguments) => commands::instructions::run(&arguments),
        Command::Steps(arguments) => commands::instructions::steps(&arguments),
        Command::Provider(arguments) => provider(arguments),
        Command::Refill(arguments) => commands::refill::run(&arguments),
        Command::Scenarios(arguments) => commands::scenarios::run(&arguments),
        Command::Cluster(arguments) => commands::cluster::run(&arguments),
        Command::Crowd(arguments) => commands::siege::crowd(&arguments),
        Command::Depth(arguments) => commands::depth::run(&arguments),
        Command::Growth(arguments) => commands::growth::run(&arguments),
        Command::Hostile(arguments) => commands::siege::hostile(&arguments),
        Command::Telemetry(arguments) => commands::siege::telemetry(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("permitd-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn provider(
    arguments: commands::provider::Arguments,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    commands::provider::run(arguments).await.map_err(Into::into)
}
