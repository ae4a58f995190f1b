//! `permitd budgets set`

use clap::Args;
use permitd_proto::v1::{self, admin_service_client::AdminServiceClient};
use permitd_server::{
    config::BudgetName,
    shown::{budget_json, name, removed},
};
use tonic::Code;

use super::{declaration::Declaration, show::declared};
use crate::{
    failure::Failure,
    format::print,
    limits::budget,
    remote::{Connection, Remote},
};

const EXAMPLES: &str = "\
Examples:
  permitd budgets set anthropic/prod --limit requests=60/1m --limit tokens=100k/1m
  permitd budgets set anthropic/prod --tier build --limit input_tokens=50k/1m
  permitd budgets set anthropic/prod --limit in_flight=5 \\
      --limit 'output_tokens=20k/1m,models=claude-opus-*'
  permitd budgets set github/ci --limit requests=5000/1h,window=fixed --limit in_flight=80
  permitd budgets set vllm/own --limit in_flight=200,adapt=latency
  permitd budgets set openai/team --limit requests=500/1m --tenant web=3:20%+ --tenant nightly=1:5000:40%
  permitd budgets set openai/new --limit requests=100/1m --shadow on
  permitd budgets set zhipu/prod --limit requests=60/1m \\
      --schedule 'mon-fri 22:00-06:00 Asia/Shanghai requests=120/1m'

A limit is unit=amount/window, with options behind commas. A call has to fit all limits.
  unit           requests, tokens, input_tokens, output_tokens, in_flight, or any other name
  amount         60, 100_000, 100k, 2M
  window         1s, 1m, 1h, 1d; none for in_flight, which counts calls at the same time
  burst=N        what may be taken at once after idle time (default: the amount)
  models=GLOB    counts these models only
  tenants=GLOB   counts these tenants only; tenants=each gives each of them a limit of its own
  window=WAY     how the provider counts: bucket (default: refills continuously), sliding,
                 fixed, or quantised
  quantum=1s     for quantised: no more than its part of the amount in any quantum
  phase=TIME     for fixed: some instant at which a window begins
  adapt=latency  for in_flight: fewer at once while calls take longer with more of them, for providers
                 that slow down instead of refusing (default: refusals)

What is declared is replaced as a whole: what you leave out is removed, and said to be. Balances \
are kept in proportion, and everyone waiting is looked at again. `permitd budgets get` prints the \
command that declares the budget as it stands. To change only what you have seen, give the etag of your last look:
  --etag \"$(permitd budgets get openai/team --json | jq -r .etag)\"";

/// Creates a budget, or replaces all that is declared about it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group(
    clap::ArgGroup::new("throttle").required(true).multiple(true).args(["limits", "tier", "unlimited"])
))]
pub(super) struct Set {
    /// PROVIDER/KEY, or PROVIDER alone for its key `default`. The key is an alias, never the secret itself.
    #[arg(value_parser = budget)]
    budget: BudgetName,
    #[command(flatten)]
    declaration: Declaration,
    /// Change the budget only if this is still its etag, as of `permitd budgets get`.
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    /// Why, for the audit trail.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Check everything, change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Set {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let request = v1::SetBudgetRequest {
            budget: Some(self.declaration.wire(&self.budget, self.etag.clone())?),
            validate_only: self.dry_run,
            reason: self.reason.clone(),
        };
        let before = self.declared_now(&mut admin).await?;
        let answer = admin.set_budget(request).await.map_err(|status| self.remote.failure(&status))?;
        let set = answer.into_inner().budget.unwrap_or_default();
        let gone = removed(&before, &set);
        if self.remote.json {
            let mut json = budget_json(&set);
            json["removed"] = gone.into();
            return print(json.to_string());
        }
        let (done, would_be) =
            if self.dry_run { ("would be set (nothing changed)", "would be ") } else { ("is set", "") };
        eprintln!("{} {done}", name(&set));
        if !gone.is_empty() {
            eprintln!("{would_be}removed: {}; set replaces the whole declaration", gone.join(", "));
        }
        print(declared(&set))
    }

    /// What stands just before the change; nothing if the budget is new.
    async fn declared_now(&self, admin: &mut AdminServiceClient<Connection>) -> Result<v1::Budget, Failure> {
        let (provider, key) = (self.budget.provider().to_owned(), self.budget.key().to_owned());
        match admin.get_budget(v1::GetBudgetRequest { provider, key }).await {
            Ok(answer) => Ok(answer.into_inner().state.and_then(|state| state.budget).unwrap_or_default()),
            Err(status) if status.code() == Code::NotFound => Ok(v1::Budget::default()),
            Err(status) => Err(self.remote.failure(&status)),
        }
    }
}

/// What these arguments declare.
#[cfg(test)]
pub(super) fn told_by(arguments: &[&str]) -> v1::Budget {
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }
    let line = ["set"].iter().chain(arguments);
    let set = Line::try_parse_from(line).expect("arguments").set;
    set.declaration.wire(&set.budget, set.etag).expect("a declaration")
}
