//! Waiting at every member, for whichever is first.

use std::{cell::Cell, rc::Rc, time::Duration};

use permitd_budget::{Budget, BudgetSpec, LimitSpec, Outcome, QueueSpec, Report};

use super::world::{Became, SECOND, World};
use crate::inbox::News;

/// Goal: who waits does so at every member, and the first that has room serves it; nothing stays behind at the others.
#[test]
fn the_first_that_has_room_serves() {
    for first in 0..3 {
        let mut world = World::slots(&[(1, (1, 1)), (1, (1, 1)), (1, (1, 1))]);
        world.ask_many(3);
        let waits = world.ask(Some(SECOND));
        assert_eq!(world.member_of(waits), None);
        let place = world.live.iter().position(|(member, _)| *member == first).expect("all are taken");
        world.report(place, Outcome::Success, None);
        assert_eq!(world.member_of(waits), Some(first));
        assert!(world.hearts.iter().all(|heart| heart.budget.borrow().waiting() == 0));
        world.check();
    }
}

/// Goal: deadlines run once for the whole, wherever it waits; who was cancelled leaves nothing behind.
#[test]
fn deadlines_and_cancels_end_the_whole() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (1, 1))]);
    world.ask_many(2);
    let (short, taken_back) = (world.ask(Some(SECOND * 2)), world.ask(None));
    world.cancel(1);
    assert_eq!(world.became[&taken_back], Became::Refused("CANCELLED"));
    world.pass(SECOND * 5 / 2);
    assert_eq!(world.became[&short], Became::Refused("NOT_IN_TIME"));
    assert!(world.hearts.iter().all(|heart| heart.budget.borrow().waiting() == 0));
    world.check();
}

/// Goal: two members that grant the same request at the same moment, before anybody is told, grant it once; what the second took is
/// there for the next at once.
#[test]
fn two_grants_are_one() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (1, 1))]);
    world.ask_many(2);
    let (first, second) = (world.ask(None), world.ask(None));
    world.free(0);
    world.free(1);
    world.take_in();
    let mut members = [world.member_of(first), world.member_of(second)];
    members.sort_unstable();
    assert_eq!(members, [Some(0), Some(1)]);
    world.check();
}

/// Goal: a grant that comes second goes back whole: nobody is charged for it, and whoever comes next has it at that very moment.
#[test]
fn the_second_grant_goes_back_whole() {
    let a_second = || vec![LimitSpec::rate("requests", 1, SECOND)];
    let mut world = World::new(vec![(a_second(), (1, 1)), (a_second(), (1, 1))]);
    world.ask_many(2);
    let waits = world.ask(None);
    // Both refill at the same moment.
    world.pass(SECOND * 11 / 10);
    let served = world.member_of(waits).expect("it had its turn");
    assert!((0..2).all(|member| world.granted_ever(member) == 2), "both granted");
    let next = world.ask(Some(Duration::ZERO));
    assert_eq!(world.member_of(next), Some(1 - served));
    world.check();
}

/// Goal: a member that is asked again hears how long the request may still wait, not how long it could at first.
#[test]
fn time_runs_from_the_beginning() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    world.ask_many(2);
    world.report(0, Outcome::QuotaExhausted, None);
    let waits = world.ask(Some(SECOND * 3));
    world.pass(SECOND * 2);
    world.hearts[0].with(|budget, now, events| budget.resume(now, events));
    let sooner = world.ask(Some(Duration::ZERO));
    assert_eq!(world.member_of(sooner), Some(0), "no room is left");
    world.ask_again();
    assert_eq!(world.hearts[0].budget.borrow().waiting(), 1, "it is in the queue of both");
    world.pass(SECOND * 3 / 2);
    assert_eq!(world.became[&waits], Became::Refused("NOT_IN_TIME"));
    world.check();
}

/// Goal: a member that is deleted keeps nobody from the others; declared anew, it serves those that still wait; and where all are
/// deleted, who waits is told so at once.
#[test]
fn members_come_and_go() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    world.ask_many(2);
    let waits = world.ask(None);
    world.delete(0, true);
    world.ask_again();
    assert_eq!(world.became.get(&waits), None, "it waits for the other");
    world.free(0);
    world.delete(0, false);
    world.ask_again();
    assert_eq!(world.member_of(waits), Some(0));
    let waits = world.ask(None);
    world.delete(0, true);
    world.delete(1, true);
    assert_eq!(world.became[&waits], Became::Refused("BUDGET_DELETED"));
    let refused = world.ask(None);
    assert_eq!(world.became[&refused], Became::Refused("BUDGET_UNKNOWN"));
    world.check();
}

/// Goal: whoever has a grant on its way asks nobody again, and who takes the request back meanwhile gives that grant back.
#[test]
fn a_grant_on_its_way_is_the_only_one() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    world.ask_many(2);
    world.report(0, Outcome::QuotaExhausted, None);
    let waits = world.ask(None);
    world.free(1);
    world.hearts[0].with(|budget, now, events| budget.resume(now, events));
    let before = world.granted_ever(0);
    let entry = world.waiting.get_mut(&waits).expect("nobody told it");
    let hearts = world.hearts.clone();
    let now = world.now.get();
    assert!(entry.ask_again(now, &super::world::find(&hearts)).is_none());
    assert!(!entry.leave(), "it was granted");
    assert_eq!(world.granted_ever(0), before, "nobody was asked");
    let mut entry = world.waiting.remove(&waits).expect("it is there");
    let mut deliveries = Vec::new();
    world.inbox.take(&mut deliveries);
    let News::Granted { cell, grant } = deliveries.remove(0).what else { panic!("a grant comes first") };
    let permit = grant.permit;
    assert!(entry.granted(cell, grant, now).is_none(), "it left");
    super::Member::give_back(&world.hearts[1], permit);
    drop(entry);
    world.check();
}

/// Goal: who does not say how long waits at each member as long as that one's default says, and then not once more.
#[test]
fn members_defaults_hold_for_waiting_there() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    for (member, seconds) in [(0, 1), (1, 3)] {
        let limits = vec![LimitSpec::in_flight(1)];
        let queue = QueueSpec { max_wait: Some(SECOND * seconds), ..QueueSpec::default() };
        let spec = BudgetSpec { limits, queue, ..BudgetSpec::default() }.check().expect("a sound spec");
        *world.hearts[member].budget.borrow_mut() = Budget::new(&spec, world.now.get());
    }
    world.ask_many(2);
    let waits = world.ask(None);
    world.pass(SECOND * 3 / 2);
    assert_eq!(world.became.get(&waits), None, "the other's default is longer");
    assert_eq!(world.hearts[0].budget.borrow().waiting(), 0, "it waited there as long as it could");
    world.pass(SECOND * 2);
    assert_eq!(world.became[&waits], Became::Refused("NOT_IN_TIME"));
    world.check();
}

/// Goal: the place that is told is the one at the member that is likely to be first.
#[test]
fn the_place_is_the_best_one() {
    let one_per = |span| vec![LimitSpec::rate("requests", 1, span)];
    let mut world = World::new(vec![
        (one_per(SECOND * 60), (1, 1)),
        (one_per(SECOND), (2, 1)),
        (one_per(SECOND * 9), (3, 1)),
    ]);
    world.ask_many(3);
    let waits = world.ask(None);
    let place = world.waiting[&waits].place().expect("it waits");
    assert!(place.estimated_wait.is_some_and(|wait| wait < SECOND * 2), "{place:?}");
}

/// Goal: a request is in the records of one member: of the one that granted it, or whose refusal was the answer.
#[test]
fn is_recorded_once() {
    let mut world = World::slots(&[(1, (1, 1)), (1, (2, 1))]);
    let recorded = |world: &World| -> Vec<usize> {
        world.hearts.iter().map(|heart| heart.recorded.borrow().len()).collect()
    };
    world.ask_many(2);
    assert_eq!(recorded(&world), [1, 1], "each granted one");
    world.ask(Some(Duration::ZERO));
    assert_eq!(recorded(&world).iter().sum::<usize>(), 3, "one refusal was the answer");
    let (asked, waits) = (world.now.get(), world.ask(None));
    world.pass(SECOND * 2);
    world.free(1);
    world.take_in();
    assert_eq!(world.member_of(waits), Some(1));
    let last = *world.hearts[1].recorded.borrow().last().expect("recorded");
    assert_eq!((last.0, last.1.is_some()), (asked, true));
    assert_eq!(recorded(&world).iter().sum::<usize>(), 4);
    world.ask(Some(SECOND));
    world.pass(SECOND * 2);
    assert_eq!(recorded(&world).iter().sum::<usize>(), 5, "it ran out of time at both");
}

/// Goal: a member that has room by the time that its answer counts grants, and has the request in its records once.
#[test]
fn the_answer_that_counts_may_be_a_permit() {
    let mut world = World::slots(&[(1, (1, 1))]);
    world.ask(None);
    let (id, mut entry) = world.entry(Some(Duration::ZERO));
    let (heart, (_, permit)) = (Rc::clone(&world.hearts[0]), world.live.remove(0));
    let looks = Cell::new(0);
    let answer = entry.enter(world.now.get(), &|_| {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            let done = Report::new(Outcome::Success);
            heart.with(|budget, now, events| drop(budget.report(now, permit, &done, events)));
        }
        Ok(Rc::clone(&heart))
    });
    if answer.expect("room").is_none() {
        world.waiting.insert(id, entry);
        world.take_in();
    }
    assert_eq!(heart.budget.borrow().in_flight(), 1, "granted");
    assert_eq!(heart.recorded.borrow().len(), 2, "this, and the one before");
}
