//! Limits in flight that follow how long calls take, against a provider in virtual time that lets calls queue inside.

use std::{
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use permitd_budget::{
    Acquired, Adapt, Budget, BudgetSpec, CheckedSpec, Event, LimitSnapshot, LimitSpec, Outcome, PermitKey,
    Priority, Report, Request, Teacher, Time, Usage,
};

const SECOND: Duration = Duration::from_secs(1);
const BEGIN: Time = Time::from_nanos(1_700_000_000_000_000_000);

fn adapting(amount: u64) -> LimitSpec {
    LimitSpec { adapt: Adapt::Latency, ..LimitSpec::in_flight(amount) }
}

fn checked(limit: LimitSpec) -> CheckedSpec {
    BudgetSpec { limits: vec![limit], ..BudgetSpec::default() }.check().expect("makes sense")
}

/// Workers who make one call after the other, and a provider that works on so many at once.
struct Fleet {
    now: Time,
    budget: Budget<u32>,
    events: Vec<Event<u32>>,
    /// When each of those at the provider who work is free, the earliest first.
    crew: BinaryHeap<std::cmp::Reverse<Time>>,
    /// What the work on the n-th call takes.
    work: fn(u64) -> Duration,
    calls: u64,
    /// Calls by when they end.
    under_way: BTreeMap<(Time, u64), PermitKey>,
    /// What is reported of them.
    report: Report,
}

impl Fleet {
    fn new(limit: LimitSpec, capacity: usize, work: fn(u64) -> Duration) -> Self {
        Self {
            now: BEGIN,
            budget: Budget::new(&checked(limit), BEGIN),
            events: Vec::new(),
            crew: vec![std::cmp::Reverse(BEGIN); capacity].into(),
            work,
            calls: 0,
            under_way: BTreeMap::new(),
            report: Report::new(Outcome::Success),
        }
    }

    fn workers(mut self, count: u32) -> Self {
        (0..count).for_each(|worker| self.ask(worker));
        self
    }

    fn ask(&mut self, worker: u32) {
        let request = Request {
            tenant: "jobs",
            model: "",
            priority: Priority::Standard,
            estimate: Usage::default(),
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: worker,
        };
        match self.budget.acquire(self.now, request, &mut self.events) {
            Ok(Acquired::Granted(grant)) => self.send(grant.permit),
            Ok(Acquired::Waiting(_)) => {}
            Err(refusal) => panic!("{refusal}"),
        }
        self.send_granted();
    }

    fn send(&mut self, permit: PermitKey) {
        let std::cmp::Reverse(free) = self.crew.pop().expect("somebody works");
        self.calls += 1;
        let ends = free.max(self.now) + (self.work)(self.calls);
        self.crew.push(std::cmp::Reverse(ends));
        self.under_way.insert((ends, self.calls), permit);
    }

    fn send_granted(&mut self) {
        for event in std::mem::take(&mut self.events) {
            if let Event::Granted { grant, .. } = event {
                self.send(grant.permit);
            }
        }
    }

    fn answered(&mut self, report: &Report) {
        let Some(((at, _), permit)) = self.under_way.pop_first() else { return };
        self.now = self.now.max(at);
        let (_, worker) = self.budget.report(self.now, permit, report, &mut self.events);
        self.send_granted();
        self.ask(worker.expect("its first report"));
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.under_way.first_key_value().is_some_and(|((at, _), _)| *at < until) {
            let report = self.report.clone();
            self.answered(&report);
        }
        self.now = until;
    }

    fn limit(&mut self) -> LimitSnapshot {
        self.budget.snapshot(self.now).limits.remove(0)
    }

    /// What is granted, and what taught it.
    fn effective(&mut self) -> (u64, Option<Teacher>) {
        let limit = self.limit();
        (limit.effective_amount, limit.lesson.map(|lesson| lesson.from))
    }

    /// The lowest and the highest that is granted in that time.
    fn range(&mut self, span: Duration) -> (u64, u64) {
        let seen = (0..span.as_secs()).map(|_| {
            self.run(SECOND);
            self.limit().effective_amount
        });
        seen.fold((u64::MAX, 0), |(least, most), amount| (least.min(amount), most.max(amount)))
    }
}

/// About two seconds, a different part of one for each call.
fn alike(call: u64) -> Duration {
    Duration::from_millis(1_500 + call * 7_919 % 1_000)
}

/// Mostly a second, now and then ten.
fn of_two_kinds(call: u64) -> Duration {
    Duration::from_millis(if call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61 == 0 { 10_000 } else { 1_000 })
}

/// Goal: it is off where nobody asks for it.
#[test]
fn nothing_follows_latency_by_default() {
    let mut fleet = Fleet::new(LimitSpec::in_flight(100), 20, alike).workers(150);
    fleet.run(300 * SECOND);
    assert_eq!(fleet.effective(), (100, None));
}

/// Goal: the limit settles where the provider works on all that it is sent, whether that is more or less than it starts with.
#[test]
fn a_hidden_capacity_is_found() {
    for (capacity, least, most) in [(1, 1, 3), (3, 2, 6), (20, 17, 32), (60, 50, 96)] {
        let mut fleet = Fleet::new(adapting(100), capacity, alike).workers(150);
        fleet.run(500 * SECOND);
        let range = fleet.range(200 * SECOND);
        assert!(range.0 >= least && range.1 <= most, "{capacity}: {range:?}");
        assert_eq!(fleet.effective().1, Some(Teacher::Latency));
        let usual = fleet.limit().usual_latency.expect("known by now");
        assert!(usual > SECOND && usual < 3 * SECOND, "{capacity}: {usual:?}");
    }
}

/// Goal: where there is room for all that is declared, all of it is granted, and nothing says that anything was learned.
#[test]
fn it_is_never_above_what_is_declared() {
    for work in [alike, of_two_kinds] {
        let mut fleet = Fleet::new(adapting(40), 1_000, work).workers(150);
        assert_eq!(fleet.effective(), (10, Some(Teacher::Latency)), "it begins low");
        fleet.run(800 * SECOND);
        assert_eq!(fleet.range(300 * SECOND), (40, 40));
        assert_eq!(fleet.effective(), (40, None));
    }
}

/// Goal: a limit that is not used says nothing, so it does not grow.
#[test]
fn what_is_not_used_does_not_grow() {
    let mut fleet = Fleet::new(adapting(100), 1_000, alike).workers(7);
    fleet.run(300 * SECOND);
    assert_eq!(fleet.effective().0, 10);
    (0..60).for_each(|worker| fleet.ask(worker));
    fleet.run(300 * SECOND);
    assert!(fleet.effective().0 > 60, "{:?}", fleet.effective());
}

/// Goal: calls that get longer by themselves lower the limit for a while and not for good.
#[test]
fn longer_calls_are_no_queue() {
    fn longer(call: u64) -> Duration {
        alike(call) * if call < 3_000 { 1 } else { 4 }
    }
    let mut fleet = Fleet::new(adapting(30), 30, longer).workers(60);
    fleet.run(195 * SECOND);
    assert_eq!(fleet.effective().0, 30);
    let range = fleet.range(120 * SECOND);
    assert!(range.0 < 20, "it is put to the test: {range:?}");
    fleet.run(400 * SECOND);
    assert_eq!(fleet.range(60 * SECOND), (30, 30));
}

/// Goal: how long a call took is what the report says, and only else the time since the grant; calls that failed say nothing.
#[test]
fn the_report_knows_best() {
    let mut fleet = Fleet::new(adapting(100), 20, alike).workers(150);
    fleet.report.latency = Some(2 * SECOND);
    fleet.run(300 * SECOND);
    assert_eq!(fleet.effective(), (100, None), "callers say that nothing queues");
    let mut fleet = Fleet::new(adapting(100), 20, alike).workers(150);
    fleet.report.outcome = Outcome::Failed { retryable: true };
    fleet.run(300 * SECOND);
    assert_eq!(fleet.effective().0, 10);
}

/// Goal: the lower of what latency and what refusals teach is granted, and what latency keeps unused, refusals do not raise.
#[test]
fn refusals_and_latency_both_count() {
    let mut fleet = Fleet::new(adapting(100), 20, alike).workers(150);
    fleet.run(500 * SECOND);
    let by_latency = fleet.effective().0;
    for _ in 0..3 {
        let running = fleet.budget.in_flight();
        fleet.answered(&Report::new(Outcome::ConcurrencyLimited));
        assert!(fleet.effective().0 < u64::from(running));
        // Those that were under way are not news.
        fleet.run(8 * SECOND);
    }
    let (refused, from) = fleet.effective();
    assert!(refused < by_latency && from == Some(Teacher::Refusals), "{refused} of {by_latency}, {from:?}");
    fleet.run(1_500 * SECOND);
    let range = fleet.range(200 * SECOND);
    assert!(range.0 >= 15 && range.1 <= 32, "no refusals any more, and still a queue: {range:?}");
}

/// Goal: another declaration keeps what was learned within it; without the flag nothing is held back for latency.
#[test]
fn declarations_change_live() {
    let mut fleet = Fleet::new(adapting(100), 20, alike).workers(150);
    fleet.run(500 * SECOND);
    let learned = fleet.effective().0;
    for (limit, expected) in [
        (adapting(200), learned),
        (adapting(15), 15),
        (adapting(200), 15),
        (LimitSpec::in_flight(200), 200),
        (adapting(200), 10),
    ] {
        fleet.budget.configure(fleet.now, &checked(limit), &mut fleet.events);
        fleet.send_granted();
        assert_eq!(fleet.effective().0, expected);
    }
}

/// Goal: a freeze and the idle time after it change nothing.
#[test]
fn a_freeze_teaches_nothing() {
    let mut fleet = Fleet::new(adapting(100), 20, alike).workers(150);
    fleet.run(500 * SECOND);
    let before = fleet.effective().0;
    let overloaded = Report { retry_after: Some(100 * SECOND), ..Report::new(Outcome::Overloaded) };
    fleet.answered(&overloaded);
    fleet.run(100 * SECOND);
    assert!(fleet.effective().0.abs_diff(before) <= before / 3, "{:?} of {before}", fleet.effective());
    let _ = fleet.budget.poll(fleet.now, &mut fleet.events);
    fleet.send_granted();
    let range = fleet.range(300 * SECOND);
    assert!(range.0 >= 15 && range.1 <= 32, "{range:?}");
}

/// Goal: where it makes no sense it is refused, with the field named.
#[test]
fn it_is_for_calls_in_flight() {
    let refused = |limit: LimitSpec| {
        let spec = BudgetSpec { limits: vec![LimitSpec::in_flight(9), limit], ..BudgetSpec::default() };
        spec.check().expect_err("makes no sense")
    };
    let rate = LimitSpec { adapt: Adapt::Latency, ..LimitSpec::rate("requests", 60, 60 * SECOND) };
    let error = refused(rate);
    assert_eq!(error.field, "limits[1].adapt");
    assert!(error.problem.contains("in_flight"), "{error}");
    for tenants in ["web", "each", "x*"] {
        let error = refused(LimitSpec { tenants: tenants.to_owned(), ..adapting(5) });
        assert_eq!(error.field, "limits[1].adapt", "{error}");
    }
}
