//! `permitd budgets set`

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use permitd_budget::{LimitSpec, Scheduled};
use permitd_proto::v1::{self, admin_service_client::AdminServiceClient};
use permitd_server::{
    admin::{write_limit, write_scheduled},
    config::BudgetName,
    shown::{budget_json, name, removed},
};
use tonic::Code;

use super::show::declared;
use crate::{
    failure::Failure,
    format::{print, wire_span},
    limits::{Tenant, budget, duration, limit, scheduled, tenant},
    profiles::Files,
    remote::{Connection, Remote},
};

const EXAMPLES: &str = "\
Examples:
  permitd budgets set anthropic/prod --limit requests=60/1m --limit tokens=100k/1m
  permitd budgets set anthropic/prod --tier build --limit input_tokens=50k/1m
  permitd budgets set anthropic/prod --limit in_flight=5 \\
      --limit 'output_tokens=20k/1m,models=claude-opus-*'
  permitd budgets set github/ci --limit requests=5000/1h,window=fixed --limit in_flight=80
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

What is declared is replaced as a whole: what you leave out is removed, and said to be. Balances
are kept in proportion, and everyone waiting is looked at again. `permitd budgets get` prints the
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
    /// A limit, for example requests=60/1m (see below). Can be repeated.
    #[arg(long = "limit", value_name = "LIMIT", value_parser = limit)]
    limits: Vec<LimitSpec>,
    /// The limits of the provider's tier, as of `permitd profiles list`; each --limit is added, or replaces the tier's own.
    #[arg(long)]
    tier: Option<String>,
    #[command(flatten)]
    profiles: Files,
    /// No limits at all: permits are counted, and nothing waits.
    #[arg(long, conflicts_with_all = ["limits", "tier"])]
    unlimited: bool,
    /// A tenant with a weight other than 1, and perhaps a bound on its waiting requests, the part that it is guaranteed of each limit
    /// (20%+), and the most that it may have (40%). Can be repeated.
    #[arg(long = "tenant", value_name = "NAME=WEIGHT[:MAX_WAITING][:PERCENT%+][:PERCENT%]", value_parser = tenant)]
    tenants: Vec<Tenant>,
    /// How many requests may wait. Default: 100,000.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    max_waiting: u32,
    /// How long requests wait that do not say. Default: as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_wait: Option<Duration>,
    /// What becomes of a request that can't be granted at once and does not say how long to wait.
    #[arg(long, value_enum, default_value_t = Overflow::Wait)]
    overflow: Overflow,
    /// How long a permit lives that is not reported. Default: what the provider's profile says, else 10m.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    permit_ttl: Option<Duration>,
    /// Another limit at certain hours, for example 'mon-fri 22:00-06:00 Europe/Berlin requests=2000/1m' (see `permitd budgets
    /// schedule`). Can be repeated; of several for one limit the first holds.
    #[arg(long = "schedule", value_name = "HOURS LIMIT", value_parser = scheduled)]
    schedule: Vec<Scheduled>,
    /// on: grant everything at once, and record what the limits would have done (see `permitd budgets get` and `explain`).
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    shadow: Switch,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overflow {
    /// It waits.
    Wait,
    /// It is refused.
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Set {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let request = v1::SetBudgetRequest {
            budget: Some(self.wire()?),
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

    /// The limits given, and those of the tier that they leave as they are.
    fn all_limits(&self) -> Result<Vec<LimitSpec>, Failure> {
        let Some(tier) = &self.tier else { return Ok(self.limits.clone()) };
        let mut limits = self.profiles.tier(self.budget.provider(), tier)?;
        limits.retain(|limit| !self.limits.iter().any(|given| given.same_identity(limit)));
        limits.extend(self.limits.iter().cloned());
        Ok(limits)
    }

    fn wire(&self) -> Result<v1::Budget, Failure> {
        let overflow = match self.overflow {
            Overflow::Wait => v1::Overflow::Wait,
            Overflow::Reject => v1::Overflow::Reject,
        };
        let mut tenants = BTreeMap::new();
        for tenant in &self.tenants {
            if tenants.insert(tenant.name.clone(), tenant.wire).is_some() {
                return Err(Failure::new(format!("--tenant {} is given twice", tenant.name)).exit_code(2));
            }
        }
        Ok(v1::Budget {
            provider: self.budget.provider().to_owned(),
            key: self.budget.key().to_owned(),
            limits: self.all_limits()?.iter().map(write_limit).collect(),
            queue: Some(v1::Queue {
                max_waiting: self.max_waiting,
                max_wait: self.max_wait.map(wire_span),
                overflow: overflow.into(),
            }),
            tenants,
            permit_ttl: self.permit_ttl.map(wire_span),
            etag: self.etag.clone(),
            shadow: self.shadow == Switch::On,
            schedule: self.schedule.iter().map(write_scheduled).collect(),
        })
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
    Line::try_parse_from(line).expect("arguments").set.wire().expect("a declaration")
}
