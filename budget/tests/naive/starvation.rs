//! Nobody starves: while a request is first in its lane, others get a bounded amount, whatever they do and whatever it needs.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, LimitSpec, Outcome, Priority, Reason, Report, Request, TenantSpec,
    Time, Usage,
};
use proptest::prelude::*;

use crate::{
    race::tokens_per_minute,
    runner::{Numbers, try_all},
};

const SECOND: Duration = Duration::from_secs(1);

fn request<'a>(tenant: &'a str, model: &'a str, tokens: u64, waiter: u64) -> Request<'a, u64> {
    let estimate = Usage { input_tokens: Some(tokens), output_tokens: Some(0), ..Usage::default() };
    Request {
        tenant,
        model,
        priority: Priority::Standard,
        estimate,
        count: 1,
        max_wait: None,
        gives_up: None,
        waiter,
    }
}

/// A tenant as drawn: its weight and its largest request.
type Drawn = (u32, u64);

/// Who waits: when first in its lane, what others had been served by then.
struct Waits {
    tenant: usize,
    served_before: Option<Vec<u128>>,
}

/// Random comings and goings on one limit; checks for each request, from the moment when it is first of its tenant, that each
/// other tenant is served at most its weight's part of that request's tenant's largest cost, and one request of its own.
fn comings_and_goings(tenants: &[Drawn], seed: u64) -> Result<(), String> {
    let name = |at: usize| format!("tenant-{at}");
    let declared = tenants
        .iter()
        .enumerate()
        .map(|(at, (weight, _))| (name(at), TenantSpec { weight: *weight, ..TenantSpec::default() }));
    let limits = vec![tokens_per_minute(6_000, 500)];
    let spec = BudgetSpec { limits, tenants: declared.collect(), ..BudgetSpec::default() }
        .check()
        .expect("makes sense");
    let mut numbers = Numbers::from_seed(seed);
    let mut now = Time::from_nanos(77);
    let mut heart = Budget::new(&spec, now);
    let mut waiting: BTreeMap<u64, Waits> = BTreeMap::new();
    let mut served = vec![0_u128; tenants.len()];
    for id in 0..600_u64 {
        let at = numbers.below(tenants.len() as u64) as usize;
        let tokens = numbers.within(1, tenants[at].1);
        let mut events = Vec::new();
        match heart.acquire(now, request(&name(at), "", tokens, id), &mut events) {
            Ok(Acquired::Granted(grant)) => {
                served[at] += u128::from(grant.charged.tokens);
                let _ = heart.report(now, grant.permit, &Report::new(Outcome::Success), &mut events);
            }
            Ok(Acquired::Waiting(_)) => drop(waiting.insert(id, Waits { tenant: at, served_before: None })),
            Err(refusal) => return Err(format!("{refusal:?}")),
        }
        let end = now + Duration::from_millis(numbers.below(4_000));
        loop {
            for event in std::mem::take(&mut events) {
                let Event::Granted { waiter, grant, .. } = event else { return Err(format!("{event:?}")) };
                let gone = waiting.remove(&waiter).ok_or("granted without waiting")?;
                bounded(
                    tenants,
                    gone.tenant,
                    &gone.served_before.unwrap_or_else(|| served.clone()),
                    &served,
                )?;
                served[gone.tenant] += u128::from(grant.charged.tokens);
                first_in_lane(&mut waiting, &served);
                let _ = heart.report(now, grant.permit, &Report::new(Outcome::Success), &mut events);
            }
            first_in_lane(&mut waiting, &served);
            if !events.is_empty() {
                continue;
            }
            match heart.next_poll() {
                Some(next) if next <= end => now = next.max(now),
                _ => break,
            }
            let _ = heart.poll(now, &mut events);
        }
        now = end;
    }
    Ok(())
}

fn first_in_lane(waiting: &mut BTreeMap<u64, Waits>, served: &[u128]) {
    let mut seen = Vec::new();
    for waits in waiting.values_mut() {
        if !seen.contains(&waits.tenant) {
            seen.push(waits.tenant);
            waits.served_before.get_or_insert_with(|| served.to_vec());
        }
    }
}

fn bounded(tenants: &[Drawn], of: usize, before: &[u128], after: &[u128]) -> Result<(), String> {
    let weight = |at: usize| u128::from(tenants[at].0.max(1));
    for other in (0..tenants.len()).filter(|other| *other != of) {
        let got = after[other] - before[other];
        let part = weight(other) * u128::from(tenants[of].1);
        let bound = part.div_ceil(weight(of)) + u128::from(tenants[other].1);
        if got > bound {
            return Err(format!(
                "while tenant {of} waited first in its lane, tenant {other} got {got}, bound {bound}"
            ));
        }
    }
    Ok(())
}

/// Goal: the bound on what others get while one waits holds for random weights and sizes.
#[test]
fn others_get_a_bounded_part_while_one_waits() {
    let tenants = prop::collection::vec((0_u32..8, prop_oneof![1_u64..20, 100_u64..=500]), 2..6);
    try_all("proptest-regressions/starvation.txt", 60, &(tenants, any::<u64>()), |(tenants, seed)| {
        comings_and_goings(tenants, *seed)
    });
}

/// Floods `heart` so that small requests of `tenants` and `models` always wait, and counts grants until `large` has its permit.
fn grants_before_the_large_one(
    spec: &BudgetSpec,
    flood: &[(&str, &str, Priority)],
    large: Request<'_, u64>,
) -> usize {
    let spec = spec.clone().check().expect("makes sense");
    let mut now = Time::from_nanos(1_000_000_007);
    let mut heart = Budget::new(&spec, now);
    let large_id = large.waiter;
    let mut events = Vec::new();
    let ask = |heart: &mut Budget<u64>, now, events: &mut Vec<Event<u64>>, who: usize| {
        let (tenant, model, priority) = flood[who];
        let answer =
            heart.acquire(now, Request { priority, ..request(tenant, model, 10, who as u64) }, events);
        assert!(answer.is_ok(), "{answer:?}");
        matches!(answer, Ok(Acquired::Waiting(_)))
    };
    for who in 0..flood.len() {
        // Until 20 of each wait.
        let mut waiting = 0;
        while waiting < 20 {
            waiting += usize::from(ask(&mut heart, now, &mut events, who));
        }
    }
    events.clear();
    let answer = heart.acquire(now, large, &mut events);
    assert!(matches!(answer, Ok(Acquired::Waiting(_))), "{answer:?}");
    let mut others = 0;
    loop {
        for event in std::mem::take(&mut events) {
            let Event::Granted { waiter, .. } = event else { continue };
            if waiter == large_id {
                return others;
            }
            others += 1;
            assert!(others < 20_000, "the large request starves");
            ask(&mut heart, now, &mut events, waiter as usize);
        }
        if events.is_empty() {
            now = heart.next_poll().expect("somebody can go").max(now);
            let _ = heart.poll(now, &mut events);
        }
    }
}

/// Goal: a request for the whole bucket gets it, though smaller ones of others that would fit sooner never stop coming.
#[test]
fn a_request_for_the_whole_bucket_is_served() {
    let spec = BudgetSpec { limits: vec![tokens_per_minute(1_000, 0)], ..BudgetSpec::default() };
    let flood = [("a", "", Priority::Standard), ("b", "", Priority::Standard)];
    let others = grants_before_the_large_one(&spec, &flood, request("large", "", 1_000, 99));
    assert!(others <= 4, "{others} small requests went before");
}

/// Goal: batch is served though interactive and standard work never stops.
#[test]
fn batch_is_served_under_a_flood() {
    let spec = BudgetSpec { limits: vec![tokens_per_minute(1_000, 100)], ..BudgetSpec::default() };
    let flood = [("a", "", Priority::Interactive), ("b", "", Priority::Standard)];
    let large = Request { priority: Priority::Batch, ..request("c", "", 10, 99) };
    let others = grants_before_the_large_one(&spec, &flood, large);
    assert!(others <= 24, "{others} went before");
}

/// Goal: a request that needs two limits is served though each is flooded by requests that need that one alone.
#[test]
fn a_request_across_limits_is_served() {
    let on = |models: &str| LimitSpec { models: models.to_owned(), ..tokens_per_minute(1_000, 0) };
    let spec = BudgetSpec { limits: vec![on("a*"), on("*b")], ..BudgetSpec::default() };
    let flood = [("one", "a", Priority::Standard), ("two", "b", Priority::Standard)];
    let others = grants_before_the_large_one(&spec, &flood, request("large", "ab", 900, 99));
    assert!(others <= 8, "{others} small requests went before");
}

/// Goal: who waits for a slot gets one, however many of others wait for slots too and report at once.
#[test]
fn slots_go_round() {
    let spec = BudgetSpec { limits: vec![LimitSpec::in_flight(1)], ..BudgetSpec::default() }
        .check()
        .expect("makes sense");
    let now = Time::from_nanos(9);
    let mut heart = Budget::new(&spec, now);
    let mut events = Vec::new();
    let Ok(Acquired::Granted(first)) = heart.acquire(now, request("greedy", "", 1, 0), &mut events) else {
        panic!("free")
    };
    for id in 1..50 {
        heart.acquire(now, request("greedy", "", 1, id), &mut events).expect("there is room to wait");
    }
    heart.acquire(now, request("modest", "", 1, 99), &mut events).expect("there is room to wait");
    assert!(events.is_empty(), "{events:?}");
    let mut permit = first.permit;
    for turn in 0..3 {
        let _ = heart.report(now, permit, &Report::new(Outcome::Success), &mut events);
        let [Event::Granted { waiter, grant, .. }] = &events[..] else { panic!("one slot, {events:?}") };
        if *waiter == 99 {
            return;
        }
        assert!(turn < 2, "modest is passed again and again");
        permit = grant.permit;
        events.clear();
    }
}

/// Goal: what can never be is refused at once and for good, with the limit named; also when a change makes it so.
#[test]
fn the_impossible_is_refused_for_good() {
    let spec = |burst| {
        BudgetSpec { limits: vec![tokens_per_minute(1_000, burst)], ..BudgetSpec::default() }
            .check()
            .expect("makes sense")
    };
    let now = Time::from_nanos(9);
    let mut heart = Budget::new(&spec(0), now);
    let mut events = Vec::new();
    let refusal = heart.acquire(now, request("a", "", 1_001, 0), &mut events).expect_err("never fits");
    let larger = Reason::LargerThanLimit { unit: "tokens".to_owned(), asked: 1_001, most: 1_000 };
    assert_eq!(
        (refusal.reason, refusal.limit.as_deref(), refusal.retry_after),
        (larger, Some("tokens/1m"), None)
    );
    assert!(matches!(heart.acquire(now, request("a", "", 900, 1), &mut events), Ok(Acquired::Granted(_))));
    assert!(matches!(heart.acquire(now, request("a", "", 800, 2), &mut events), Ok(Acquired::Waiting(_))));
    assert!(matches!(heart.acquire(now, request("a", "", 300, 3), &mut events), Ok(Acquired::Waiting(_))));
    heart.configure(now + SECOND, &spec(500), &mut events);
    let [Event::Refused { waiter: 2, refusal }] = &events[..] else {
        panic!("800 of 500 can never be: {events:?}")
    };
    let larger = Reason::LargerThanLimit { unit: "tokens".to_owned(), asked: 800, most: 500 };
    assert_eq!(
        (&refusal.reason, refusal.limit.as_deref(), refusal.retry_after),
        (&larger, Some("tokens/1m"), None)
    );
    assert_eq!(heart.waiting(), 1);
}
