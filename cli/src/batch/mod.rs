//! `permitd batch`: a file of API requests, made through permits. Results are added to a file as they come; a run that was ended,
//! by whatever means, is gone on with by running it again.

mod answer;
mod auth;
mod call;
mod ids;
mod input;
mod lines;
mod local;
mod output;
mod progress;
mod provider;
mod record;
mod request;
mod run;
mod stop;
mod summary;
mod writer;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, value_parser};
use permitd_client::Client;
use permitd_server::config::BudgetName;
use reqwest::Url;
use tokio::time::timeout;

use self::{
    auth::Auth,
    call::Caller,
    input::Input,
    local::{Embedded, Local},
    output::Outputs,
    progress::{Board, Screen},
    provider::{Provider, base_url, is_local},
    run::{Outcome, Run},
    stop::{Stop, Stopper},
    summary::Summary,
    writer::{Writer, Writing},
};
use crate::{
    failure::Failure,
    format::print,
    limits::{budget, duration},
    permits::Priority,
    remote::{Remote, block_on},
    signals::INTERRUPTED,
};

const EXAMPLES: &str = "\
Examples:
  permitd batch requests.jsonl --out results.jsonl --budget openai/batch \\
      --base-url https://api.openai.com --auth-env OPENAI_API_KEY
  permitd batch requests.jsonl --out results.jsonl --budget anthropic/prod \\
      --base-url https://api.anthropic.com --auth-env ANTHROPIC_API_KEY
  with no server, and the limits said here:
    permitd batch requests.jsonl --out results.jsonl --budget openai/batch --local \\
        --limit requests=500/1m --limit tokens=200k/1m \\
        --base-url https://api.openai.com --auth-env OPENAI_API_KEY

A line of the input is {\"custom_id\": .., \"method\": \"POST\", \"url\": \"/v1/..\", \"body\": {..}}, or \
{\"custom_id\": .., \"params\": {..}} for Anthropic's /v1/messages. Results come in the order in which \
calls end, in OpenAI's form of a batch's output; what failed stands beside them, in \
results.errors.jsonl. Run the same command again to go on where it stopped: what has a result is \
skipped, what failed is tried again. Ctrl-C lets calls in flight end; a second one does not.

Exit codes: 0 all answered; 1 some failed, or it can't go on; 2 wrong usage; 69 no server, or no \
provider; 75 the provider's quota is used up; 130 interrupted.";

/// For how long a server that was there may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a run that is stopped at once takes for goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Makes a file of API requests through permits.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Batch {
    /// The requests, one a line; `-` for stdin.
    #[arg(value_name = "REQUESTS")]
    input: PathBuf,
    /// The file that results are added to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What stands before the url of every request.
    #[arg(long, value_name = "URL", value_parser = base_url)]
    base_url: Url,
    /// The budget that permits are taken from: PROVIDER/KEY.
    #[arg(long, value_parser = budget)]
    budget: BudgetName,
    /// Who shares the budget: a service, a team, a job. Default: `default`.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,
    /// How urgent it is. Classes share 16 : 4 : 1, so none starves.
    #[arg(long, value_enum, default_value_t = Priority::Batch)]
    priority: Priority,
    /// Requests at once, waiting for a permit or in flight.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// How often a request is called at most. Refusals by a limit do not count while other calls get through.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..=1_000))]
    attempts: u32,
    /// How long one call may take.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    auth: Auth,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Batch {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(self.make_all())
    }

    async fn make_all(self) -> Result<ExitCode, Failure> {
        let input = Input::open(&self.input)?;
        let headers = self.auth.headers(self.budget.provider())?;
        let stopper = Stopper::listen()?;
        let (client, embedded) = tokio::select! {
            connected = self.connect() => connected?,
            () = stopper.is(Stop::Finish) => return Err(interrupted()),
        };
        let (outputs, ids) = Outputs::open(&self.out, input.path())?;
        let mut screen = Screen::new();
        if self.base_url.scheme() == "http" && self.auth.has_secret() && !is_local(&self.base_url) {
            screen.say("--base-url is not https: whoever is on the way can read the secret");
        }
        if let Some(mended) = &outputs.mended {
            screen.say(mended);
        }
        let errors = outputs.errors_path.clone();
        let board = Arc::new(Board::default());
        let (writer, writing) = Writer::start(outputs, Arc::clone(&board));
        let caller = Caller {
            client: client.clone(),
            ask: Caller::ask(&self.budget.to_string(), self.priority.into()),
            provider: Provider::new(&self.base_url, headers, self.timeout)?,
            board: Arc::clone(&board),
            stopper: stopper.clone(),
            attempts: self.attempts,
        };
        let run = Run {
            items: input.read(ids),
            caller: Arc::new(caller),
            writer,
            board: Arc::clone(&board),
            stopper: stopper.clone(),
            concurrency: usize::try_from(self.concurrency).unwrap_or(usize::MAX),
        };
        let outcome = run.make_all(&mut screen).await;
        let outcome = written(outcome, writing);
        say_goodbye(client, stopper.now()).await;
        drop(embedded);
        screen.clear();
        let summary = Summary {
            counts: board.counts(),
            elapsed: screen.elapsed(),
            results: &self.out,
            errors: &errors,
            is_complete: outcome.is_complete,
        };
        print(if self.remote.json { summary.json().to_string() } else { summary.render() })?;
        verdict(outcome, stopper.now(), summary.counts.failed)
    }

    /// To the server, or to one of our own.
    async fn connect(&self) -> Result<(Client, Option<Embedded>), Failure> {
        let (remote, embedded) = if self.local.local {
            let embedded = self.local.start(&self.budget).await?;
            (Remote::at(&embedded.url), Some(embedded))
        } else {
            // A server that was never there is nothing to wait for.
            self.remote.permits().await?;
            (self.remote.clone(), None)
        };
        let client = remote
            .client()?
            .tenant(&self.tenant)
            .name(concat!("permitd-batch/", env!("CARGO_PKG_VERSION")))
            .outage_after(PATIENCE)
            .connect()
            .await;
        let client = client.map_err(|error| {
            if error.is_unavailable() {
                Failure::unreachable(&remote.server, error)
            } else {
                Failure::new(error.to_string()).exit_code(2)
            }
        })?;
        Ok((client, embedded))
    }
}

/// Waits until all results are on the disk. That they can't be is why the run ended, whatever else there was.
fn written(outcome: Outcome, writing: Writing) -> Outcome {
    match writing.end() {
        Ok(()) => outcome,
        Err(error) => {
            let failure = Failure::new("can't write results").because(error);
            let failure = failure.hint("make room, and run the same command again to go on");
            Outcome { is_complete: false, failure: Some(failure) }
        }
    }
}

/// Reports that are on their way are answered, unless somebody is in a hurry.
async fn say_goodbye(client: Client, stop: Stop) {
    if stop == Stop::Now {
        let _ = timeout(GOODBYE, client.close()).await;
    } else {
        client.close().await;
    }
}

fn verdict(outcome: Outcome, stop: Stop, failed: u64) -> Result<ExitCode, Failure> {
    if let Some(failure) = outcome.failure {
        return Err(failure);
    }
    if !outcome.is_complete && stop > Stop::Run {
        return Err(interrupted());
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn interrupted() -> Failure {
    let failure = Failure::new("interrupted; nothing that was answered is lost");
    failure.hint("run the same command again to go on").exit_code(INTERRUPTED)
}
