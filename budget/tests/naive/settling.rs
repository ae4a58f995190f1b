//! Each permit ends once, whatever is said about it and however often.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, Grant, LimitSpec, Outcome, Priority, Report, Reported, Request,
    Time, Usage,
};

fn budget(limits: Vec<LimitSpec>) -> Budget<u64> {
    Budget::new(&BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense"), Time::ZERO)
}

fn granted(heart: &mut Budget<u64>, now: Time, tenant: &str, model: &str, estimate: Usage) -> Grant {
    let (priority, count, max_wait, gives_up, waiter) = (Priority::Standard, 1, None, None, 0);
    let request = Request { tenant, model, priority, estimate, count, max_wait, gives_up, waiter };
    match heart.acquire(now, request, &mut Vec::new()) {
        Ok(Acquired::Granted(grant)) => grant,
        other => panic!("nothing is in the way: {other:?}"),
    }
}

/// Goal: at least the last thousand permits of a budget answer a repeated report as the first one, and charge nothing again.
#[test]
fn a_thousand_reports_are_remembered() {
    let mut heart = budget(vec![LimitSpec::rate("tokens", 1_000_000, Duration::from_secs(86_400))]);
    let outcomes = [
        Outcome::Success,
        Outcome::Failed { retryable: true },
        Outcome::Failed { retryable: false },
        Outcome::TooLarge,
    ];
    let mut events = Vec::new();
    let mut first: Vec<(Grant, Reported)> = Vec::new();
    for at in 0..1_000_usize {
        let grant = granted(&mut heart, Time::ZERO, "web", "", Usage::of_tokens(10));
        let report = Report { actual: Usage::of_tokens(7), ..Report::new(outcomes[at % outcomes.len()]) };
        let (reported, waiter) = heart.report(Time::ZERO, grant.permit, &report, &mut events);
        assert!(reported.settled && waiter == Some(0), "{reported:?}");
        first.push((grant, reported));
    }
    let level = heart.snapshot(Time::ZERO).limits[0].level;
    assert_eq!(level, 1_000_000 - 7_000);
    for (grant, reported) in &first {
        let report = Report { actual: Usage::of_tokens(5_000), ..Report::new(Outcome::Cancelled) };
        assert_eq!(heart.report(Time::ZERO, grant.permit, &report, &mut events), (*reported, None));
    }
    assert_eq!(heart.snapshot(Time::ZERO).limits[0].level, level);
    assert!(events.is_empty(), "{events:?}");
}

/// Goal: an id is never given twice, not even after the slots of ended permits are used again.
#[test]
fn keys_are_never_used_again() {
    let mut heart = budget(Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    let mut now = Time::ZERO;
    for at in 0..5_000_u64 {
        let grant = granted(&mut heart, now, "web", "", Usage::default());
        assert!(seen.insert(grant.permit), "{:?} again", grant.permit);
        if at % 3 != 0 {
            let _ = heart.report(now, grant.permit, &Report::new(Outcome::Success), &mut Vec::new());
        }
        now += Duration::from_millis(500);
    }
}

/// Goal: a report that comes as the permit ends settles or does not, and the budget holds one or the other, never both.
#[test]
fn reports_race_with_expiry() {
    for late in [0_u64, 1, 999_999, 1_000_000, 1_000_001] {
        let mut heart = budget(vec![
            LimitSpec::rate("tokens", 1_000, Duration::from_secs(86_400 * 300)),
            LimitSpec::in_flight(9),
        ]);
        let grant = granted(&mut heart, Time::ZERO, "web", "", Usage::of_tokens(500));
        let now = Time::from_nanos(grant.expires.as_nanos() - 1 + late);
        let mut events = Vec::new();
        let report = Report { actual: Usage::of_tokens(100), ..Report::new(Outcome::Success) };
        let (reported, waiter) = heart.report(now, grant.permit, &report, &mut events);
        let _ = heart.poll(now, &mut events);
        let expired = events
            .iter()
            .any(|event| matches!(event, Event::Expired { permit, .. } if *permit == grant.permit));
        assert_eq!(reported.settled, !expired, "{late} ns late: {reported:?}, {events:?}");
        assert_eq!(waiter.is_some(), !expired);
        let snapshot = heart.snapshot(now);
        let level = if expired { 500 } else { 900 };
        assert_eq!((snapshot.limits[0].level, snapshot.limits[1].level, snapshot.in_flight), (level, 9, 0));
    }
}

/// Goal: what callers leave open is learned per tenant and model, follows what is used, and is never more than they allow.
#[test]
fn open_outputs_are_learned() {
    let mut heart = budget(vec![LimitSpec::rate("output_tokens", 10_000_000, Duration::from_secs(60))]);
    let open = |most| Usage { input_tokens: Some(5), max_output_tokens: Some(most), ..Usage::default() };
    let mut charged = Vec::new();
    for used in [
        300_u64, 300, 300, 300, 300, 300, 300, 300, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900,
        900,
    ] {
        let grant = granted(&mut heart, Time::ZERO, "web", "opus", open(4_000));
        charged.push(grant.charged.output_tokens);
        let actual = Usage { output_tokens: Some(used), ..Usage::default() };
        let _ = heart.report(
            Time::ZERO,
            grant.permit,
            &Report { actual, ..Report::new(Outcome::Success) },
            &mut Vec::new(),
        );
    }
    assert_eq!(charged[0], 4_000, "nothing is known yet");
    assert!((300..=400).contains(&charged[7]), "{charged:?}");
    assert!((600..=1_200).contains(charged.last().expect("twenty")), "{charged:?}");
    assert_eq!(granted(&mut heart, Time::ZERO, "web", "opus", open(50)).charged.output_tokens, 50);
    for (tenant, model) in [("web", "haiku"), ("jobs", "opus")] {
        assert_eq!(granted(&mut heart, Time::ZERO, tenant, model, open(4_000)).charged.output_tokens, 4_000);
    }
}
