//! What is declared about a budget, as flags.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use permitd_budget::{LimitSpec, Scheduled};
use permitd_proto::v1;
use permitd_server::{
    admin::{write_limit, write_scheduled},
    config::BudgetName,
};

use crate::{
    failure::Failure,
    format::wire_span,
    limits::{Tenant, duration, limit, scheduled, tenant},
    profiles::Files,
};

/// Everything that may be declared.
#[derive(Debug, Args)]
pub(crate) struct Declaration {
    /// A limit, for example requests=60/1m (see below). Can be repeated.
    #[arg(long = "limit", value_name = "LIMIT", value_parser = limit)]
    limits: Vec<LimitSpec>,
    /// The limits of the provider's tier, as of `permitd profiles list`; each --limit is added, or replaces the tier's own.
    #[arg(long)]
    tier: Option<String>,
    #[command(flatten)]
    profiles: Files,
    /// No declared limits. Where the provider's profile has none for every key either, the limit is found: it starts with 60 requests a
    /// minute, 10 at once, and doubles while it is used, until the provider refuses or its headers tell.
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

impl Declaration {
    /// The limits given, and those of the tier that they leave as they are.
    fn all_limits(&self, provider: &str) -> Result<Vec<LimitSpec>, Failure> {
        let Some(tier) = &self.tier else { return Ok(self.limits.clone()) };
        let mut limits = self.profiles.tier(provider, tier)?;
        limits.retain(|limit| !self.limits.iter().any(|given| given.same_identity(limit)));
        limits.extend(self.limits.iter().cloned());
        Ok(limits)
    }

    /// Whether it says that no limits are declared.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// As the wire has it.
    pub(crate) fn wire(&self, budget: &BudgetName, etag: String) -> Result<v1::Budget, Failure> {
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
            provider: budget.provider().to_owned(),
            key: budget.key().to_owned(),
            limits: self.all_limits(budget.provider())?.iter().map(write_limit).collect(),
            queue: Some(v1::Queue {
                max_waiting: self.max_waiting,
                max_wait: self.max_wait.map(wire_span),
                overflow: overflow.into(),
            }),
            tenants,
            permit_ttl: self.permit_ttl.map(wire_span),
            etag,
            shadow: self.shadow == Switch::On,
            schedule: self.schedule.iter().map(write_scheduled).collect(),
        })
    }
}
