//! Shadow mode against the real thing: the same requests once with the limits in force and once in shadow mode, where everything is
//! granted at once. What the second says would have happened has to be what happened in the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, Grant, PermitKey, Report, Request, ShadowSnapshot,
    Snapshot, Time,
};
use proptest::strategy::Strategy;

use crate::{
    harness::report,
    plan::{MODELS, Plan, Step, TENANTS, Used, plain_outcome, plan},
    runner::try_all,
};

/// After the last step, so that most of those who wait come to their end.
const AFTERWARDS: Duration = Duration::from_secs(300);

/// A heart and the calls that its permits are for.
struct World {
    heart: Budget<u64>,
    now: Time,
    /// How a request's calls go, and how long they take.
    calls: BTreeMap<u64, (Step, Duration)>,
    ends: BTreeMap<(Time, PermitKey), Report>,
    /// Requests that had to wait, or were refused.
    held_up: BTreeSet<u64>,
}

impl World {
    fn new(spec: &CheckedSpec, now: Time) -> Self {
        let (calls, ends, held_up) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { heart: Budget::new(spec, now), now, calls, ends, held_up }
    }

    fn run_until(&mut self, then: Time) {
        loop {
            let mut events = Vec::new();
            let end = self.ends.first_key_value().map(|((at, _), _)| *at);
            let poll = self.heart.next_poll();
            let Some(due) = [end, poll].into_iter().flatten().min().filter(|due| *due <= then) else { break };
            self.now = self.now.max(due);
            if end.is_some_and(|at| at <= due) {
                let ((_, permit), report) = self.ends.pop_first().expect("just seen");
                self.heart.report(self.now, permit, &report, &mut events);
            } else {
                let _ = self.heart.poll(due, &mut events);
            }
            self.follow(&events);
        }
        self.now = then;
    }

    fn ask(&mut self, id: u64, step: &Step, used: &Step, took: Duration) {
        let Step::Acquire(ask) = step else { return };
        self.calls.insert(id, (used.clone(), took));
        let request = Request {
            tenant: TENANTS[ask.tenant],
            model: MODELS[ask.model],
            priority: ask.priority,
            estimate: ask.usage(),
            count: ask.count,
            max_wait: ask.max_wait,
            gives_up: ask.gives_up.map(|after| self.now + after),
            waiter: id,
        };
        let mut events = Vec::new();
        match self.heart.acquire(self.now, request, &mut events) {
            Ok(Acquired::Granted(grant)) => self.granted(id, &grant),
            Ok(Acquired::Waiting(_)) => {}
            Err(_) => drop(self.held_up.insert(id)),
        }
        self.follow(&events);
    }

    fn follow(&mut self, events: &[Event<u64>]) {
        for event in events {
            match event {
                Event::Granted { waiter, grant, .. } => self.granted(*waiter, grant),
                Event::Refused { waiter, .. } => drop(self.held_up.insert(*waiter)),
                Event::Expired { .. } => {}
            }
        }
    }

    fn granted(&mut self, id: u64, grant: &Grant) {
        if !grant.waited.is_zero() {
            self.held_up.insert(id);
        }
        let (step, took) = &self.calls[&id];
        let report = match step {
            Step::Report { outcome, used, .. } => report(*outcome, *used, &grant.charged),
            _ => report(permitd_budget::Outcome::Success, Used::AS_CHARGED, &grant.charged),
        };
        self.ends.insert((self.now + *took, grant.permit), report);
    }
}

fn in_shadow(spec: &BudgetSpec) -> CheckedSpec {
    BudgetSpec { shadow: true, ..spec.clone() }.check().expect("it was sound before")
}

/// Plays a plan's requests and changes in both worlds.
fn play(plan: &Plan) -> (World, World) {
    let mut spec = plan.spec.clone();
    let mut worlds = [World::new(&spec, plan.start), World::new(&in_shadow(&spec), plan.start)];
    let mut used = &Step::Poll;
    let mut now = plan.start;
    for (id, step) in plan.steps.iter().enumerate() {
        // No two things happen at the same moment, so that their order is not open.
        now += Duration::from_nanos(7_919 + id as u64);
        match step {
            Step::Jump(span) | Step::Run(span) => now += *span,
            Step::Report { .. } => used = step,
            _ => {}
        }
        for (world, is_shadow) in worlds.iter_mut().zip([false, true]) {
            world.run_until(now);
            match step {
                Step::Acquire(_) => {
                    let took = Duration::from_nanos((id as u64 * 97_003_117) % 5_000_000_011);
                    world.ask(id as u64, step, used, took);
                }
                Step::Configure(change) => {
                    if let Some(changed) = change.apply(&spec) {
                        let mut events = Vec::new();
                        let changed = if is_shadow { in_shadow(&changed) } else { changed };
                        world.heart.configure(now, &changed, &mut events);
                        world.follow(&events);
                    }
                }
                _ => {}
            }
        }
        if let Step::Configure(change) = step {
            spec = change.apply(&spec).unwrap_or(spec);
        }
    }
    worlds.iter_mut().for_each(|world| world.run_until(now + AFTERWARDS));
    worlds.into()
}

/// What of both has to agree.
fn story(earnest: &Snapshot) -> ShadowSnapshot {
    let waited = |waits: &permitd_budget::Waits| waits.sum_nanos;
    assert!(earnest.waits.iter().map(waited).all(|nanos| nanos < u64::MAX), "nobody waits for ever");
    ShadowSnapshot {
        since: Time::ZERO,
        waiting: earnest.waiting,
        in_flight: earnest.in_flight,
        granted_total: earnest.granted_total,
        waited_total: 0,
        longest_wait: Duration::ZERO,
        refused_total: earnest.refused_total,
        refused: earnest.refused.clone(),
        waits: earnest.waits.clone(),
    }
}

/// Goal: nobody waits and nobody is refused in shadow mode, and what it says would have happened is what happens with
/// the limits in force: who is granted and refused, after how long, and how many wait and are under way in the end.
#[test]
fn says_what_would_have_happened() {
    let plans = plan(60, plain_outcome().boxed());
    try_all("proptest-regressions/shadow.txt", 600, &plans, |plan| {
        let (mut earnest, mut shadow) = play(plan);
        let now = earnest.now;
        if !shadow.held_up.is_empty() {
            return Err(format!("{:?} were held up in shadow mode", shadow.held_up));
        }
        let seen = shadow.heart.snapshot(now).shadow.expect("it is in shadow mode");
        if (seen.waited_total == 0) != (seen.longest_wait == Duration::ZERO) {
            return Err(format!("{seen:?}"));
        }
        let seen =
            ShadowSnapshot { since: Time::ZERO, waited_total: 0, longest_wait: Duration::ZERO, ..seen };
        let real = story(&earnest.heart.snapshot(now));
        if seen == real { Ok(()) } else { Err(format!("would be {seen:?}\nand is   {real:?}")) }
    });
}

/// Goal: a pause is an order and no limit: it holds in shadow mode too, and whoever waits for its end would have waited as well.
#[test]
fn a_pause_is_a_pause() {
    let mut world = World::new(&in_shadow(&one_limit()), Time::ZERO);
    world.heart.pause();
    world.ask(0, &Step::Acquire(ask(0)), &Step::Poll, Duration::from_secs(1));
    assert_eq!(world.heart.snapshot(world.now).waiting, 1);
    world.run_until(Time::ZERO + Duration::from_secs(5));
    let mut events = Vec::new();
    world.heart.resume(world.now, &mut events);
    world.follow(&events);
    world.run_until(world.now + Duration::from_secs(2));
    let snapshot = world.heart.snapshot(world.now);
    let would = snapshot.shadow.expect("in shadow mode");
    assert_eq!((snapshot.granted_total, snapshot.waiting, snapshot.in_flight), (1, 0, 0));
    assert_eq!((would.granted_total, would.waited_total, would.in_flight), (1, 1, 0));
    assert_eq!(would.longest_wait, Duration::from_secs(5));
}

fn one_limit() -> BudgetSpec {
    let limits = vec![permitd_budget::LimitSpec::rate("requests", 60, Duration::from_secs(60))];
    BudgetSpec { limits, ..BudgetSpec::default() }
}

fn ask(tenant: usize) -> crate::plan::Ask {
    crate::plan::Ask {
        tenant,
        model: 3,
        priority: permitd_budget::Priority::Standard,
        requests: None,
        input: 0,
        output: 0,
        points: None,
        count: 1,
        max_wait: None,
        gives_up: None,
    }
}

/// Goal: the mode is turned on and off live. What was used meanwhile counts: the limits are in force at once, with what is left of them.
#[test]
fn what_was_used_in_shadow_mode_counts_afterwards() {
    let spec = one_limit();
    let (checked, shadow) = (spec.clone().check().expect("sound"), in_shadow(&spec));
    let mut world = World::new(&shadow, Time::ZERO);
    for id in 0..100 {
        world.ask(id, &Step::Acquire(ask(id as usize % 2)), &Step::Poll, Duration::from_secs(1));
    }
    let snapshot = world.heart.snapshot(world.now);
    let would = snapshot.shadow.clone().expect("in shadow mode");
    assert_eq!((snapshot.granted_total, snapshot.waiting, snapshot.limits[0].level), (100, 0, -40));
    assert_eq!((would.granted_total, would.waiting, would.waited_total), (60, 40, 0));
    world.heart.configure(world.now, &checked, &mut Vec::new());
    world.ask(100, &Step::Acquire(ask(0)), &Step::Poll, Duration::from_secs(1));
    let snapshot = world.heart.snapshot(world.now);
    assert_eq!((snapshot.shadow.clone(), snapshot.waiting, snapshot.limits[0].level), (None, 1, -40));
    world.run_until(world.now + Duration::from_secs(42));
    assert_eq!(world.heart.snapshot(world.now).granted_total, 101, "40 are repaid, and one more");
}
