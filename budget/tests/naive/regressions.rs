//! Bugs that once were, each by the shortest history that showed it.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, LimitSpec, Outcome, Priority, Reason, Report, Request, Time, Usage,
    Window,
};

const SECOND: Duration = Duration::from_secs(1);

fn budget(limits: Vec<LimitSpec>) -> Budget<u64> {
    Budget::new(&BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense"), Time::ZERO)
}

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

/// Goal: a request for several permits that may not wait and gets some of them is answered by events, what there was and what there
/// was not; an error says that there will be none.
#[test]
fn what_was_partly_granted_is_not_refused_at_once() {
    let mut heart = budget(vec![LimitSpec::rate("requests", 3, SECOND)]);
    let mut events = Vec::new();
    let several = Request { count: 4, max_wait: Some(Duration::ZERO), ..request(0) };
    let answer = heart.acquire(Time::ZERO, several, &mut events);
    let granted = events.iter().filter(|event| matches!(event, Event::Granted { waiter: 0, .. })).count();
    let refused = events.iter().any(
        |event| matches!(event, Event::Refused { waiter: 0, refusal } if refusal.reason == Reason::NotInTime),
    );
    match answer {
        Ok(Acquired::Waiting(_)) => assert!(granted == 3 && refused, "{events:?}"),
        Ok(Acquired::Granted(grant)) => panic!("several were asked for: {grant:?}"),
        Err(refusal) => assert!(events.is_empty(), "{refusal:?}, and yet {events:?}"),
    }
    assert_eq!(heart.waiting(), 0);
}

/// Goal: an extension makes a permit live for the time that its grant said, whatever the budget declares by then: the client extends
/// by that clock.
#[test]
fn an_extension_is_as_long_as_the_permit_was_told() {
    let with =
        |ttl| BudgetSpec { permit_ttl: Some(ttl), ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = Budget::new(&with(10 * SECOND), Time::ZERO);
    let mut events = Vec::new();
    let Ok(Acquired::Granted(grant)) = heart.acquire(Time::ZERO, request(0), &mut events) else {
        panic!("no limits")
    };
    heart.configure(Time::ZERO, &with(SECOND), &mut events);
    let extended = heart.extend(Time::ZERO + 5 * SECOND, grant.permit);
    assert_eq!(extended, Some(Time::ZERO + 15 * SECOND));
}

/// Goal: `held_by` always names something; while everything is held back after a refusal by the provider, that is `frozen`.
#[test]
fn who_waits_for_the_back_off_is_told_so() {
    for outcome in [Outcome::Overloaded, Outcome::ConcurrencyLimited, Outcome::RateLimited] {
        let mut heart = budget(Vec::new());
        let mut events = Vec::new();
        let answer = heart.acquire(Time::ZERO, request(0), &mut events);
        let Ok(Acquired::Granted(grant)) = answer else { panic!("no limits: {answer:?}") };
        let _ = heart.report(Time::ZERO, grant.permit, &Report::new(outcome), &mut events);
        if let Ok(Acquired::Waiting(ticket)) = heart.acquire(Time::ZERO, request(1), &mut events) {
            let place = heart.place(Time::ZERO, ticket).expect("it waits");
            assert!(
                ["frozen", "in_flight"].contains(&&*place.held_by),
                "after {outcome:?} held by {:?}",
                place.held_by
            );
        }
    }
}

/// Goal: a small limit in debt refills though the budget is declared again and again: a fraction of a unit is not lost each time.
#[test]
fn declarations_do_not_keep_a_bucket_in_debt() {
    let limits = vec![LimitSpec::rate("requests", 5, 3_600 * SECOND)];
    let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
    let mut now = Time::ZERO;
    let mut heart = Budget::new(&spec, now);
    let mut events = Vec::new();
    let all = Request { estimate: Usage { requests: Some(5), ..Usage::default() }, ..request(0) };
    let Ok(Acquired::Granted(grant)) = heart.acquire(now, all, &mut events) else {
        panic!("a new budget is full")
    };
    let used = Usage { requests: Some(6), ..Usage::default() };
    let _ = heart.report(
        now,
        grant.permit,
        &Report { actual: used, ..Report::new(Outcome::Success) },
        &mut events,
    );
    assert!(matches!(heart.acquire(now, request(1), &mut events), Ok(Acquired::Waiting(_))), "1 in debt");
    for _ in 0..24 {
        now += 60 * SECOND;
        heart.configure(now, &spec, &mut events);
        let _ = heart.poll(now, &mut events);
    }
    let granted = matches!(events[..], [Event::Granted { waiter: 1, .. }]);
    assert!(granted, "1 in 12 minutes, and 24 are over: {events:?}");
}

/// Goal: lowering a limit and raising it again within its window brings back nothing that was used before.
#[test]
fn lowering_and_raising_a_limit_mints_nothing() {
    for window in [
        Window::Bucket,
        Window::Sliding,
        Window::Fixed { phase: Some(Time::ZERO) },
        Window::Fixed { phase: None },
    ] {
        let with = |amount| {
            let limits = vec![LimitSpec { window, ..LimitSpec::rate("requests", amount, 3_600 * SECOND) }];
            BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense")
        };
        let mut heart = Budget::new(&with(100), Time::ZERO);
        let mut events = Vec::new();
        for id in 0..100 {
            let answer = heart.acquire(Time::ZERO, request(id), &mut events);
            let Ok(Acquired::Granted(grant)) = answer else { panic!("100 fit: {answer:?}") };
            let _ = heart.report(Time::ZERO, grant.permit, &Report::new(Outcome::Success), &mut events);
        }
        heart.configure(Time::ZERO, &with(10), &mut events);
        heart.configure(Time::ZERO, &with(100), &mut events);
        assert_eq!(heart.snapshot(Time::ZERO).limits[0].level, 0, "{window:?}");
    }
}

/// Goal: what was in flight when a limit was added goes back to it when the call used less.
#[test]
fn a_limit_added_after_the_grant_takes_the_refund() {
    for window in [Window::Bucket, Window::Sliding, Window::Fixed { phase: Some(Time::ZERO) }] {
        let limits = vec![LimitSpec { window, ..LimitSpec::rate("tokens", 1_000, 86_400 * SECOND) }];
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
        let mut heart = budget(Vec::new());
        let mut events = Vec::new();
        let used = |tokens| Usage { input_tokens: Some(tokens), output_tokens: Some(0), ..Usage::default() };
        let answer = heart.acquire(Time::ZERO, Request { estimate: used(100), ..request(0) }, &mut events);
        let Ok(Acquired::Granted(grant)) = answer else { panic!("no limits: {answer:?}") };
        let now = Time::ZERO + 599 * SECOND;
        heart.configure(now, &spec, &mut events);
        assert_eq!(heart.snapshot(now).limits[0].level, 900, "{window:?}");
        let _ = heart.report(
            now,
            grant.permit,
            &Report { actual: used(40), ..Report::new(Outcome::Success) },
            &mut events,
        );
        assert_eq!(heart.snapshot(now).limits[0].level, 960, "{window:?}");
    }
}

/// Goal: a request that fits at the very moment of its deadline is in time.
#[test]
fn who_fits_at_the_deadline_is_granted() {
    let mut heart = budget(vec![LimitSpec::rate("requests", 60, 60 * SECOND)]);
    let mut events = Vec::new();
    let asks = |requests, waiter| Request {
        estimate: Usage { requests: Some(requests), ..Usage::default() },
        max_wait: Some(30 * SECOND),
        ..request(waiter)
    };
    assert!(matches!(heart.acquire(Time::ZERO, asks(60, 0), &mut events), Ok(Acquired::Granted(_))));
    assert!(matches!(heart.acquire(Time::ZERO, asks(30, 1), &mut events), Ok(Acquired::Waiting(_))));
    let _ = heart.poll(Time::ZERO + 30 * SECOND, &mut events);
    assert!(matches!(events[..], [Event::Granted { waiter: 1, .. }]), "{events:?}");
}

/// Goal: a small request behind a large one on the same limit does not have the budget polled until the large one can go, though it
/// touches another limit besides.
#[test]
fn nobody_is_polled_for_in_vain() {
    let limits = vec![
        LimitSpec::rate("requests", 60_000, 60 * SECOND),
        LimitSpec { models: "mini-*".to_owned(), ..LimitSpec::rate("requests", 100_000, 3_600 * SECOND) },
    ];
    let mut heart = budget(limits);
    let mut events = Vec::new();
    let asks = |model, requests, waiter| Request {
        model,
        estimate: Usage { requests: Some(requests), ..Usage::default() },
        ..request(waiter)
    };
    for (waiter, (model, requests)) in (0..).zip([("large", 60_000), ("large", 30_000), ("mini-4", 2)]) {
        let answer = heart.acquire(Time::ZERO, asks(model, requests, waiter), &mut events);
        assert!(answer.is_ok(), "{answer:?}");
    }
    let mut polls = 0;
    while heart.waiting() > 0 {
        let next = heart.next_poll().expect("they go some time");
        let _ = heart.poll(next, &mut events);
        polls += 1;
    }
    assert!(polls <= 10, "polled {polls} times for two grants");
}

/// Goal: nor while the one ahead waits for a slot, which no clock brings back, and keeps a part of the bucket that another one needs whole.
#[test]
fn nobody_is_polled_for_in_vain_beside_a_slot() {
    let slot = LimitSpec { models: "large".to_owned(), ..LimitSpec::in_flight(1) };
    let mut heart = budget(vec![slot, LimitSpec::rate("requests", 60, 60 * SECOND)]);
    let mut events = Vec::new();
    let asks = |model, requests, waiter| Request {
        model,
        estimate: Usage { requests: Some(requests), ..Usage::default() },
        ..request(waiter)
    };
    for (waiter, (model, requests)) in (0..).zip([("large", 1), ("large", 1), ("mini", 60)]) {
        let answer = heart.acquire(Time::ZERO, asks(model, requests, waiter), &mut events);
        assert!(answer.is_ok(), "{answer:?}");
    }
    let mut polls = 0;
    while heart.waiting() > 1 {
        let next = heart.next_poll().expect("the first permit expires");
        let _ = heart.poll(next, &mut events);
        polls += 1;
    }
    assert!(polls <= 10, "polled {polls} times for one grant");
}

/// Goal: those who wait on one limit go when they fit beside what others, who wait for another limit, keep of it.
#[test]
fn who_fits_beside_those_stuck_elsewhere_goes() {
    let shared = LimitSpec { window: Window::Sliding, ..LimitSpec::rate("input_tokens", 100, SECOND) };
    let elsewhere =
        LimitSpec { tenants: "x*".to_owned(), ..LimitSpec::rate("output_tokens", 100, 3_600 * SECOND) };
    let limits = vec![shared, elsewhere, LimitSpec { tenants: "y".to_owned(), ..LimitSpec::in_flight(3) }];
    let more = BudgetSpec { limits: limits.clone(), ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = budget(limits[..2].to_vec());
    let mut events = Vec::new();
    let asks = |tenant, priority, input, output, waiter| Request {
        tenant,
        priority,
        estimate: Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() },
        ..request(waiter)
    };
    for (waiter, (tenant, priority, input, output)) in (0..).zip([
        ("x1", Priority::Standard, 0, 60),
        ("x2", Priority::Standard, 2, 50),
        ("x1", Priority::Batch, 0, 0),
        ("z", Priority::Batch, 50, 0),
        ("z", Priority::Interactive, 90, 0),
    ]) {
        if waiter == 2 {
            heart.pause();
        }
        let answer = heart.acquire(Time::ZERO, asks(tenant, priority, input, output, waiter), &mut events);
        assert!(answer.is_ok(), "{answer:?}");
    }
    heart.configure(Time::ZERO, &more, &mut events);
    heart.resume(Time::ZERO, &mut events);
    let now = Time::ZERO + Duration::from_millis(1_001);
    let next = heart.next_poll();
    let _ = heart.poll(now, &mut events);
    let granted = events.iter().any(|event| matches!(event, Event::Granted { waiter: 3, .. }));
    assert!(granted && next.is_some_and(|next| next <= now), "next poll {next:?}, {events:?}");
}

/// Goal: what two calls that were never sent give back is what the bucket had room for, together.
#[test]
fn two_refunds_do_not_use_the_same_room() {
    let mut heart = budget(vec![LimitSpec::rate("requests", 100, 60 * SECOND)]);
    let mut events = Vec::new();
    let half =
        |waiter| Request { estimate: Usage { requests: Some(50), ..Usage::default() }, ..request(waiter) };
    let mut permits = Vec::new();
    let half_a_minute = Time::ZERO + 30 * SECOND;
    for (waiter, now) in (0..).zip([Time::ZERO, Time::ZERO, half_a_minute]) {
        let answer = heart.acquire(now, half(waiter), &mut events);
        let Ok(Acquired::Granted(grant)) = answer else { panic!("it fits: {answer:?}") };
        permits.push(grant.permit);
    }
    for (permit, level) in permits.into_iter().zip([50, 50, 100]) {
        let _ = heart.report(half_a_minute, permit, &Report::new(Outcome::Cancelled), &mut events);
        assert_eq!(
            heart.snapshot(half_a_minute).limits[0].level,
            level,
            "the provider has 100 less what was sent at 30 s"
        );
    }
}
