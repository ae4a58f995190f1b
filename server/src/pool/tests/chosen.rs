//! Who is asked, and what is answered at once.

use std::time::Duration;

use permitd_budget::{LimitSpec, Outcome};

use super::world::{Became, SECOND, World};

/// Goal: who is preferred grants while it can, then the others by weight.
#[test]
fn preference_then_weight() {
    let mut world = World::slots(&[(4, (2, 3)), (2, (1, 1)), (4, (2, 1))]);
    let ids: Vec<_> = (0..10).map(|_| world.ask(None)).collect();
    let members: Vec<_> = ids.into_iter().map(|id| world.member_of(id)).collect();
    let count = |at| members.iter().filter(|member| **member == Some(at)).count();
    assert_eq!(members[..2], [Some(1), Some(1)]);
    assert_eq!(members[2..6], [Some(0), Some(0), Some(2), Some(0)]);
    assert_eq!((count(0), count(1), count(2)), (4, 2, 4));
    world.check();
}

/// Goal: a frozen member is passed over while others can grant, serves again after it, and who waits for all is served by whichever thaws
/// first.
#[test]
fn frozen_members_are_passed_over() {
    let per_minute = || vec![LimitSpec::rate("requests", 600, SECOND * 60)];
    let mut world = World::new(vec![(per_minute(), (1, 1)), (per_minute(), (2, 1))]);
    assert_eq!(world.ask(None), 1);
    assert_eq!(world.member_of(1), Some(0));
    world.report(0, Outcome::RateLimited, Some(SECOND * 20));
    let served = world.ask(Some(Duration::ZERO));
    assert_eq!(world.member_of(served), Some(1));
    world.report(0, Outcome::RateLimited, Some(SECOND * 60));
    let waits = world.ask(Some(SECOND * 50));
    assert_eq!(world.ask(Some(Duration::ZERO)), waits + 1);
    assert_eq!(world.became[&(waits + 1)], Became::Refused("NOT_IN_TIME"));
    world.pass(SECOND * 19);
    assert_eq!(world.member_of(waits), None);
    world.pass(SECOND * 10);
    assert_eq!(world.member_of(waits), Some(0), "a given wait is lengthened by a fifth at most");
    world.check();
}

/// Goal: an exhausted member takes nobody, without keeping anybody from the others; resumed, it serves those that still wait.
#[test]
fn exhausted_members_come_back() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    world.ask(None);
    world.report(0, Outcome::QuotaExhausted, None);
    let other = world.ask(None);
    assert_eq!(world.member_of(other), Some(1));
    let waits = world.ask(None);
    world.pass(SECOND * 3);
    assert_eq!(world.member_of(waits), None);
    assert_eq!(world.hearts[0].budget.borrow_mut().snapshot(world.now.get()).refused_total, 0);
    world.hearts[0].with(|budget, now, events| budget.resume(now, events));
    world.pass(SECOND);
    assert_eq!(world.member_of(waits), Some(0));
    world.check();
}

/// Goal: a pool of which no member takes the request says what the most hopeful of them says, and that one counts it.
#[test]
fn refusals_are_the_most_hopeful_and_count_once() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1)), (1, (3, 1))]);
    world.ask_many(3);
    world.report(0, Outcome::QuotaExhausted, None);
    world.report(1, Outcome::QuotaExhausted, None);
    let refused = world.ask(Some(Duration::ZERO));
    assert_eq!(world.became[&refused], Became::Refused("NOT_IN_TIME"));
    let counted = |at: usize| world.hearts[at].budget.borrow_mut().snapshot(world.now.get()).refused_total;
    assert_eq!([counted(0), counted(1), counted(2)], [0, 1, 0]);
}
