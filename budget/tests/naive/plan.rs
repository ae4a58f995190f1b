//! What may happen to a budget, and how it is drawn at random: limits, requests, reports, changes, time.

use std::time::Duration;

use permitd_budget::{
    BudgetSpec, CheckedSpec, LimitSpec, Outcome, Overflow, Priority, QueueSpec, TenantSpec, Time, Usage,
    Window,
};
use proptest::{option, prelude::*, sample::select};

pub(crate) const TENANTS: [&str; 4] = ["x1", "x2", "y", "z"];
pub(crate) const MODELS: [&str; 4] = ["a-1", "a-2", "b-1", ""];
const UNITS: [&str; 5] = ["requests", "tokens", "input_tokens", "output_tokens", "points"];

/// A budget and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) spec: CheckedSpec,
    pub(crate) start: Time,
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens. Numbers called `which` count round whatever is there.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Acquire(Ask),
    Report {
        which: usize,
        outcome: Outcome,
        used: Used,
    },
    ReportAgain {
        which: usize,
        outcome: Outcome,
        used: Used,
    },
    ReportUnknown {
        key: u64,
    },
    Extend {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    Place {
        which: usize,
    },
    /// Time passes and nobody polls.
    Jump(Duration),
    /// Time passes, and the budget is polled whenever it wants to be.
    Run(Duration),
    /// To the next poll: just before, or there.
    Towards {
        nanos_short: u64,
    },
    Poll,
    Configure(Change),
    Pause,
    Resume,
    RefuseAll,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) tenant: usize,
    pub(crate) model: usize,
    pub(crate) priority: Priority,
    pub(crate) requests: Option<u64>,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) points: Option<u64>,
    pub(crate) count: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) gives_up: Option<Duration>,
}

/// What a report says was used, in 64ths of what was charged; absent is as charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) tokens: Option<(u64, u64)>,
    pub(crate) requests: Option<u64>,
    pub(crate) points: Option<u64>,
}

impl Used {
    pub(crate) const AS_CHARGED: Self = Self { tokens: None, requests: None, points: None };
}

/// A new declaration, as a change of the present one.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Amount { which: usize, amount: u64 },
    Burst { which: usize, burst: u64 },
    Window { which: usize, window: Window },
    Remove { which: usize },
    Add(LimitSpec),
    Tenant { which: usize, tenant: TenantSpec },
    Queue(QueueSpec),
    Ttl(Duration),
}

impl Change {
    /// The declaration after the change; `None` where it would make no sense.
    pub(crate) fn apply(&self, spec: &BudgetSpec) -> Option<CheckedSpec> {
        let mut spec = spec.clone();
        let limits = spec.limits.len();
        let at = |which: &usize| which.checked_rem(limits);
        match self {
            Change::Amount { which, amount } => spec.limits[at(which)?].amount = *amount,
            Change::Burst { which, burst } => spec.limits[at(which)?].burst = *burst,
            Change::Window { which, window } => {
                let limit = &mut spec.limits[at(which)?];
                if limit.tenants == "each" {
                    return None;
                }
                (limit.window, limit.burst) = (*window, 0);
            }
            Change::Remove { which } if limits > 1 => drop(spec.limits.remove(at(which)?)),
            Change::Remove { .. } => return None,
            Change::Add(limit) => spec.limits.push(limit.clone()),
            Change::Tenant { which, tenant } => {
                spec.tenants.insert(TENANTS[which % TENANTS.len()].to_owned(), *tenant);
            }
            Change::Queue(queue) => spec.queue = queue.clone(),
            Change::Ttl(ttl) => spec.permit_ttl = Some(*ttl),
        }
        spec.check().ok()
    }
}

impl Ask {
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            requests: self.requests,
            input_tokens: Some(self.input),
            output_tokens: Some(self.output),
            other: self.points.iter().map(|points| ("points".into(), *points)).collect(),
            ..Usage::default()
        }
    }
}

/// Outcomes that teach nothing about limits.
pub(crate) fn plain_outcome() -> impl Strategy<Value = Outcome> {
    select(vec![
        Outcome::Success,
        Outcome::Success,
        Outcome::Success,
        Outcome::Cancelled,
        Outcome::TooLarge,
        Outcome::Failed { retryable: true },
        Outcome::Failed { retryable: false },
    ])
}

/// All outcomes.
pub(crate) fn any_outcome() -> impl Strategy<Value = Outcome> {
    let teaching = select(vec![
        Outcome::RateLimited,
        Outcome::ConcurrencyLimited,
        Outcome::Overloaded,
        Outcome::AccelerationLimited,
    ]);
    prop_oneof![plain_outcome(), teaching]
}

/// A plan of up to `steps` steps.
pub(crate) fn plan(steps: usize, outcome: BoxedStrategy<Outcome>) -> impl Strategy<Value = Plan> {
    select(vec![12_u64, 100, 60_000, 10_000_000]).prop_flat_map(move |scale| {
        let steps = prop::collection::vec(step(scale, outcome.clone()), 1..steps);
        (spec(scale), 0..1_u64 << 61, steps).prop_map(|(spec, start, steps)| Plan {
            spec,
            start: Time::from_nanos(start),
            steps,
        })
    })
}

fn spec(scale: u64) -> impl Strategy<Value = CheckedSpec> {
    // Without any limit the heart looks for one by itself, which is not for the model to follow.
    let limits = prop::collection::vec(limit(scale), 1..6);
    let tenants = prop::collection::btree_map(select(TENANTS.map(str::to_owned).to_vec()), tenant(), 0..3);
    let ttl = option::of((1_u64..100).prop_map(Duration::from_secs));
    (limits, queue(), tenants, ttl).prop_map(|(drawn, queue, mut tenants, permit_ttl)| {
        let mut limits: Vec<LimitSpec> = Vec::new();
        for limit in drawn {
            if !limits.iter().any(|known| known.same_identity(&limit)) {
                // What has a limit of its own is not held to a part as well.
                tenants.entry(limit.tenants.clone()).and_modify(|tenant| tenant.max_percent = 0);
                limits.push(limit);
            }
        }
        BudgetSpec { limits, queue, tenants, permit_ttl, ..BudgetSpec::default() }
            .check()
            .expect("drawn within the bounds")
    })
}

fn tenant() -> impl Strategy<Value = TenantSpec> {
    // Some are held to a part as well.
    const PERCENT: [u32; 6] = [0, 0, 100, 1, 30, 99];
    // And some are guaranteed one.
    const LEAST: [u32; 6] = [0, 0, 30, 0, 20, 10];
    (0_u32..6, select(vec![0_u32, 0, 1, 3])).prop_map(|(weight, max_waiting)| TenantSpec {
        weight,
        max_waiting,
        max_percent: PERCENT[weight as usize],
        min_percent: LEAST[weight as usize],
    })
}

fn queue() -> impl Strategy<Value = QueueSpec> {
    let overflow = prop_oneof![9 => Just(Overflow::Wait), 1 => Just(Overflow::Reject)];
    (select(vec![0_u32, 0, 0, 2, 6]), option::weighted(0.2, span()), overflow)
        .prop_map(|(max_waiting, max_wait, overflow)| QueueSpec { max_waiting, max_wait, overflow })
}

fn per() -> impl Strategy<Value = Duration> {
    select(vec![
        Duration::from_millis(1),
        Duration::from_nanos(7_333_333),
        Duration::from_secs(1),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(3_600),
        Duration::from_secs(86_400),
    ])
}

fn amount(scale: u64) -> impl Strategy<Value = u64> {
    prop_oneof![4 => scale / 4..=scale, 1 => 1..=scale.min(12)]
}

fn window(per: Duration) -> impl Strategy<Value = Window> {
    let phase = option::of((0..1_u64 << 61).prop_map(Time::from_nanos));
    let most = per.as_nanos() as u64;
    let quantum = (most / 100).clamp(1_000_000, most)..=most;
    prop_oneof![
        3 => Just(Window::Bucket),
        1 => phase.prop_map(|phase| Window::Fixed { phase }),
        1 => Just(Window::Sliding),
        1 => quantum.prop_map(|quantum| Window::Quantised { quantum: Duration::from_nanos(quantum) }),
    ]
}

fn limit(scale: u64) -> impl Strategy<Value = LimitSpec> {
    let models = select(vec!["", "", "a-*", "b-1", "*-1"]);
    let tenants = select(vec!["", "", "", "each", "x*", "y"]);
    let burst = prop_oneof![2 => Just(0), 1 => 1..=2 * scale];
    let rate =
        (select(UNITS.to_vec()), amount(scale), per(), burst).prop_flat_map(|(unit, amount, per, burst)| {
            window(per).prop_map(move |window| LimitSpec {
                burst: if window == Window::Bucket { burst } else { 0 },
                window,
                ..LimitSpec::rate(unit, amount, per)
            })
        });
    let limit = prop_oneof![5 => rate, 1 => (1_u64..6).prop_map(LimitSpec::in_flight)];
    (limit, models, tenants).prop_map(|(limit, models, tenants)| LimitSpec {
        models: models.to_owned(),
        tenants: tenants.to_owned(),
        ..limit
    })
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => (0_u64..4).prop_map(Duration::from_nanos),
        2 => (0_u64..5_000_000).prop_map(Duration::from_nanos),
        3 => (0_u64..3_000_000_000).prop_map(Duration::from_nanos),
        3 => (0_u64..120_000).prop_map(Duration::from_millis),
        1 => (0_u64..5_000).prop_map(Duration::from_secs),
        1 => (0_u64..100_000).prop_map(Duration::from_secs),
    ]
}

fn cost(scale: u64) -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0_u64..3, 3 => 0..=scale / 10, 3 => 0..=scale / 3, 1 => 0..=scale + scale / 8]
}

fn ask(scale: u64) -> impl Strategy<Value = Ask> {
    let who = (0..TENANTS.len(), 0..MODELS.len(), select(Priority::ALL.to_vec()));
    let what =
        (option::weighted(0.2, 0_u64..4), cost(scale), cost(scale), option::weighted(0.3, cost(scale)));
    let count = prop_oneof![6 => Just(1_u32), 1 => 2_u32..8];
    let max_wait = prop_oneof![5 => Just(None), 1 => Just(Some(Duration::ZERO)), 3 => span().prop_map(Some)];
    (who, what, count, max_wait, option::weighted(0.1, span())).prop_map(
        |(who, what, count, max_wait, gives_up)| {
            let (tenant, model, priority) = who;
            let (requests, input, output, points) = what;
            Ask { tenant, model, priority, requests, input, output, points, count, max_wait, gives_up }
        },
    )
}

fn used() -> impl Strategy<Value = Used> {
    let scale = || prop_oneof![3 => 0_u64..64, 1 => Just(64), 1 => 64_u64..400];
    (option::of((scale(), scale())), option::weighted(0.1, 0_u64..4), option::weighted(0.2, scale()))
        .prop_map(|(tokens, requests, points)| Used { tokens, requests, points })
}

fn change(scale: u64) -> impl Strategy<Value = Change> {
    let which = || 0_usize..6;
    prop_oneof![
        3 => (which(), amount(scale)).prop_map(|(which, amount)| Change::Amount { which, amount }),
        2 => (which(), 0..=2 * scale).prop_map(|(which, burst)| Change::Burst { which, burst }),
        1 => (which(), window(Duration::from_secs(1))).prop_map(|(which, window)| Change::Window { which, window }),
        1 => which().prop_map(|which| Change::Remove { which }),
        2 => limit(scale).prop_map(Change::Add),
        1 => (which(), tenant()).prop_map(|(which, tenant)| Change::Tenant { which, tenant }),
        1 => queue().prop_map(Change::Queue),
        1 => (1_u64..100).prop_map(|seconds| Change::Ttl(Duration::from_secs(seconds))),
    ]
}

fn step(scale: u64, outcome: BoxedStrategy<Outcome>) -> impl Strategy<Value = Step> {
    let which = || 0_usize..64;
    let report = (which(), outcome.clone(), used());
    let again = (which(), outcome, used());
    prop_oneof![
        30 => ask(scale).prop_map(Step::Acquire),
        16 => report.prop_map(|(which, outcome, used)| Step::Report { which, outcome, used }),
        2 => again.prop_map(|(which, outcome, used)| Step::ReportAgain { which, outcome, used }),
        1 => any::<u64>().prop_map(|key| Step::ReportUnknown { key }),
        2 => which().prop_map(|which| Step::Extend { which }),
        3 => which().prop_map(|which| Step::Cancel { which }),
        2 => which().prop_map(|which| Step::Place { which }),
        4 => span().prop_map(Step::Jump),
        6 => span().prop_map(Step::Run),
        5 => select(vec![0_u64, 0, 0, 1, 2, 1_000_000]).prop_map(|nanos_short| Step::Towards { nanos_short }),
        2 => Just(Step::Poll),
        4 => change(scale).prop_map(Step::Configure),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => prop::bool::weighted(0.2).prop_map(|all| if all { Step::RefuseAll } else { Step::Poll }),
    ]
}
