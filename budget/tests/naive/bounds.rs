//! Everything has a bound, and amounts of any size saturate: nothing panics, nothing wraps.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, LimitSpec, Outcome, PermitKey, Priority, QueueSpec,
    Reason, Report, Request, TenantSpec, Ticket, Time, Usage, Window, bounds,
};
use proptest::{prelude::*, sample::select};

use crate::runner::try_all;

fn request(waiter: u64) -> Request<'static, u64> {
    Request {
        tenant: "web",
        model: "",
        priority: Priority::Standard,
        estimate: Usage::default(),
        count: 1,
        max_wait: None,
        gives_up: None,
        waiter,
    }
}

/// Goal: the queue takes as many as declared, per budget and per tenant, then says so, and takes again when somebody leaves.
#[test]
fn queues_are_bounded() {
    let tenants =
        [("small".to_owned(), TenantSpec { weight: 1, max_waiting: 2, ..TenantSpec::default() })].into();
    let queue = QueueSpec { max_waiting: 5, ..QueueSpec::default() };
    let limits = vec![LimitSpec::in_flight(1)];
    let spec = BudgetSpec { limits, queue, tenants, ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = Budget::new(&spec, Time::ZERO);
    let mut events = Vec::new();
    let mut ask = |heart: &mut Budget<u64>, tenant: &'static str| {
        heart.acquire(Time::ZERO, Request { tenant, ..request(0) }, &mut events)
    };
    assert!(matches!(ask(&mut heart, "web"), Ok(Acquired::Granted(_))));
    let Ok(Acquired::Waiting(first)) = ask(&mut heart, "small") else { panic!("there is room to wait") };
    assert!(ask(&mut heart, "small").is_ok());
    let refusal = ask(&mut heart, "small").expect_err("its tenant's queue is full");
    assert_eq!(refusal.reason, Reason::TenantQueueFull { max_waiting: 2 });
    for _ in 0..3 {
        assert!(ask(&mut heart, "web").is_ok());
    }
    let refusal = ask(&mut heart, "web").expect_err("the queue is full");
    assert_eq!(refusal.reason, Reason::QueueFull { max_waiting: 5 });
    assert_eq!(heart.cancel(Time::ZERO, first, &mut Vec::new()), Some(0));
    assert!(ask(&mut heart, "small").is_ok());
    assert_eq!(heart.waiting(), 5);
}

/// Goal: a request for ten thousand permits is one entry, and gets them one by one.
#[test]
fn ten_thousand_permits_are_one_entry() {
    let limits = vec![LimitSpec { burst: 1, ..LimitSpec::rate("requests", 1_000, Duration::from_secs(1)) }];
    let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = Budget::new(&spec, Time::ZERO);
    let mut events = Vec::new();
    let many = Request { count: permitd_budget::COUNT_MAX, ..request(7) };
    assert!(matches!(heart.acquire(Time::ZERO, many, &mut events), Ok(Acquired::Waiting(_))));
    assert_eq!(heart.waiting(), 1);
    let mut now = Time::ZERO;
    while let Some(next) = heart.next_poll().filter(|_| heart.waiting() > 0) {
        now = next;
        let _ = heart.poll(now, &mut events);
    }
    let granted = events.iter().filter(|event| matches!(event, Event::Granted { waiter: 7, .. })).count();
    assert_eq!(granted, 10_000);
    // One at once, then one a millisecond.
    assert_eq!(now, Time::ZERO + Duration::from_millis(9_999));
}

#[derive(Clone, Debug)]
enum Wild {
    Acquire {
        amount: u64,
        output: u64,
        count: u32,
        max_wait: Option<Duration>,
        gives_up: Option<Time>,
        priority: Priority,
    },
    Report {
        which: usize,
        amount: u64,
        outcome: Outcome,
        retry_after: Option<Duration>,
    },
    Extend {
        which: usize,
    },
    Place {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    Configure(CheckedSpec),
    Advance(u64),
}

fn extreme() -> impl Strategy<Value = u64> {
    let edges = select(vec![0, 1, 2, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX]);
    prop_oneof![3 => edges, 1 => any::<u64>(), 1 => 0_u64..1_000]
}

fn wild_limit() -> impl Strategy<Value = LimitSpec> {
    let per = select(vec![
        bounds::PER_MIN,
        Duration::from_secs(60),
        bounds::PER_MAX,
        Duration::from_nanos(1_000_001),
    ]);
    let unit = select(vec!["requests", "tokens", "output_tokens", "in_flight"]);
    let tenants = select(vec!["", "each"]);
    (unit, extreme(), extreme(), per, extreme(), 0_u8..5, tenants).prop_map(
        |(unit, amount, burst, per, phase, kind, tenants)| {
            let amount = amount.max(1);
            let rate = LimitSpec { tenants: tenants.to_owned(), ..LimitSpec::rate(unit, amount, per) };
            match kind {
                _ if unit == "in_flight" => {
                    LimitSpec { tenants: tenants.to_owned(), ..LimitSpec::in_flight(amount) }
                }
                0 | 1 => LimitSpec { burst, ..rate },
                2 => LimitSpec { window: Window::Fixed { phase: Some(Time::from_nanos(phase)) }, ..rate },
                3 => LimitSpec { window: Window::Sliding, ..rate },
                _ => LimitSpec { window: Window::Quantised { quantum: bounds::PER_MIN }, ..rate },
            }
        },
    )
}

fn wild_spec() -> impl Strategy<Value = CheckedSpec> {
    let weight = select(vec![0, 1, u32::MAX]);
    let ttl = select(vec![None, Some(bounds::PERMIT_TTL_MIN), Some(bounds::PERMIT_TTL_MAX)]);
    (prop::collection::vec(wild_limit(), 0..5), weight, ttl).prop_map(|(drawn, weight, permit_ttl)| {
        let mut limits: Vec<LimitSpec> = Vec::new();
        for limit in drawn {
            if !limits.iter().any(|known| known.same_identity(&limit)) {
                limits.push(limit);
            }
        }
        let tenants = [("web".to_owned(), TenantSpec { weight, ..TenantSpec::default() })].into();
        BudgetSpec { limits, tenants, permit_ttl, ..BudgetSpec::default() }
            .check()
            .expect("within the bounds")
    })
}

fn wild() -> impl Strategy<Value = Wild> {
    let span = || prop::option::of(extreme().prop_map(Duration::from_nanos)).boxed();
    let long = prop_oneof![3 => span(), 1 => Just(Some(Duration::MAX))];
    let until = prop::option::weighted(0.2, extreme().prop_map(Time::from_nanos));
    let count = select(vec![1_u32, 1, 1, 3, 50]);
    let outcome = crate::plan::any_outcome();
    prop_oneof![
        6 => (extreme(), extreme(), count, long, until, select(Priority::ALL.to_vec())).prop_map(
            |(amount, output, count, max_wait, gives_up, priority)| Wild::Acquire { amount, output, count, max_wait, gives_up, priority }
        ),
        4 => (0_usize..9, extreme(), outcome, span())
            .prop_map(|(which, amount, outcome, retry_after)| Wild::Report { which, amount, outcome, retry_after }),
        1 => (0_usize..9).prop_map(|which| Wild::Extend { which }),
        1 => (0_usize..9).prop_map(|which| Wild::Place { which }),
        1 => (0_usize..9).prop_map(|which| Wild::Cancel { which }),
        1 => wild_spec().prop_map(Wild::Configure),
        4 => extreme().prop_map(Wild::Advance),
    ]
}

/// Plays wild steps; after each one looks at everything there is to look at.
fn survive(spec: &CheckedSpec, start: u64, steps: &[Wild]) -> Result<(), String> {
    let mut now = Time::from_nanos(start);
    let mut heart: Budget<u64> = Budget::new(spec, now);
    let mut learning = spec.limits.is_empty();
    let (mut permits, mut tickets): (Vec<PermitKey>, Vec<Ticket>) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().enumerate() {
        let mut events = Vec::new();
        let tenant = if at % 3 == 0 { "web" } else { "jobs" };
        match step {
            Wild::Acquire { amount, output, count, max_wait, gives_up, priority } => {
                let estimate = Usage {
                    requests: Some(*amount),
                    input_tokens: Some(*amount),
                    output_tokens: Some(*output),
                    ..Usage::default()
                };
                let (count, max_wait, gives_up, priority) = (*count, *max_wait, *gives_up, *priority);
                let request =
                    Request { tenant, estimate, count, max_wait, gives_up, priority, ..request(at as u64) };
                match heart.acquire(now, request, &mut events) {
                    Ok(Acquired::Granted(grant)) => permits.push(grant.permit),
                    Ok(Acquired::Waiting(ticket)) => tickets.push(ticket),
                    Err(_) => {}
                }
            }
            Wild::Report { which, amount, outcome, retry_after } => {
                let key = permits.get(*which).copied().unwrap_or(PermitKey::from_u64(*amount));
                let actual = Usage { requests: Some(*amount), tokens: Some(*amount), ..Usage::default() };
                let report = Report { actual, retry_after: *retry_after, ..Report::new(*outcome) };
                let _ = heart.report(now, key, &report, &mut events);
            }
            Wild::Extend { which } => {
                let _ = permits.get(*which).map(|key| heart.extend(now, *key));
            }
            Wild::Place { which } => {
                let _ = tickets.get(*which).map(|ticket| heart.place(now, *ticket));
            }
            Wild::Cancel { which } => {
                let _ = tickets.get(*which).map(|ticket| heart.cancel(now, *ticket, &mut events));
            }
            Wild::Configure(spec) => {
                learning |= spec.limits.is_empty();
                heart.configure(now, spec, &mut events);
            }
            Wild::Advance(span) => now += Duration::from_nanos(*span),
        }
        let next = heart.poll(now, &mut events);
        if next.is_some_and(|next| next <= now) && now < Time::MAX {
            return Err(format!("polled at {now}, wants to be polled at {next:?}"));
        }
        for event in &events {
            if let Event::Granted { grant, .. } = event {
                permits.push(grant.permit);
            }
        }
        within(&mut heart, now, learning)?;
    }
    Ok(())
}

/// With `learning`, limits were found out meanwhile, whose debts may be older than what they are now.
fn within(heart: &mut Budget<u64>, now: Time, learning: bool) -> Result<(), String> {
    for limit in heart.snapshot(now).limits {
        let spec = &limit.configured;
        let most = if spec.burst == 0 { spec.amount } else { spec.burst };
        // A debt is at most one window's amount; what is told fits 64 bits.
        let least = -i128::from(spec.amount.min(i64::MAX as u64)) - 1;
        let level = i128::from(limit.level);
        if level > i128::from(most)
            || (level < least
                && !learning
                && limit.source == permitd_budget::Source::Declared
                && spec.per.is_some_and(|_| spec.window == Window::Bucket))
        {
            return Err(format!("level {level} of {spec:?}"));
        }
    }
    Ok(())
}

/// Goal: amounts, times and counts at the edges of their types neither panic nor wrap, in any order.
#[test]
fn extremes_saturate() {
    let steps = prop::collection::vec(wild(), 1..40);
    try_all(
        "proptest-regressions/extremes.txt",
        1_500,
        &(wild_spec(), extreme(), steps),
        |(spec, start, steps)| survive(spec, *start, steps),
    );
}
