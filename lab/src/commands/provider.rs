//! `permitd-lab provider`: the simulator as a process.

use std::{io, net::SocketAddr};

use clap::Args;
use permitd_lab::provider::{Behaviour, Config, Limits, Provider, Rate};
use tokio::net::TcpListener;

/// Limits and behaviour of the simulated provider.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  permitd-lab provider --listen 127.0.0.1:8080 --requests 60/5 --input-tokens 30000 --output-tokens 8000
  curl -X PUT 127.0.0.1:8080/sim/limits -d '{\"requests\": {\"per_minute\": 30}}'
  curl 127.0.0.1:8080/sim/stats")]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Decides latencies, outputs and overloads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Calls per minute, and after a slash how many at once after idle time.
    #[arg(long, value_name = "AMOUNT[/BURST]", value_parser = rate)]
    requests: Option<Rate>,
    /// Tokens in per minute (Anthropic's shape).
    #[arg(long, value_name = "AMOUNT[/BURST]", value_parser = rate)]
    input_tokens: Option<Rate>,
    /// Tokens out per minute (Anthropic's shape).
    #[arg(long, value_name = "AMOUNT[/BURST]", value_parser = rate)]
    output_tokens: Option<Rate>,
    /// Tokens per minute (OpenAI's shape).
    #[arg(long, value_name = "AMOUNT[/BURST]", value_parser = rate)]
    tokens: Option<Rate>,
    /// Calls at the same time.
    #[arg(long, value_name = "CALLS")]
    concurrency: Option<u32>,
    /// Calls that are worked on at the same time; further ones wait inside and take longer.
    #[arg(long, value_name = "CALLS")]
    capacity: Option<u32>,
    /// Judge the limit on requests over so many milliseconds instead of refilling continuously.
    #[arg(long, value_name = "MS", requires = "requests")]
    quantum_ms: Option<u64>,
    /// Refused calls count against the limit on requests.
    #[arg(long)]
    refused_calls_count: bool,
    /// Refuse without saying how long to wait.
    #[arg(long)]
    no_retry_after: bool,
    /// Tell no limits in headers, as some providers do.
    #[arg(long)]
    no_limit_headers: bool,
    /// The share of calls answered with 529 (503 in OpenAI's shape).
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    overloaded: f64,
    /// The median latency in milliseconds.
    #[arg(long, default_value_t = Behaviour::default().latency_median_ms, value_name = "MS")]
    latency_median_ms: u64,
    /// The spread of latency (standard deviation of its logarithm).
    #[arg(long, default_value_t = Behaviour::default().latency_sigma, value_name = "SIGMA")]
    latency_sigma: f64,
    /// The share of calls that are of another kind and take longer.
    #[arg(long, default_value_t = Behaviour::default().slow_share, value_name = "SHARE")]
    slow_share: f64,
    /// How many times as long those take.
    #[arg(long, default_value_t = Behaviour::default().slow_times, value_name = "TIMES")]
    slow_times: f64,
    /// The mean number of tokens that come out of a call.
    #[arg(long, default_value_t = Behaviour::default().output_mean, value_name = "TOKENS")]
    output_mean: u64,
    /// The spread of the output (standard deviation of its logarithm).
    #[arg(long, default_value_t = Behaviour::default().output_sigma, value_name = "SIGMA")]
    output_sigma: f64,
}

/// Serves until Ctrl-C.
pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    println!(
        "provider simulator on http://{address} (POST /v1/messages, /v1/chat/completions; GET /sim/stats)"
    );
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("permitd-lab: cannot listen for Ctrl-C ({error}); end this process with SIGTERM");
            std::future::pending::<()>().await;
        }
    };
    Provider::serve(arguments.config(), listener, interrupted).await
}

impl Arguments {
    fn config(&self) -> Config {
        let requests = self.requests.map(|rate| Rate { quantum_ms: self.quantum_ms, ..rate });
        Config {
            seed: self.seed,
            limits: Limits {
                requests,
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                tokens: self.tokens,
                concurrency: self.concurrency,
                capacity: self.capacity,
            },
            behaviour: Behaviour {
                refused_calls_count: self.refused_calls_count,
                retry_after: !self.no_retry_after,
                limit_headers: !self.no_limit_headers,
                overloaded: self.overloaded,
                latency_median_ms: self.latency_median_ms,
                latency_sigma: self.latency_sigma,
                slow_share: self.slow_share,
                slow_times: self.slow_times,
                output_mean: self.output_mean,
                output_sigma: self.output_sigma,
            },
            ..Config::default()
        }
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let (amount, burst) = text.split_once('/').unwrap_or((text, "0"));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(Rate::per_minute(number(amount)?, number(burst)?))
}
