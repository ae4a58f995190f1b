//! `permitd simulate`: what a recorded trace would have come to under other limits. The same heart as the server's, in virtual time.

mod replay;
mod told;
mod trace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser};
use permitd_budget::{Adapt, BudgetSpec, CheckedSpec, LimitSpec};
use permitd_server::{admin::read_budget, config::BudgetName, profile::Profiles};

use self::{replay::replay, trace::Trace};
use crate::{
    budgets::Declaration,
    failure::Failure,
    format::print,
    limits::{budget, limit},
};

const EXAMPLES: &str = "\
Examples:
  permitd serve --record trace.jsonl
  permitd simulate --trace trace.jsonl --budget anthropic/prod --change '--limit requests=2000/1m'
  permitd simulate --trace trace.jsonl --budget anthropic/prod --change '--tenant web=3:40%+' --json

A change is written as for `permitd budgets set`: limits and tenants that it names take the place of those recorded, all \
others stay. Both columns are replays of the trace, the first with what was declared last while it was recorded. Calls take \
as long and use as much as they did; calls that were never reported take the median. The provider is taken to have the \
limits that were declared, or those of --provider: what goes beyond is refused with a 429 and asked for again.";

/// Replays a recorded trace under other limits or weights, and shows waits, throughput and 429s before and after.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Simulate {
    /// What `permitd serve --record` wrote.
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// PROVIDER/KEY
    #[arg(long, value_parser = budget)]
    budget: BudgetName,
    /// What would be declared, as flags of `permitd budgets set` in one argument.
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    change: String,
    /// A limit that the provider really has; can be repeated. Default: those that were declared while the trace was recorded.
    #[arg(long = "provider", value_name = "LIMIT", value_parser = limit)]
    provider: Vec<LimitSpec>,
    /// For machines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `--change` may say.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Change {
    #[command(flatten)]
    declaration: Declaration,
}

impl Simulate {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let trace = Trace::read(&self.trace, &self.budget)?;
        let after = self.changed(&trace.declared)?;
        let profiles = Profiles::built_in();
        let profile = profiles.of(self.budget.provider());
        let provider = self.provider_limits(&trace.declared)?;
        let [before, after] = [&trace.declared, &after]
            .map(|spec| replay(&trace, &profile.fill(spec), &profile.fill(&provider)));
        let told =
            if self.json { told::json(&before, &after).to_string() } else { told::table(&before, &after) };
        print(told)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What was recorded with the change over it.
    fn changed(&self, recorded: &CheckedSpec) -> Result<CheckedSpec, Failure> {
        let wrong = |why: String| Failure::new("--change makes no sense").because(why).exit_code(2);
        let words = shlex::split(&self.change).ok_or_else(|| wrong("a quote has no end".to_owned()))?;
        let change = Change::try_parse_from(words).map_err(|error| wrong(error.to_string()))?;
        let declared = change.declaration.wire(&self.budget, String::new())?;
        let (_, named) =
            read_budget(&declared).map_err(|fault| wrong(fault.into_status().message().to_owned()))?;
        let mut spec = BudgetSpec::clone(recorded);
        let is_unlimited = change.declaration.is_unlimited();
        let is_named = |limit: &LimitSpec| named.limits.iter().any(|new| new.same_identity(limit));
        spec.limits.retain(|limit| !is_unlimited && !is_named(limit));
        spec.limits.extend(named.limits.iter().cloned());
        spec.tenants.extend(named.tenants.iter().map(|(name, tenant)| (name.clone(), *tenant)));
        if named.queue != Default::default() {
            spec.queue = named.queue.clone();
        }
        spec.permit_ttl = named.permit_ttl.or(spec.permit_ttl);
        let spec = spec.check().map_err(|error| wrong(error.to_string()))?;
        if spec == *recorded && self.provider.is_empty() {
            let what =
                "limits, tenants, the queue and --permit-ttl are replayed, and all of them are as recorded";
            return Err(wrong(what.to_owned()));
        }
        Ok(spec)
    }

    /// The provider knows no tenants.
    fn provider_limits(&self, recorded: &CheckedSpec) -> Result<CheckedSpec, Failure> {
        let shared = recorded.limits.iter().filter(|limit| limit.tenants.is_empty()).cloned();
        let mut limits: Vec<_> =
            if self.provider.is_empty() { shared.collect() } else { self.provider.clone() };
        // To follow latency is ours; a provider has its limits.
        limits.iter_mut().for_each(|limit| limit.adapt = Adapt::Refusals);
        let spec = BudgetSpec { limits, permit_ttl: recorded.permit_ttl, ..BudgetSpec::default() };
        spec.check().map_err(|error| Failure::new("--provider makes no sense").because(error).exit_code(2))
    }
}
