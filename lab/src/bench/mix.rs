//! What becomes of the acquires of a benchmark, and who asks.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use permitd_budget::{BudgetSpec, CheckedSpec, LimitSpec};
use permitd_proto::v1::AcquireRequest;

use super::Plan;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// What becomes of acquires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Nothing is in their way.
    #[default]
    Granted,
    /// Three in four of those under way wait in the queue until another's report lets them go.
    Queueing,
    /// All but the first are refused, since they can't wait.
    Refusing,
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mix::Granted => "all granted",
            Mix::Queueing => "three in four waiting",
            Mix::Refusing => "all refused",
        })
    }
}

impl Mix {
    /// All of them, and what budgets of theirs are made with. Each is of a provider of its own.
    pub(super) fn all(plan: &Plan) -> impl Iterator<Item = (&'static str, CheckedSpec)> {
        let at_once = (plan.connections * plan.window / plan.budgets / 4).max(1);
        let of = |mix: Mix, in_flight, requests| {
            let limits =
                vec![requests, LimitSpec::rate("tokens", 1 << 60, MINUTE), LimitSpec::in_flight(in_flight)];
            let spec = BudgetSpec { limits, ..BudgetSpec::default() };
            (mix.provider(), spec.check().expect("a sound declaration"))
        };
        let many = || LimitSpec::rate("requests", 1 << 50, MINUTE);
        [
            of(Mix::Granted, 1 << 40, many()),
            of(Mix::Queueing, at_once as u64, many()),
            of(Mix::Refusing, 1 << 40, LimitSpec::rate("requests", 1, DAY)),
        ]
        .into_iter()
    }

    pub(super) fn provider(self) -> &'static str {
        match self {
            Mix::Granted => super::PROVIDER,
            Mix::Queueing => "bench-queueing",
            Mix::Refusing => "bench-refusing",
        }
    }

    /// What is asked for, so that this becomes of it.
    pub(super) fn of(self, plan: &Plan, acquire: AcquireRequest) -> AcquireRequest {
        let tenant = match plan.tenants {
            0 | 1 => acquire.tenant,
            tenants => format!("tenant-{}", acquire.request_id % tenants as u64),
        };
        let max_wait = (self == Mix::Refusing).then(prost_types::Duration::default);
        AcquireRequest { provider: self.provider().into(), tenant, max_wait, ..acquire }
    }
}
