//! What a crash or a restart has to keep, one thing at a time.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, LimitSpec, Outcome, Pressure, Priority, Reason, Report,
    Request, Resumed, TOKENS, Time, Usage,
};

use crate::world::{BEGIN, SECOND, World};

const MINUTE: Duration = Duration::from_secs(60);
/// A full bucket begins to refill so long after the first call.
const START: u64 = SECOND / 40;

fn spec(limits: Vec<LimitSpec>) -> CheckedSpec {
    BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense")
}

/// A budget that was saved once.
fn kept(spec: &CheckedSpec, now: Time) -> Budget<u32> {
    let mut heart = Budget::new(spec, now);
    heart.keep();
    let _ = heart.save(now, false);
    heart.saved(now, &mut Vec::new());
    heart
}

fn now_or_never(waiter: u32) -> Request<'static, u32> {
    Request {
        tenant: "web",
        model: "",
        priority: Priority::Standard,
        estimate: Usage::default(),
        count: 1,
        max_wait: Some(Duration::ZERO),
        gives_up: None,
        waiter,
    }
}

/// Goal: an orderly restart keeps what was left to the unit, and counts its time as refill.
#[test]
fn a_restart_is_exact() {
    let mut world = World::new(vec![
        LimitSpec::rate("requests", 60, MINUTE),
        LimitSpec::rate(TOKENS, 600, MINUTE),
        LimitSpec::in_flight(5),
    ]);
    for _ in 0..4 {
        world.ask(0, 60, None);
        world.save_if_pressed();
    }
    let before = [0, 1, 2].map(|limit| world.level(limit));
    assert_eq!(before, [56, 360, 1]);
    world.restart(0, 0);
    assert_eq!([0, 1, 2].map(|limit| world.level(limit)), before);
    // It begins a moment after the first call, also where the restart came in between.
    world.restart(3 * SECOND, 500);
    assert_eq!([0, 1, 2].map(|limit| world.level(limit)), [58, 389, 1]);
    world.pass(START);
    assert_eq!([0, 1, 2].map(|limit| world.level(limit)), [59, 390, 1]);
    assert!(world.report(0, Some(10)), "its permit has survived twice");
    assert_eq!([0, 1, 2].map(|limit| world.level(limit)), [59, 440, 2], "and its refund");
}

/// Goal: under load, what a crash loses is less than what two seconds bring; and what was granted since the last save is covered.
#[test]
fn a_crash_loses_less_than_two_seconds() {
    let mut world = World::new(vec![LimitSpec { burst: 600, ..LimitSpec::rate("requests", 6_000, MINUTE) }]);
    for round in 0..2_000 {
        world.ask(0, 1, None);
        if world.heart.pressure() >= Pressure::Soon || round % 100 == 0 {
            world.save();
        }
        world.pass(SECOND / 80);
        if round % 37 == 36 {
            let before = world.level(0);
            world.crash(0, 0, true);
            let lost = before - world.level(0);
            assert!((0..200).contains(&lost), "{lost} of 100 a second are lost in round {round}");
        }
    }
}

/// Goal: permits granted after the last save are covered, and free their slot when they are reported, once.
#[test]
fn permits_that_nobody_wrote_down() {
    let mut world = World::new(vec![LimitSpec::in_flight(4)]);
    world.ask(0, 1, None);
    world.save_if_pressed();
    assert_eq!((world.held.len(), world.level(0)), (1, 3));
    let unwritten = world.held[0];
    world.crash(0, 0, true);
    assert_eq!(world.level(0), 3, "it may be out");
    assert!(!world.report(0, Some(1)), "nothing is known of it that could be settled");
    assert_eq!(world.level(0), 4, "but it has ended");
    world.ask(0, 1, None);
    world.save_if_pressed();
    let now = world.clock();
    for _ in 0..3 {
        world.heart.report(now, unwritten.key, &Report::new(Outcome::Success), &mut Vec::new());
    }
    assert_eq!(world.level(0), 3, "a repeat frees no slot");
}

/// Goal: freezes, and a quota that is used up, survive.
#[test]
fn freezes_and_exhaustion_survive() {
    let spec = spec(vec![LimitSpec::rate("requests", 60, MINUTE)]);
    let now = Time::from_nanos(BEGIN);
    for (outcome, hour) in [
        (Outcome::RateLimited, Some(Duration::from_secs(3_600))),
        (Outcome::Overloaded, Some(Duration::from_secs(3_600))),
        (Outcome::QuotaExhausted, Some(Duration::from_secs(3_600))),
        (Outcome::QuotaExhausted, None),
    ] {
        let mut heart = kept(&spec, now);
        let Ok(Acquired::Granted(grant)) = heart.acquire(now, now_or_never(1), &mut Vec::new()) else {
            panic!("there is room");
        };
        let report = Report { retry_after: hour, ..Report::new(outcome) };
        heart.report(now, grant.permit, &report, &mut Vec::new());
        let (saved, permits) = heart.save(now, false);
        assert!(permits.iter().all(|(_, permit)| permit.is_none()), "the permit has ended");
        let (later, past) = (now + Duration::from_secs(1_800), now + Duration::from_secs(10_000));
        let mut next = Budget::restore(&spec, &saved, Vec::new(), &Resumed::at(later), &0);
        let _ = next.save(later, false);
        next.saved(later, &mut Vec::new());
        assert!(next.acquire(later, now_or_never(2), &mut Vec::new()).is_err(), "{outcome:?} holds");
        let then = next.acquire(past, now_or_never(3), &mut Vec::new());
        assert_eq!(then.is_ok(), hour.is_some(), "{outcome:?} ends as it would have");
    }
}

/// Goal: a clock that was set while nobody ran neither mints nor holds anything back.
#[test]
fn clocks_that_were_set() {
    const YEAR: i64 = 365 * 86_400 * 1_000_000_000;
    for ahead in [-YEAR / 500, YEAR] {
        let mut world = World::new(vec![LimitSpec::rate("requests", 60, MINUTE), LimitSpec::in_flight(2)]);
        for _ in 0..2 {
            world.ask(0, 1, None);
            world.save_if_pressed();
        }
        world.save();
        world.restart(0, ahead);
        assert_eq!((world.level(0), world.level(1)), (58, 0));
        world.pass(SECOND + START);
        assert_eq!((world.level(0), world.level(1)), (59, 0));
        world.pass(60 * SECOND);
        assert_eq!((world.level(0), world.level(1)), (60, 2), "permits end after their life");
    }
}

/// Goal: who cannot wait is granted by the next save, or told by it that there was not enough.
#[test]
fn who_cannot_wait_waits_for_the_save_only() {
    let spec = spec(vec![LimitSpec::rate("requests", 2, MINUTE)]);
    let now = Time::from_nanos(BEGIN);
    let mut heart = kept(&spec, now);
    let mut events = Vec::new();
    for waiter in 1..=3 {
        let asked = heart.acquire(now, now_or_never(waiter), &mut events);
        assert!(matches!(asked, Ok(Acquired::Waiting(_))), "{asked:?}");
    }
    let mut answers = Vec::new();
    for _ in 0..3 {
        if heart.pressure() == Pressure::Now {
            let _ = heart.save(now, false);
            heart.saved(now, &mut events);
        }
    }
    for event in events {
        answers.push(match event {
            Event::Granted { waiter, .. } => (waiter, None),
            Event::Refused { waiter, refusal } => (waiter, Some(refusal.reason)),
            Event::Expired { .. } => panic!("nothing expires"),
        });
    }
    assert_eq!(answers, [(1, None), (2, None), (3, Some(Reason::NotInTime))]);
    assert_eq!((heart.waiting(), heart.pressure()), (0, Pressure::None));
}

/// Goal: while nothing can be written, grants go on within what was set aside, then stop with the reason, and go on by themselves.
#[test]
fn a_store_that_fails() {
    let spec = spec(vec![LimitSpec::rate("requests", 180, MINUTE)]);
    let now = Time::from_nanos(BEGIN);
    let mut heart = kept(&spec, now);
    let mut events = Vec::new();
    for waiter in 1..=3 {
        let asked = heart.acquire(now, now_or_never(waiter), &mut events);
        assert!(matches!(asked, Ok(Acquired::Granted(_))), "a second of the rate is set aside");
    }
    let patient = Request { max_wait: None, ..now_or_never(4) };
    assert!(matches!(heart.acquire(now, patient, &mut events), Ok(Acquired::Waiting(_))));
    let (_, permits) = heart.save(now, false);
    heart.not_saved(now, &permits, &mut events);
    let refused = events.pop().expect("an answer");
    let Event::Refused { waiter: 4, refusal } = refused else { panic!("not {refused:?}") };
    assert_eq!(refusal.reason, Reason::StoreUnavailable);
    assert!(refusal.retry_after.is_some());
    for waiter in 5..8 {
        assert!(matches!(heart.acquire(now, now_or_never(waiter), &mut events), Ok(Acquired::Waiting(_))));
        let refused = events.pop().expect("an answer");
        assert!(
            matches!(refused, Event::Refused { refusal, .. } if refusal.reason == Reason::StoreUnavailable)
        );
    }
    let (_, again) = heart.save(now, false);
    assert_eq!(again.len(), permits.len(), "what was not written is told again");
    heart.saved(now, &mut events);
    assert!(matches!(heart.acquire(now, now_or_never(9), &mut events), Ok(Acquired::Granted(_))));
}

/// Goal: nothing is granted from the end on that its owner set, neither at once nor to who waits; it goes on when the end is moved.
#[test]
fn grants_end_with_their_owner() {
    let second = Duration::from_secs(1);
    let spec = spec(vec![LimitSpec::rate("requests", 600, MINUTE)]);
    let now = Time::from_nanos(BEGIN);
    let (mut heart, mut events) = (kept(&spec, now), Vec::new());
    heart.grant_until(now, now + second, &mut events);
    assert!(matches!(heart.acquire(now, now_or_never(1), &mut events), Ok(Acquired::Granted(_))));
    let late = now + second;
    assert!(heart.acquire(late, now_or_never(2), &mut events).is_err());
    let patient = Request { max_wait: None, ..now_or_never(3) };
    assert!(matches!(heart.acquire(late, patient, &mut events), Ok(Acquired::Waiting(_))));
    let _ = heart.poll(late + second, &mut events);
    assert!(events.is_empty(), "{events:?}");
    heart.grant_until(late + second, late + second * 2, &mut events);
    let [Event::Granted { waiter: 3, .. }] = events.as_slice() else { panic!("one grant, not {events:?}") };
}
