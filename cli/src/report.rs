//! `permitd report`

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use permitd_proto::v1;
use serde_json::json;

use crate::{
    failure::Failure,
    format::{print, rough, span, wire_span},
    limits::duration,
    remote::{Remote, block_on},
    usage::Actual,
};

const EXAMPLES: &str = "\
Examples:
  permitd report PERMIT_ID --outcome success --tokens 950
  permitd report PERMIT_ID --outcome rate-limited --retry-after 5s
  permitd report PERMIT_ID --outcome cancelled            never sent: all goes back
  permitd report PERMIT_ID --http-status 429 --header retry-after=5
                                                          let the server read the answer

Exit codes: 0 settled; 1 not settled: the permit had expired, or is none of this server's.";

/// Says how the call of a permit went, and what it used.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("how").required(true).multiple(true).args(["outcome", "http_status"])))]
pub(crate) struct Report {
    /// As `permitd acquire` printed it.
    permit_id: String,
    /// How the call went.
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// The response's status, for the server to read the outcome from.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u32).range(100..=599))]
    http_status: Option<u32>,
    /// A header of the response. Can be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The wait that the provider asked for.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_after: Option<Duration>,
    #[command(flatten)]
    actual: Actual,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Outcome {
    /// It worked.
    Success,
    /// Refused for a rate of requests or tokens.
    RateLimited,
    /// Refused for too many calls at once.
    ConcurrencyLimited,
    /// The provider has no capacity for anybody.
    Overloaded,
    /// Refused for growing too steeply.
    AccelerationLimited,
    /// Credit or spend cap used up.
    QuotaExhausted,
    /// This request can never succeed under the provider's limits.
    TooLarge,
    /// Sent, and failed for another reason.
    Failed,
    /// Never sent.
    Cancelled,
}

impl Outcome {
    pub(crate) fn wire(self) -> v1::Outcome {
        match self {
            Outcome::Success => v1::Outcome::Success,
            Outcome::RateLimited => v1::Outcome::RateLimited,
            Outcome::ConcurrencyLimited => v1::Outcome::ConcurrencyLimited,
            Outcome::Overloaded => v1::Outcome::Overloaded,
            Outcome::AccelerationLimited => v1::Outcome::AccelerationLimited,
            Outcome::QuotaExhausted => v1::Outcome::QuotaExhausted,
            Outcome::TooLarge => v1::Outcome::TooLarge,
            Outcome::Failed => v1::Outcome::Failed,
            Outcome::Cancelled => v1::Outcome::Cancelled,
        }
    }
}

impl Report {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(self.report())
    }

    async fn report(self) -> Result<ExitCode, Failure> {
        let request = v1::ReportRequest {
            permit_id: self.permit_id,
            outcome: self.outcome.map_or(v1::Outcome::Unspecified, Outcome::wire).into(),
            retry_after: self.retry_after.map(wire_span),
            actual: Some(self.actual.into_wire()),
            http_status: self.http_status.unwrap_or(0),
            headers: self.headers.into_iter().collect(),
            ..v1::ReportRequest::default()
        };
        let mut client = self.remote.permits().await?;
        let answer =
            client.report(request).await.map_err(|status| self.remote.failure(&status))?.into_inner();
        if self.remote.json {
            print(answer_json(&answer).to_string())?;
        } else {
            print(described(&answer))?;
        }
        Ok(if answer.settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// As the flag has it: `rate-limited`.
fn outcome_text(answer: &v1::ReportResponse) -> String {
    let name = answer.outcome().as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name).to_lowercase().replace('_', "-")
}

fn answer_json(answer: &v1::ReportResponse) -> serde_json::Value {
    json!({
        "permit_id": answer.permit_id,
        "settled": answer.settled,
        "outcome": outcome_text(answer),
        "retry": answer.retry,
        "retry_after_seconds": answer.retry_after.as_ref().map(|wait| span(wait).as_secs_f64()),
    })
}

fn described(answer: &v1::ReportResponse) -> String {
    if !answer.settled {
        return "not settled: the permit had expired, or is none of this server's".to_owned();
    }
    let retry = match (answer.retry, &answer.retry_after) {
        (false, _) => "not worth trying again".to_owned(),
        (true, None) => "worth trying again: acquire waits as long as it takes".to_owned(),
        (true, Some(wait)) => format!("worth trying again in {}: acquire waits for that", rough(span(wait))),
    };
    match answer.outcome() {
        v1::Outcome::Success | v1::Outcome::Cancelled => format!("settled as {}", outcome_text(answer)),
        _ => format!("settled as {}; {retry}", outcome_text(answer)),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no value; write it like retry-after=5")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
