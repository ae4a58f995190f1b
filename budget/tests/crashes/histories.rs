//! Random histories.

use std::{env, time::Duration};

use permitd_budget::{LimitSpec, TOKENS, Time, Window};

use crate::{
    referee::judge,
    world::{SECOND, TENANTS, World},
};

/// Numbers by SplitMix64.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn limits() -> Vec<LimitSpec> {
    let span = Duration::from_secs;
    let each = |limit| LimitSpec { tenants: "each".to_owned(), ..limit };
    vec![
        LimitSpec { burst: 15, ..LimitSpec::rate("requests", 20, span(10)) },
        // Of which everything is set aside while somebody waits.
        LimitSpec { burst: 8, ..LimitSpec::rate("requests", 50, span(10)) },
        LimitSpec::rate(TOKENS, 600, span(60)),
        LimitSpec::rate("requests", 40, span(86_400)),
        LimitSpec { window: Window::Sliding, ..LimitSpec::rate("requests", 30, span(20)) },
        LimitSpec {
            window: Window::Quantised { quantum: span(5) },
            ..LimitSpec::rate("requests", 60, span(60))
        },
        LimitSpec::in_flight(3),
        LimitSpec::in_flight(40),
        each(LimitSpec::rate("requests", 8, span(10))),
        each(LimitSpec { window: Window::Sliding, ..LimitSpec::rate(TOKENS, 400, span(30)) }),
        each(LimitSpec::in_flight(2)),
        LimitSpec {
            window: Window::Fixed { phase: Some(Time::ZERO) },
            ..LimitSpec::rate("requests", 25, span(15))
        },
    ]
}

fn history(seed: u64) -> Result<(), String> {
    let mut draws = Draws(seed);
    let all = limits();
    let mut chosen: Vec<LimitSpec> = Vec::new();
    for _ in 0..=draws.below(3) {
        let limit = &all[draws.below(all.len() as u64) as usize];
        if !chosen.iter().any(|other| other.same_identity(limit)) {
            chosen.push(limit.clone());
        }
    }
    // Where windows stand fast on the clock, it is not set.
    let steady = chosen.iter().any(|limit| matches!(limit.window, Window::Fixed { .. }));
    let mut world = World::new(chosen.clone());
    for _ in 0..400 {
        match draws.below(100) {
            0..40 => {
                let wait =
                    [Some(Duration::ZERO), Some(Duration::from_secs(20)), None][draws.below(3) as usize];
                world.ask(draws.below(TENANTS.len() as u64) as usize, 1 + draws.below(60), wait);
                if draws.below(4) > 0 {
                    world.save_if_pressed();
                }
            }
            40..60 if !world.held.is_empty() => {
                let held = draws.below(world.held.len() as u64) as usize;
                let tokens = world.calls[world.held[held].call].tokens;
                let used = [None, Some(draws.below(tokens + 1)), Some(tokens)][draws.below(3) as usize];
                world.report(held, used);
            }
            60..80 => world.pass([1_000_000, 200_000_000, 3 * SECOND][draws.below(3) as usize]),
            80..88 => world.begin_save(),
            88..93 => world.end_save(),
            93..95 => world.fail_save(draws.below(2) == 0),
            95..97 => {
                let down = draws.below(20 * SECOND);
                let ahead = if steady {
                    0
                } else {
                    draws.below(200 * SECOND).cast_signed() - 100 * SECOND.cast_signed()
                };
                let known = draws.below(4) > 0;
                match draws.below(4) {
                    0 => world.restart(down, ahead),
                    _ => world.crash(down, ahead, known || steady),
                }
                if draws.below(2) == 0 {
                    world.report_again();
                }
            }
            _ => {}
        }
        judge(&chosen, TENANTS.len(), &world.calls)?;
    }
    recovers(&mut world, &chosen)
}

/// In the end, everything is there again.
fn recovers(world: &mut World, limits: &[LimitSpec]) -> Result<(), String> {
    world.save();
    for _ in 0..2_000 {
        if world.heart.waiting() == 0 {
            break;
        }
        world.pass(600 * SECOND);
        world.save_if_pressed();
    }
    if world.heart.waiting() > 0 {
        let (now, pressure) = (world.clock(), world.heart.pressure());
        return Err(format!("some wait for ever ({pressure:?}): {:?}", world.heart.snapshot(now)));
    }
    // A debt of at most one window is repaid, and the rest filled up.
    world.pass(2 * 86_400 * SECOND);
    for (at, limit) in limits.iter().enumerate() {
        let full = match limit.window {
            Window::Quantised { .. } => 5,
            _ if limit.burst > 0 => limit.burst,
            _ => limit.amount,
        };
        let level = world.level(at);
        if i64::try_from(full) != Ok(level) {
            return Err(format!("{limit} holds {level} in the end, not {full}"));
        }
    }
    judge(limits, TENANTS.len(), &world.calls)
}

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let value = env::var_os(name)?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{name} is {value:?}, not a number")))
}

/// Goal (invariants 1 and 9): no history with crashes exceeds a limit, and none loses anything for good.
#[test]
fn a_crash_mints_nothing() {
    let first = from_environment("PERMITD_PROPTEST_SEED").unwrap_or(0) << 32;
    let cases = from_environment("PERMITD_PROPTEST_CASES").unwrap_or(150);
    for seed in first..first + cases {
        if let Err(problem) = history(seed) {
            panic!("seed {seed}: {problem}");
        }
    }
}
