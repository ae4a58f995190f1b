//! What the provider taught outlasts the process: what headers told, what refusals lowered, and limits that nobody declared.

use std::time::Duration;

use permitd_budget::{
    Adapt, LimitSnapshot, LimitSpec, Observed, Outcome, Pressure, Report, Source, TOKENS, Teacher, Tripped,
    Window,
};

use crate::{
    histories::{Draws, from_environment},
    world::{SECOND, TENANTS, World},
};

const MINUTE: Duration = Duration::from_secs(60);

/// One limit as an administrator sees it, with times as how long ago or ahead they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    limit: String,
    source: Source,
    amount: u64,
    lesson: Option<(Teacher, Duration)>,
    told: Option<u64>,
    cushion: u64,
    frozen: Option<Duration>,
    level: i64,
}

fn seen(world: &mut World) -> Vec<Seen> {
    let now = world.clock();
    let see = |limit: LimitSnapshot| Seen {
        limit: limit.configured.to_string(),
        source: limit.source,
        amount: limit.effective_amount,
        lesson: limit.lesson.map(|lesson| (lesson.from, now.since(lesson.at))),
        told: limit.told,
        cushion: limit.cushion,
        frozen: limit.frozen_until.map(|until| until.since(now)),
        level: limit.level,
    };
    world.heart.snapshot(now).limits.into_iter().map(see).collect()
}

fn header(unit: &str, window: Window, limit: u64, remaining: Option<u64>) -> Observed {
    let per = (unit != "in_flight").then_some(MINUTE);
    Observed {
        unit: unit.into(),
        per,
        models: "".into(),
        window,
        limit: Some(limit),
        remaining,
        rounded_to: 0,
        reset: Some(Duration::from_secs(17)),
    }
}

/// What a provider may answer.
fn answer(draws: &mut Draws) -> Report {
    let outcome = match draws.below(12) {
        0 | 1 => Outcome::RateLimited,
        2 => Outcome::ConcurrencyLimited,
        3 => Outcome::Overloaded,
        4 => Outcome::AccelerationLimited,
        _ => Outcome::Success,
    };
    let waits = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(9))];
    let units = ["requests", TOKENS, "points"];
    let tripped = Tripped { unit: units[draws.below(3) as usize].into(), per: None };
    let windows = [Window::Bucket, Window::Fixed { phase: None }];
    let observed = header(
        ["requests", TOKENS, "in_flight"][draws.below(3) as usize],
        windows[draws.below(2) as usize],
        10 + draws.below(500),
        [None, Some(draws.below(60))][draws.below(2) as usize],
    );
    Report {
        retry_after: if outcome == Outcome::Success { None } else { waits[draws.below(3) as usize] },
        tripped: if draws.below(3) == 0 { vec![tripped] } else { Vec::new() },
        observed: if draws.below(6) == 0 { vec![observed] } else { Vec::new() },
        ..Report::new(outcome)
    }
}

fn adapting(amount: u64) -> LimitSpec {
    LimitSpec { adapt: Adapt::Latency, ..LimitSpec::in_flight(amount) }
}

fn history(seed: u64) -> Result<(), String> {
    let mut draws = Draws(seed);
    let declared = [
        vec![],
        vec![LimitSpec::rate("requests", 600, MINUTE)],
        vec![LimitSpec::rate("requests", 600, MINUTE), LimitSpec::in_flight(20)],
        vec![
            LimitSpec { burst: 20, ..LimitSpec::rate("requests", 300, MINUTE) },
            LimitSpec::rate(TOKENS, 9_000, MINUTE),
        ],
        vec![adapting(30)],
    ];
    let mut world = World::new(declared[draws.below(declared.len() as u64) as usize].clone());
    // How many saves there had been when the provider's latest answer was heard.
    let mut heard_at = 0;
    for step in 0..300 {
        match draws.below(20) {
            0..8 => {
                world.ask(draws.below(TENANTS.len() as u64) as usize, 1 + draws.below(60), Some(MINUTE));
                world.save_if_pressed();
            }
            8..13 if !world.held.is_empty() => {
                let held = draws.below(world.held.len() as u64) as usize;
                world.answer(held, &answer(&mut draws));
                heard_at = world.saves;
                world.save_if_pressed();
            }
            13..17 => world.pass([1_000_000, 400_000_000, 3 * SECOND][draws.below(3) as usize]),
            17 => world.save(),
            18 => {
                let before = seen(&mut world);
                world.restart(0, draws.below(200 * SECOND).cast_signed() - 100 * SECOND.cast_signed());
                let after = seen(&mut world);
                if before != after {
                    return Err(format!("step {step}: {before:#?} became {after:#?}"));
                }
            }
            _ => {
                // What was heard since the last save is heard no more.
                let is_known = world.saves > heard_at;
                let before = seen(&mut world);
                world.crash(0, 0, true);
                let after = seen(&mut world);
                let less = |(before, after): (&Seen, &Seen)| {
                    *before == Seen { level: before.level, ..after.clone() } && after.level <= before.level
                };
                if is_known && (before.len() != after.len() || !before.iter().zip(&after).all(less)) {
                    return Err(format!("step {step}: {before:#?} became {after:#?}"));
                }
            }
        }
    }
    Ok(())
}

/// Goal: whatever the provider taught, an orderly restart keeps it as it was, and a crash leaves no more than there was.
#[test]
fn lessons_survive() {
    let first = from_environment("PERMITD_PROPTEST_SEED").unwrap_or(0) << 32;
    let cases = from_environment("PERMITD_PROPTEST_CASES").unwrap_or(150);
    for seed in first..first + cases {
        if let Err(problem) = history(seed) {
            panic!("seed {seed}: {problem}");
        }
    }
}

/// Goal: a limit that nobody declared is known after a crash, and is one that nothing is granted from before it is written down.
#[test]
fn what_was_discovered_is_known() {
    let mut world = World::new(Vec::new());
    for _ in 0..2 {
        world.ask(0, 1, None);
        world.save_if_pressed();
    }
    let told = Report {
        observed: vec![header(TOKENS, Window::Bucket, 40, Some(9))],
        ..Report::new(Outcome::Success)
    };
    world.answer(0, &told);
    let limits = seen(&mut world);
    assert_eq!((limits.len(), limits[0].source, limits[0].told), (1, Source::Header, Some(40)));
    world.ask(0, 3, Some(Duration::ZERO));
    assert_eq!((world.held.len(), world.heart.pressure()), (1, Pressure::Now), "it waits for the save");
    world.save();
    assert_eq!(world.held.len(), 2);
    let before = seen(&mut world)[0].level;
    assert_eq!(before, 36, "3 are gone, and the 1 that the other call holds");
    world.crash(0, 0, true);
    let limits = seen(&mut world);
    assert_eq!((limits[0].source, limits[0].told, limits[0].amount), (Source::Header, Some(40), 40));
    assert!((32..=before).contains(&limits[0].level), "{} of {before}", limits[0].level);
}

/// Goal: how many calls at once a provider takes without getting slower is known after a restart, with what calls take; it does
/// not begin with few again.
#[test]
fn what_latency_taught_is_known() {
    let mut world = World::new(vec![adapting(100)]);
    let quick = Report { latency: Some(Duration::from_secs(1)), ..Report::new(Outcome::Success) };
    // As many at once as are granted, one after the other.
    let calls = |world: &mut World, report: &Report, count: usize| {
        for _ in 0..count {
            let free = seen(world)[0].amount.saturating_sub(world.held.len() as u64);
            for _ in 0..free {
                world.ask(0, 1, Some(Duration::ZERO));
                world.save_if_pressed();
            }
            world.pass(SECOND / 100);
            world.answer(0, report);
            world.save_if_pressed();
        }
    };
    calls(&mut world, &quick, 110);
    let before = seen(&mut world);
    assert_eq!((before[0].amount, before[0].lesson.map(|lesson| lesson.0)), (40, Some(Teacher::Latency)));
    world.restart(0, 0);
    assert_eq!(seen(&mut world), before);
    world.crash(0, 0, true);
    assert_eq!(seen(&mut world)[0].amount, 40);
    // Calls take three times as long with so many: it knows what they took before.
    let slow = Report { latency: Some(Duration::from_secs(3)), ..quick };
    calls(&mut world, &slow, 120);
    assert!(seen(&mut world)[0].amount < 30, "{:?}", seen(&mut world));
}

/// Goal (invariant 10): of refusals of calls that were under way together, those that are reported after a restart are part of the
/// event that was known before it.
#[test]
fn an_event_is_one_across_a_restart() {
    let mut world = World::new(vec![LimitSpec::rate("requests", 600, MINUTE)]);
    for _ in 0..10 {
        world.ask(0, 1, None);
        world.save_if_pressed();
    }
    world.pass(SECOND / 2);
    let refused = Report::new(Outcome::RateLimited);
    for _ in 0..5 {
        world.answer(0, &refused);
    }
    let before = seen(&mut world);
    assert!(before[0].lesson.is_some() || before[0].cushion > 0, "something was learned: {before:?}");
    world.restart(0, 0);
    for _ in 0..5 {
        world.answer(0, &refused);
    }
    assert_eq!(seen(&mut world), before);
}
