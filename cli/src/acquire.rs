//! `permitd acquire`

use std::{process::ExitCode, time::Duration};

use clap::Args;
use permitd_proto::v1;
use permitd_server::config::DurationText;

use crate::{
    failure::Failure,
    format::{print, rough, span, span_text},
    limits::duration,
    permits::{Ask, Permits, permit_json},
    remote::{Remote, block_on},
};

const EXAMPLES: &str = "\
Examples:
  permitd acquire anthropic/prod --tokens 1200
  permitd acquire anthropic/prod --max-wait 0           now or never: exit code 75 if not
  permitd acquire anthropic/prod --count 5 --hold 30s   hold five, to watch others wait
  id=$(permitd acquire openai/ci) && call-it; permitd report \"$id\" --outcome success

Prints the permit's id on stdout, one a line, and all else on stderr. A permit that is not \
reported ends by itself, and its charge stays. To run a command under a permit there is \
`permitd run`, which does all of that.";

/// Waits for a permit and prints its id.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Acquire {
    #[command(flatten)]
    ask: Ask,
    /// How many permits, each with the whole estimate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Hold the permits for so long, then report them as successful.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    hold: Option<Duration>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Acquire {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(self.acquire())
    }

    async fn acquire(self) -> Result<ExitCode, Failure> {
        let mut client = self.remote.permits().await?;
        let request = self.ask.request(self.count, Duration::ZERO);
        let mut permits = Permits::ask(&self.remote, &mut client, request, !self.remote.json).await?;
        let mut granted = Vec::new();
        while let Some(permit) = permits.next().await? {
            if self.remote.json {
                print(permit_json(&permit).to_string())?;
            } else {
                print(&permit.permit_id)?;
                eprintln!("{}", described(&permit));
            }
            granted.push(permit.permit_id);
        }
        let Some(hold) = self.hold else {
            if !self.remote.json {
                eprintln!("report with: permitd report PERMIT_ID --outcome success");
            }
            return Ok(ExitCode::SUCCESS);
        };
        if !self.remote.json {
            eprintln!("holding for {}", DurationText(hold));
        }
        tokio::time::sleep(hold).await;
        for permit_id in granted {
            let outcome = v1::Outcome::Success.into();
            let report = v1::ReportRequest { permit_id, outcome, ..v1::ReportRequest::default() };
            client.report(report).await.map_err(|status| self.remote.failure(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a permit holds, in a line.
fn described(permit: &v1::Permit) -> String {
    let mut facts = Vec::new();
    if let Some(charged) = &permit.charged {
        let named = [("requests", charged.requests), ("tokens", charged.tokens)];
        let named =
            named.into_iter().filter_map(|(unit, amount)| Some((unit, amount.filter(|amount| *amount > 0)?)));
        let other = charged.other.iter().map(|(unit, amount)| (unit.as_str(), *amount));
        let units: Vec<String> =
            named.chain(other).map(|(unit, amount)| format!("{amount} {unit}")).collect();
        facts.push(format!("holds {}", units.join(", ")));
    }
    facts.extend(permit.waited.as_ref().map(|waited| format!("waited {}", rough(span(waited)))));
    facts.extend(permit.ttl.as_ref().map(|ttl| format!("ends by itself in {}", span_text(ttl))));
    format!("granted for {}/{}: {}", permit.provider, permit.key, facts.join("; "))
}
