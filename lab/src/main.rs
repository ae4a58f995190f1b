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
    /// Serve a simulated provider: Anthropic's and OpenAI's shapes, exact limits, counters.
    Provider(commands::provider::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Provider(arguments) => commands::provider::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("permitd-lab: {error}");
            ExitCode::FAILURE
        }
    }
}
