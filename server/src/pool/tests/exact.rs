//! Any course of events: nothing is lost, charged twice or left idle.

use std::time::Duration;

use permitd_budget::Outcome;
use proptest::{collection::vec, prelude::*};

use super::world::{SECOND, World};

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(Option<u8>),
    Report(usize, u8),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::option::of(0..30u8).prop_map(Step::Ask),
        5 => (any::<usize>(), 0..20u8).prop_map(|(at, how)| Step::Report(at, how)),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Pause),
        2 => any::<usize>().prop_map(Step::Resume),
        2 => (0..5_000u16).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: whatever happens, a request has one permit at most, each charge is on one member only, and nobody waits while a member has
    /// room.
    #[test]
    fn is_exact(
        slots in vec((1..4u64, (1..3u32, 1..4u32)), 1..5),
        steps in vec(step(), 1..120),
    ) {
        let mut world = World::slots(&slots);
        let members = slots.len();
        for step in steps {
            match step {
                Step::Ask(wait) => {
                    world.ask(wait.map(|wait| SECOND * u32::from(wait)));
                }
                Step::Report(at, 1) => world.report(at, Outcome::Overloaded, Some(SECOND * 2)),
                Step::Report(at, 2) => world.report(at, Outcome::QuotaExhausted, None),
                Step::Report(at, 3) => world.report(at, Outcome::Cancelled, None),
                Step::Report(at, _) => world.report(at, Outcome::Success, None),
                Step::Cancel(at) => world.cancel(at),
                Step::Pause(at) => world.hearts[at % members].with(|budget, _, _| budget.pause()),
                Step::Resume(at) => {
                    world.hearts[at % members].with(|budget, now, events| budget.resume(now, events));
                    world.take_in();
                }
                Step::Pass(ms) => world.pass(Duration::from_millis(ms.into())),
            }
            world.check();
            world.ask_again();
            world.check();
            if world.waiting.is_empty() {
                continue;
            }
            for (at, heart) in world.hearts.iter().enumerate() {
                let budget = &mut heart.budget.borrow_mut();
                let is_halted = !budget.standing(world.now.get()).halts.is_empty();
                let snapshot = budget.snapshot(world.now.get());
                let is_free =
                    snapshot.limits.iter().all(|limit| limit.level > 0 && limit.frozen_until.is_none());
                let waits = world.waiting.values().any(|entry| entry.wants(at, world.now.get()));
                prop_assert!(!waits || is_halted || !is_free, "member {at} has room, and somebody waits");
            }
        }
        // In the end all have their answer once everything is given back.
        for heart in &world.hearts {
            heart.with(|budget, now, events| budget.resume(now, events));
        }
        world.take_in();
        world.ask_again();
        for _ in 0..400 {
            if world.waiting.is_empty() {
                break;
            }
            world.report(0, Outcome::Success, None);
            world.pass(SECOND);
            world.check();
        }
        prop_assert!(world.waiting.is_empty(), "{} still wait", world.waiting.len());
        prop_assert_eq!(world.became.len() as u64, world.requests);
    }
}
