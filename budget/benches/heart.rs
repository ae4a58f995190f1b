//! What one budget costs: an uncontended acquire and report, a grant out of a long queue, and memory per waiting request.
//! `cargo bench -p permitd-budget`. Goals: 300 ns, 2 us, 200 bytes.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock; the heart does not")]

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, LimitSpec, Outcome, Priority, QueueSpec, Report,
    Request, Time, Usage, bounds,
};

const TENANTS: u32 = 10_000;
const WAITING: u32 = 1_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const START: Time = Time::from_nanos(1_700_000_000_000_000_000);

/// What a server's handle of a waiting request takes: a pointer and a number.
type Waiter = (u64, u64);

fn spec(limits: Vec<LimitSpec>) -> CheckedSpec {
    let queue = QueueSpec { max_waiting: bounds::WAITING, ..QueueSpec::default() };
    BudgetSpec { limits, queue, ..BudgetSpec::default() }.check().expect("a sound declaration")
}

fn request(tenant: &str, tokens: u64) -> Request<'_, Waiter> {
    Request {
        tenant,
        model: "claude-opus-4",
        priority: Priority::Standard,
        estimate: Usage::of_tokens(tokens),
        count: 1,
        max_wait: Some(Duration::from_secs(3600)),
        gives_up: None,
        waiter: (0, 0),
    }
}

fn uncontended(c: &mut Criterion) {
    let limits = vec![
        LimitSpec::rate("requests", u64::from(u32::MAX), MINUTE),
        LimitSpec::rate("tokens", u64::MAX / 2, MINUTE),
        LimitSpec::in_flight(1_000),
    ];
    for (name, limits) in [("one limit", limits[..1].to_vec()), ("requests, tokens, in_flight", limits)] {
        let mut budget = Budget::new(&spec(limits), START);
        let (mut now, mut events) = (START, Vec::new());
        let report = Report { actual: Usage::of_tokens(900), ..Report::new(Outcome::Success) };
        c.bench_function(&format!("uncontended acquire + report, {name}"), |b| {
            b.iter(|| {
                now += Duration::from_nanos(1_000);
                let Ok(Acquired::Granted(grant)) =
                    budget.acquire(now, black_box(request("web", 1_000)), &mut events)
                else {
                    panic!("nothing is in the way");
                };
                black_box(budget.report(now, grant.permit, &report, &mut events));
            });
        });
    }
}

fn long_queue(c: &mut Criterion) {
    let names: Vec<String> = (0..TENANTS).map(|n| format!("tenant-{n}")).collect();
    let mut made = None;
    c.bench_function("one grant of 1,000,000 waiting, 10,000 tenants", |b| {
        let Queue { budget, now, asked } = made.get_or_insert_with(|| Queue::new(&names));
        let mut events = Vec::new();
        b.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                events.clear();
                *now += STEP;
                let start = Instant::now();
                black_box(budget.poll(*now, &mut events));
                taken += start.elapsed();
                let [Event::Granted { grant, .. }] = &events[..] else {
                    panic!("one grant a step, not {events:?}")
                };
                let permit = grant.permit;
                budget.report(*now, permit, &Report::new(Outcome::Success), &mut events);
                Queue::ask(budget, *now, &names, asked);
            }
            taken
        });
    });
}

/// One request becomes possible every step.
const STEP: Duration = Duration::from_micros(10);
/// A full bucket begins to refill so long after the first call.
const START_DELAY: Duration = Duration::from_millis(25);

struct Queue {
    budget: Budget<Waiter>,
    now: Time,
    asked: usize,
}

impl Queue {
    fn new(names: &[String]) -> Self {
        let before = resident_bytes();
        let one_by_one = LimitSpec { burst: 1, ..LimitSpec::rate("requests", 6_000_000, MINUTE) };
        let mut queue = Self { budget: Budget::new(&spec(vec![one_by_one]), START), now: START, asked: 0 };
        while queue.budget.waiting() < WAITING {
            Self::ask(&mut queue.budget, queue.now, names, &mut queue.asked);
        }
        let bytes = (resident_bytes() - before) / u64::from(WAITING);
        println!("memory per waiting request, {WAITING} of {TENANTS} tenants: {bytes} bytes");
        queue.now += START_DELAY;
        queue
    }

    fn ask(budget: &mut Budget<Waiter>, now: Time, names: &[String], asked: &mut usize) {
        *asked += 1;
        let tenant = &names[*asked * 7_919 % names.len()];
        budget.acquire(now, request(tenant, 1_000), &mut Vec::new()).expect("there is room");
    }
}

/// Resident memory of this process (proc(5), VmRSS).
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this benchmark runs on Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
    let mut digits = String::new();
    for c in line.chars().filter(char::is_ascii_digit) {
        write!(digits, "{c}").expect("strings take everything");
    }
    digits.parse::<u64>().expect("a number of KiB") * 1024
}

criterion_group!(benches, uncontended, long_queue);
criterion_main!(benches);
