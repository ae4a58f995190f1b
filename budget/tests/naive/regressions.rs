//! Bugs that once were, each by the shortest history that showed it.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, LimitSpec, Outcome, Priority, Reason, Report, Request, Time, Usage,
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
    let with = |ttl| BudgetSpec { permit_ttl: Some(ttl), ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = Budget::new(&with(10 * SECOND), Time::ZERO);
    let mut events = Vec::new();
    let Ok(Acquired::Granted(grant)) = heart.acquire(Time::ZERO, request(0), &mut events) else { panic!("no limits") };
    heart.configure(Time::ZERO, &with(SECOND), &mut events);
    let extended = heart.extend(Time::ZERO + 5 * SECOND, grant.permit);
    assert_eq!(extended, Some(Time::ZERO + 15 * SECOND));
}

/// Goal: `held_by` always names something; while everything is held back after a refusal by the provider, that is `frozen`.
#[test]
fn who_waits_for_the_back_off_is_told_so() {
    let mut heart = budget(Vec::new());
    let mut events = Vec::new();
    let Ok(Acquired::Granted(grant)) = heart.acquire(Time::ZERO, request(0), &mut events) else { panic!("no limits") };
    let _ = heart.report(Time::ZERO, grant.permit, &Report::new(Outcome::Overloaded), &mut events);
    let answer = heart.acquire(Time::ZERO, request(1), &mut events);
    let Ok(Acquired::Waiting(ticket)) = answer else { panic!("it backs off: {answer:?}") };
    assert_eq!(heart.place(Time::ZERO, ticket).map(|place| place.held_by).as_deref(), Some("frozen"));
}

/// Goal: a small limit that is changed again and again refills all the same.
#[test]
fn changes_do_not_wear_a_bucket_down() {
    let hourly = |amount| {
        let limits = vec![LimitSpec::rate("requests", amount, 3_600 * SECOND)];
        BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense")
    };
    let mut now = Time::ZERO;
    let mut heart = Budget::new(&hourly(5), now);
    let mut events = Vec::new();
    let all = Request { estimate: Usage { requests: Some(5), ..Usage::default() }, ..request(0) };
    assert!(matches!(heart.acquire(now, all, &mut events), Ok(Acquired::Granted(_))), "a new budget is full");
    assert!(matches!(heart.acquire(now, request(1), &mut events), Ok(Acquired::Waiting(_))), "now it is empty");
    for minute in 0..15 {
        now += 60 * SECOND;
        heart.configure(now, &hourly(5 + (minute + 1) % 2), &mut events);
        let _ = heart.poll(now, &mut events);
    }
    assert!(matches!(events[..], [Event::Granted { waiter: 1, .. }]), "1 in 12 minutes, and 15 are over: {events:?}");
}
