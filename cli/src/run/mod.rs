//! `permitd run`: a command under a permit. The permit lives for as long as the command does, and is settled by how it ends.

mod child;

use std::{ffi::OsString, future::Future, process::ExitCode, time::Duration};

use clap::Args;
use permitd_proto::v1::{self, permit_service_client::PermitServiceClient};
use tokio::time::{Instant, sleep};

use self::child::{Child, Ended};
use crate::{
    failure::{Failure, TRY_LATER},
    format::span,
    permits::{Ask, Permits},
    remote::{Connection, Remote, block_on},
};

const EXAMPLES: &str = "\
Examples:
  permitd run anthropic/prod --tokens 1200 -- ./summarize.sh chapter-1.txt

  a shell loop of any number of background jobs, paced without a line of code:
    for f in *.txt; do permitd run anthropic/prod -- ./summarize.sh \"$f\" & done; wait
  or 200 at once, in the background's own class:
    ls *.txt | xargs -P 200 -I{} permitd run anthropic/prod --priority batch -- ./summarize.sh {}

How the command ends settles the permit: status 0 is a success; 75 (EX_TEMPFAIL, or those of \
--rate-limited-on) says that the provider refused it for its rate, which holds everyone else back; \
anything else is a failure. The command may say more by itself, which then counts:
  permitd report \"$PERMITD_PERMIT_ID\" --outcome rate-limited --retry-after 5s

Exit codes: the command's own (128 + N if signal N ended it). Where it never ran: 69 no server, \
75 no permit now, 126 it can't be run, 127 there is no such command, 1 anything else.";

/// For how long a server that was there may be away while we wait or report.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to reach it; twice that at most, by chance, so that hundreds don't come at once.
const PAUSE: Duration = Duration::from_millis(500);

type Client = PermitServiceClient<Connection>;

/// Waits for a permit, runs a command, and reports by its exit status.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    ask: Ask,
    /// An exit status by which the command says that the provider refused it for its rate. Can be repeated.
    #[arg(long, value_name = "STATUS", default_values_t = [TRY_LATER])]
    rate_limited_on: Vec<u8>,
    /// An exit status by which the command says that the provider has no capacity for anybody. Can be repeated.
    #[arg(long, value_name = "STATUS")]
    overloaded_on: Vec<u8>,
    /// Say on stderr how long the wait is.
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(self.run_under_permit())
    }

    async fn run_under_permit(self) -> Result<ExitCode, Failure> {
        // A server that was never there is nothing to wait for. One that goes away is connected to again by this channel.
        let client = self.remote.permits().await?;
        let permit = self.permit(client.clone()).await?;
        let mut child = match Child::start(&self.command, &permit.permit_id) {
            Ok(child) => child,
            Err(failure) => {
                self.settle(client, &permit, v1::Outcome::Cancelled).await;
                return Err(failure);
            }
        };
        let ended = tokio::select! {
            ended = child.ended() => ended,
            () = self.keep_alive(&client, &permit) => unreachable!("a permit is kept alive for as long as it takes"),
        };
        self.settle(client, &permit, self.outcome(&ended)).await;
        Ok(ended.exit_code())
    }

    /// Waits for the permit. A server that goes away meanwhile may come back.
    async fn permit(&self, mut client: Client) -> Result<v1::Permit, Failure> {
        let began = Instant::now();
        let mut heard = Instant::now();
        loop {
            let request = self.ask.request(1, began.elapsed());
            let failure = match Permits::ask(&self.remote, &mut client, request, self.verbose).await {
                Ok(mut permits) => {
                    let granted = permits.next().await;
                    // However long we waited, the server was there until now.
                    heard = Instant::now();
                    match granted {
                        Ok(Some(permit)) => return Ok(permit),
                        Ok(None) => Failure::new("the server ended the call without a permit"),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            if !failure.unreachable || heard.elapsed() > PATIENCE {
                return Err(failure);
            }
            pause().await;
        }
    }

    /// Extends the permit at half of its life, again and again.
    async fn keep_alive(&self, client: &Client, permit: &v1::Permit) {
        let life = permit.ttl.as_ref().map_or(Duration::from_secs(60), span);
        loop {
            sleep(life / 2).await;
            let until = Instant::now() + life / 4;
            if let Err(failure) = patiently(until, || self.extend(client.clone(), permit)).await {
                eprintln!("permitd: the permit could not be extended\n{failure}");
            }
        }
    }

    /// Only sessions extend permits, so this is a very short one.
    async fn extend(&self, mut client: Client, permit: &v1::Permit) -> Result<(), Failure> {
        let name = concat!("permitd-cli/", env!("CARGO_PKG_VERSION")).to_owned();
        let request = v1::SessionRequest {
            hello: Some(v1::Hello { client: name, ..v1::Hello::default() }),
            extend: vec![permit.permit_id.clone()],
            ..v1::SessionRequest::default()
        };
        let failed = |status| self.remote.failure(&status);
        let answers = client.session(tokio_stream::once(request)).await;
        let mut answers = answers.map_err(failed)?.into_inner();
        while let Some(answer) = answers.message().await.map_err(failed)? {
            if let Some(refused) = answer.refused.into_iter().next() {
                return Err(Failure::new(refused.message));
            }
        }
        Ok(())
    }

    fn outcome(&self, ended: &Ended) -> v1::Outcome {
        match ended.status() {
            Some(0) => v1::Outcome::Success,
            Some(status) if self.rate_limited_on.contains(&status) => v1::Outcome::RateLimited,
            Some(status) if self.overloaded_on.contains(&status) => v1::Outcome::Overloaded,
            _ => v1::Outcome::Failed,
        }
    }

    /// Reports. If that can't be done the command's status still counts, and the permit ends by itself.
    async fn settle(&self, client: Client, permit: &v1::Permit, outcome: v1::Outcome) {
        let permit_id = permit.permit_id.clone();
        let request =
            v1::ReportRequest { permit_id, outcome: outcome.into(), ..v1::ReportRequest::default() };
        let report = || async {
            let reported = client.clone().report(request.clone()).await;
            reported.map_err(|status| self.remote.failure(&status))
        };
        if let Err(failure) = patiently(Instant::now() + PATIENCE, report).await {
            eprintln!("permitd: the command ended, but its permit could not be reported\n{failure}");
        }
    }
}

/// Tries until the server is there, or until `until`.
async fn patiently<T, F>(until: Instant, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    loop {
        match attempt().await {
            Err(failure) if failure.unreachable && Instant::now() < until => pause().await,
            answer => return answer,
        }
    }
}

async fn pause() {
    sleep(PAUSE.mul_f64(1.0 + rand::random::<f64>())).await;
}
