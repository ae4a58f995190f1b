//! Two long days of a busy budget, written down: whatever changes in them is a change that somebody has to have wanted.
//!
//! `PERMITD_BLESS=1` writes them down anew. Beside the comparison an independent checker adds up what was observed: no limit is
//! exceeded in any stretch of time, by grants as they settled.

use std::{env, fmt::Write as _, fs, path::PathBuf, time::Duration};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, Grant, LimitSpec, Outcome, Priority, Report, Request, TenantSpec,
    Ticket, Time, Usage, Window,
};

use crate::runner::Numbers;

const MINUTE: Duration = Duration::from_secs(60);
const START: Time = Time::from_nanos(1_700_000_040_000_000_000);

/// Who calls: tenant, class, model, and the most tokens of a request.
const CALLERS: [(&str, Priority, &str, u64); 5] = [
    ("chat", Priority::Interactive, "opus", 4_000),
    ("search", Priority::Standard, "haiku", 1_500),
    ("agents", Priority::Standard, "opus", 12_000),
    ("nightly", Priority::Batch, "haiku", 30_000),
    ("greedy", Priority::Standard, "haiku", 8_000),
];

/// One call as somebody outside sees it.
#[derive(Clone, Debug)]
struct Call {
    caller: usize,
    granted: Time,
    charged: u64,
    /// When a debit became known, and how much.
    debit: Option<(Time, u64)>,
    /// When a refund was made, and how much.
    refund: Option<(Time, u64)>,
}

struct Day {
    heart: Budget<usize>,
    now: Time,
    numbers: Numbers,
    /// Calls under way, by the time at which they will be reported.
    running: Vec<(Time, Grant, usize)>,
    tickets: Vec<Ticket>,
    calls: Vec<Call>,
    refused: usize,
    expired: usize,
    polls: usize,
    told: String,
}

impl Day {
    fn new(limits: Vec<LimitSpec>, seed: u64) -> Self {
        let tenants =
            [("chat".to_owned(), TenantSpec { weight: 3, max_waiting: 50, ..TenantSpec::default() })].into();
        let permit_ttl = Some(Duration::from_secs(45));
        let spec =
            BudgetSpec { limits, tenants, permit_ttl, ..BudgetSpec::default() }.check().expect("makes sense");
        Self {
            heart: Budget::new(&spec, START),
            now: START,
            numbers: Numbers::from_seed(seed),
            running: Vec::new(),
            tickets: Vec::new(),
            calls: Vec::new(),
            refused: 0,
            expired: 0,
            polls: 0,
            told: String::new(),
        }
    }

    fn run(mut self, steps: usize) -> Self {
        for step in 0..steps {
            match self.numbers.below(20) {
                0 => self.cancel(),
                _ => self.ask(),
            }
            let end = self.now + Duration::from_micros(self.numbers.below(900_000));
            self.pass(end);
            if step % 100 == 99 {
                self.tell(step + 1);
            }
        }
        self
    }

    fn ask(&mut self) {
        let caller = self.numbers.below(CALLERS.len() as u64) as usize;
        let (tenant, priority, model, most) = CALLERS[caller];
        let input = self.numbers.within(1, most);
        let estimate =
            Usage { input_tokens: Some(input), max_output_tokens: Some(1_000), ..Usage::default() };
        let count = if self.numbers.below(30) == 0 { 4 } else { 1 };
        let max_wait = match self.numbers.below(4) {
            0 => Some(Duration::from_millis(self.numbers.below(20_000))),
            _ => None,
        };
        let request =
            Request { tenant, model, priority, estimate, count, max_wait, gives_up: None, waiter: caller };
        let mut events = Vec::new();
        match self.heart.acquire(self.now, request, &mut events) {
            Ok(Acquired::Granted(grant)) => self.start(caller, grant),
            Ok(Acquired::Waiting(ticket)) => self.tickets.push(ticket),
            Err(_) => self.refused += 1,
        }
        self.take_in(events);
    }

    fn cancel(&mut self) {
        if !self.tickets.is_empty() {
            let which = self.numbers.below(self.tickets.len() as u64) as usize;
            let ticket = self.tickets.swap_remove(which);
            let mut events = Vec::new();
            let _ = self.heart.cancel(self.now, ticket, &mut events);
            self.take_in(events);
        }
    }

    /// Lets time pass: reports when calls are done, polls when the budget wants it.
    fn pass(&mut self, end: Time) {
        loop {
            let report = (0..self.running.len())
                .min_by_key(|at| self.running[*at].0)
                .map(|at| (self.running[at].0, at));
            let poll = self.heart.next_poll();
            let mut events = Vec::new();
            match (report, poll) {
                (Some((at, which)), _) if at <= end && poll.is_none_or(|poll| at <= poll) => {
                    self.now = at.max(self.now);
                    self.report(which, &mut events);
                }
                (_, Some(at)) if at <= end => {
                    self.now = at.max(self.now);
                    let _ = self.heart.poll(self.now, &mut events);
                    self.polls += 1;
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.take_in(events);
        }
    }

    fn report(&mut self, which: usize, events: &mut Vec<Event<usize>>) {
        let (_, grant, call) = self.running.swap_remove(which);
        let outcome = match self.numbers.below(12) {
            0 => Outcome::Cancelled,
            1 => Outcome::Failed { retryable: true },
            _ => Outcome::Success,
        };
        let output = self.numbers.below(1_400);
        let actual = Usage { output_tokens: Some(output), ..Usage::default() };
        let (reported, _) =
            self.heart.report(self.now, grant.permit, &Report { actual, ..Report::new(outcome) }, events);
        let used = if outcome == Outcome::Cancelled { 0 } else { grant.charged.input_tokens + output };
        if reported.settled && used < grant.charged.tokens {
            self.calls[call].refund = Some((self.now, grant.charged.tokens - used));
        } else if reported.settled {
            self.calls[call].debit = Some((self.now, used - grant.charged.tokens));
        }
    }

    fn take_in(&mut self, events: Vec<Event<usize>>) {
        for event in events {
            match event {
                Event::Granted { waiter, grant, .. } => self.start(waiter, grant),
                Event::Refused { .. } => self.refused += 1,
                Event::Expired { .. } => self.expired += 1,
            }
        }
    }

    fn start(&mut self, caller: usize, grant: Grant) {
        // One in 25 clients dies, and some calls take longer than their permits live.
        if self.numbers.below(25) > 0 {
            let done = self.now + Duration::from_millis(self.numbers.within(200, 50_000));
            self.running.push((done, grant.clone(), self.calls.len()));
        }
        self.calls.push(Call {
            caller,
            granted: self.now,
            charged: grant.charged.tokens,
            debit: None,
            refund: None,
        });
    }

    fn tell(&mut self, step: usize) {
        let snapshot = self.heart.snapshot(self.now);
        let levels: Vec<String> = snapshot.limits.iter().map(|limit| limit.level.to_string()).collect();
        let mut served = [0; CALLERS.len()];
        for call in &self.calls {
            served[call.caller] += 1;
        }
        let (seconds, waiting, in_flight) =
            (self.now.since(START).as_secs(), snapshot.waiting, snapshot.in_flight);
        let _ = writeln!(
            self.told,
            "step {step} at {seconds} s: {waiting} wait, {in_flight} in flight, levels {}, served {served:?}, {} refused, {} expired, {} polls",
            levels.join(" "),
            self.refused,
            self.expired,
            self.polls,
        );
    }

    fn compare(&self, name: &str) {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/naive/golden").join(name);
        if env::var_os("PERMITD_BLESS").is_some() {
            fs::create_dir_all(file.parent().expect("it is in a folder")).expect("writable");
            fs::write(&file, &self.told).expect("writable");
        }
        let written = fs::read_to_string(&file).expect("the run is written down; PERMITD_BLESS=1 does so");
        let changed = written.lines().zip(self.told.lines()).find(|(before, now)| before != now);
        assert!(
            written == self.told,
            "{name} went otherwise (PERMITD_BLESS=1 writes it down), first: {changed:#?}"
        );
    }
}

/// Adds up a bucket over every stretch from one grant to another: what was granted in it, as settled by its end, and the debits that
/// became known in it, are at most the burst and what flows in.
fn bucket_holds(calls: &[Call], of: impl Fn(&Call) -> bool, burst: u64, amount: u64) {
    let calls: Vec<&Call> = calls.iter().filter(|call| of(call)).collect();
    for (at, first) in calls.iter().enumerate() {
        // What is taken off or put on later than its grant, by time.
        let mut taken = 0;
        let mut later: Vec<(Time, i128)> = Vec::new();
        for call in &calls[..at] {
            later.extend(
                call.debit.filter(|(at, _)| *at > first.granted).map(|(at, more)| (at, i128::from(more))),
            );
        }
        for call in &calls[at..] {
            taken += i128::from(call.charged);
            later.extend(call.refund.map(|(at, back)| (at, -i128::from(back))));
            later.extend(call.debit.map(|(at, more)| (at, i128::from(more))));
            // Of one instant: refunds, then grants, then debits, which is how they can have happened.
            let due = |at: Time, amount: i128| at < call.granted || (at == call.granted && amount < 0);
            taken +=
                later.iter().filter(|(at, amount)| due(*at, *amount)).map(|(_, amount)| amount).sum::<i128>();
            later.retain(|(at, amount)| !due(*at, *amount));
            let passed = i128::try_from(call.granted.since(first.granted).as_nanos()).expect("a day");
            let most = i128::from(burst) * 60_000_000_000 + i128::from(amount) * passed;
            assert!(
                taken * 60_000_000_000 <= most,
                "over from {} to {}: {taken}",
                first.granted,
                call.granted
            );
        }
    }
}

/// Adds up a sliding window at every grant: what was granted in it, as settled by then, and the debits that became known in it.
fn sliding_holds(calls: &[Call], of: impl Fn(&Call) -> bool, amount: u64, per: Duration) {
    let calls: Vec<&Call> = calls.iter().filter(|call| of(call)).collect();
    for last in &calls {
        let now = last.granted;
        let inside = |at: Time| at <= now && now < at + per;
        let mut held = 0_i128;
        for call in &calls {
            if inside(call.granted) {
                held += i128::from(call.charged);
                held -= call.refund.filter(|(at, _)| *at <= now).map_or(0, |(_, back)| i128::from(back));
            }
            // A debit of this very instant may have become known after the grant.
            held +=
                call.debit.filter(|(at, _)| inside(*at) && *at < now).map_or(0, |(_, more)| i128::from(more));
        }
        assert!(held <= i128::from(amount), "{held} of {amount} at {now}");
    }
}

/// Goal: a day under token buckets goes as it went, and no stretch of it is over.
#[test]
fn a_day_of_buckets() {
    let limits = vec![
        LimitSpec::rate("requests", 90, MINUTE),
        LimitSpec { burst: 60_000, ..LimitSpec::rate("tokens", 400_000, MINUTE) },
        LimitSpec { models: "opus".to_owned(), burst: 40_000, ..LimitSpec::rate("tokens", 150_000, MINUTE) },
        LimitSpec { tenants: "each".to_owned(), ..LimitSpec::in_flight(30) },
    ];
    let day = Day::new(limits, 1).run(3_000);
    bucket_holds(&day.calls, |_| true, 60_000, 400_000);
    bucket_holds(&day.calls, |call| CALLERS[call.caller].2 == "opus", 40_000, 150_000);
    day.compare("buckets.txt");
}

/// Goal: a day under windows goes as it went, and no stretch of it is over.
#[test]
fn a_day_of_windows() {
    let limits = vec![
        LimitSpec { window: Window::Sliding, ..LimitSpec::rate("tokens", 400_000, MINUTE) },
        LimitSpec {
            window: Window::Quantised { quantum: Duration::from_secs(15) },
            models: "opus".to_owned(),
            ..LimitSpec::rate("tokens", 200_000, MINUTE)
        },
        LimitSpec {
            window: Window::Fixed { phase: Some(START) },
            ..LimitSpec::rate("requests", 100, MINUTE)
        },
        LimitSpec::in_flight(60),
    ];
    let day = Day::new(limits, 2).run(3_000);
    sliding_holds(&day.calls, |_| true, 400_000, MINUTE);
    sliding_holds(&day.calls, |call| CALLERS[call.caller].2 == "opus", 50_000, Duration::from_secs(15));
    let window = |call: &Call| call.granted.since(START).as_nanos() / MINUTE.as_nanos();
    for edge in day.calls.iter().map(window) {
        // Calls that were never sent give their request back, within the window.
        let cancelled = |call: &&Call| call.refund.is_some_and(|(_, back)| back == call.charged);
        let inside: Vec<&Call> = day.calls.iter().filter(|call| window(call) == edge).collect();
        let sent = inside.len() - inside.iter().filter(|call| cancelled(call)).count();
        assert!(sent <= 100, "{sent} requests in minute {edge}");
    }
    day.compare("windows.txt");
}
