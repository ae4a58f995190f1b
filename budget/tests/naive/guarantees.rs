//! Guarantees: whoever has one and work waiting gets at least that part of the limit in every stretch of time, whatever the classes,
//! weights and sizes of the others; what is left is lent, and nobody starves by it. The referee adds up what was granted and knows no
//! queue.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, Grant, LimitSpec, Outcome, Priority, Report, Request, TenantSpec,
    Time, Usage,
};

use crate::runner::Numbers;

const SECOND: Duration = Duration::from_secs(1);
/// Units a second of the limit.
const RATE: u64 = 1_000;
const LARGEST: u64 = 200;
/// Requests of a tenant that always wait.
const BACKLOG: usize = 4;

/// A tenant that asks again as soon as it is granted something.
#[derive(Clone, Debug)]
struct Asker {
    name: String,
    priority: Priority,
    tenant: TenantSpec,
    /// Asks in these seconds only.
    busy: std::ops::Range<u64>,
}

struct Crowd {
    numbers: Numbers,
    heart: Budget<usize>,
    askers: Vec<Asker>,
    now: Time,
    waiting: Vec<usize>,
    /// When what was granted to whom.
    log: Vec<(Time, usize, u64)>,
}

impl Crowd {
    fn new(seed: u64, askers: Vec<Asker>, limits: Vec<LimitSpec>) -> Self {
        let tenants: BTreeMap<_, _> = askers.iter().map(|asker| (asker.name.clone(), asker.tenant)).collect();
        let spec = BudgetSpec { limits, tenants, ..BudgetSpec::default() }.check().expect("sound");
        let (numbers, now) = (Numbers::from_seed(seed), Time::from_nanos(1_700_000_000_000_000_000));
        let (heart, waiting) = (Budget::new(&spec, now), vec![0; askers.len()]);
        Self { numbers, heart, askers, now, waiting, log: Vec::new() }
    }

    fn run(&mut self, seconds: u64) {
        let start = self.now;
        let end = start + SECOND * u32::try_from(seconds).expect("few");
        let mut events = Vec::new();
        while self.now < end {
            let second = self.now.since(start).as_secs();
            for who in 0..self.askers.len() {
                while self.askers[who].busy.contains(&second) && self.waiting[who] < BACKLOG {
                    self.ask(who, &mut events);
                }
            }
            self.follow(&mut events);
            let whole_second = start + SECOND * u32::try_from(second + 1).expect("few");
            let next = self.heart.next_poll().map_or(whole_second, |next| next.min(whole_second));
            self.now = self.now.max(next);
            let _ = self.heart.poll(self.now, &mut events);
            self.follow(&mut events);
        }
    }

    fn ask(&mut self, who: usize, events: &mut Vec<Event<usize>>) {
        let asker = self.askers[who].clone();
        let request = Request {
            tenant: &asker.name,
            model: "",
            priority: asker.priority,
            estimate: Usage { output_tokens: Some(0), ..Usage::of_tokens(self.numbers.within(1, LARGEST)) },
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: who,
        };
        self.waiting[who] += 1;
        if let Ok(Acquired::Granted(grant)) = self.heart.acquire(self.now, request, events) {
            self.granted(who, &grant, events);
        }
    }

    fn follow(&mut self, events: &mut Vec<Event<usize>>) {
        while let Some(event) = events.pop() {
            if let Event::Granted { waiter, grant, .. } = event {
                self.granted(waiter, &grant, events);
            }
        }
    }

    /// The call is over at once; half of them used half of what they had asked for.
    fn granted(&mut self, who: usize, grant: &Grant, events: &mut Vec<Event<usize>>) {
        self.waiting[who] -= 1;
        let used = grant.charged.tokens / self.numbers.within(1, 2);
        self.log.push((self.now, who, used));
        let actual = Usage { output_tokens: Some(0), ..Usage::of_tokens(used) };
        self.heart.report(
            self.now,
            grant.permit,
            &Report { actual, ..Report::new(Outcome::Success) },
            events,
        );
    }

    /// What `who` was granted in these seconds.
    fn units(&self, who: impl Fn(usize) -> bool, from: Time, to: Time) -> u64 {
        let within = self.log.iter().filter(|(at, by, _)| *at >= from && *at < to && who(*by));
        within.map(|(_, _, units)| units).sum()
    }
}

fn asker(name: &str, priority: Priority, weight: u32, min_percent: u32) -> Asker {
    let tenant = TenantSpec { weight, min_percent, ..TenantSpec::default() };
    Asker { name: name.to_owned(), priority, tenant, busy: 0..u64::MAX }
}

fn rate() -> Vec<LimitSpec> {
    vec![LimitSpec { burst: 2 * LARGEST, ..LimitSpec::rate("tokens", RATE, SECOND) }]
}

/// Goal: in every stretch, whoever is guaranteed a part and has work waiting gets it, but for what a few of the largest requests come
/// to; all of the limit is granted, and those without a guarantee get the rest.
#[test]
fn guarantees_hold_in_every_stretch() {
    for seed in 0..60 {
        let mut numbers = Numbers::from_seed(seed);
        let mut left = 90;
        let askers: Vec<Asker> = (0..numbers.within(2, 6))
            .map(|number| {
                let percent = if number < 3 { numbers.below(left.min(50) + 1) } else { 0 };
                left -= percent;
                let class = Priority::ALL[usize::try_from(numbers.below(3)).expect("small")];
                let weight = u32::try_from(numbers.within(1, 20)).expect("small");
                asker(&format!("t{number}"), class, weight, u32::try_from(percent).expect("small"))
            })
            .collect();
        let mut crowd = Crowd::new(seed, askers.clone(), rate());
        let start = crowd.now;
        crowd.run(120);
        for (from, to) in (0..11).map(|part| (part * 10, part * 10 + 20)).chain([(0, 120), (60, 61)]) {
            let at = |second: u32| start + SECOND * second;
            let whole = u64::from(to - from) * RATE;
            let granted = crowd.units(|_| true, at(from), at(to));
            assert!(granted + 2 * LARGEST >= whole, "seed {seed}: {granted} of {whole} granted");
            for (who, asker) in askers.iter().enumerate() {
                let part = whole * u64::from(asker.tenant.min_percent) / 100;
                let got = crowd.units(|by| by == who, at(from), at(to));
                assert!(
                    got + 4 * LARGEST >= part,
                    "seed {seed}: {asker:?} got {got} of {part} in {from}..{to} s of {askers:#?}"
                );
            }
        }
        let rest = crowd.units(|by| askers[by].tenant.min_percent == 0, start, start + SECOND * 120);
        let has_rest = askers.iter().any(|asker| asker.tenant.min_percent == 0);
        assert!(!has_rest || rest > 0, "seed {seed}: somebody starves: {askers:#?}");
    }
}

/// Goal: what is not used is lent, and not owed: whoever comes back gets its part from then on, and no more than its turn beside it.
#[test]
fn what_is_lent_is_not_owed() {
    let mut reserved = asker("reserved", Priority::Batch, 1, 40);
    reserved.busy = 60..120;
    let mut crowd = Crowd::new(7, vec![reserved, asker("web", Priority::Interactive, 1, 0)], rate());
    let start = crowd.now;
    crowd.run(120);
    let got = |who: usize, from: u32, to: u32| {
        crowd.units(|by| by == who, start + SECOND * from, start + SECOND * to)
    };
    assert!(got(1, 0, 60) + 2 * LARGEST >= 60 * RATE, "all of it is lent");
    for from in (60..110).step_by(10) {
        let part = got(0, from, from + 10);
        assert!(part + 2 * LARGEST >= 4 * RATE, "{part} in {from} s");
        // A class of 1 beside one of 16 adds a seventeenth of the rest at most.
        assert!(part <= 5 * RATE + 2 * LARGEST, "{part} in {from} s");
    }
}

/// Goal: of slots, too, a tenant gets its part before heavier ones get more, and no more than that.
#[test]
fn slots_are_guaranteed() {
    let tenants = [("reserved", 30), ("web", 0)].map(|(name, min_percent)| {
        (
            name.to_owned(),
            TenantSpec {
                min_percent,
                weight: if min_percent == 0 { 100 } else { 1 },
                ..TenantSpec::default()
            },
        )
    });
    let limits = vec![LimitSpec::in_flight(10)];
    let spec =
        BudgetSpec { limits, tenants: tenants.into(), ..BudgetSpec::default() }.check().expect("sound");
    let (now, mut events) = (Time::ZERO, Vec::new());
    let mut heart = Budget::new(&spec, now);
    let mut ask = |heart: &mut Budget<&'static str>, tenant: &'static str, priority| {
        let estimate = Usage::default();
        let (max_wait, gives_up) = (None, None);
        let request =
            Request { tenant, model: "", priority, estimate, count: 1, max_wait, gives_up, waiter: tenant };
        match heart.acquire(now, request, &mut events) {
            Ok(Acquired::Granted(grant)) => Some(grant.permit),
            _ => None,
        }
    };
    let held: Vec<_> = (0..10).filter_map(|_| ask(&mut heart, "web", Priority::Interactive)).collect();
    (0..10).for_each(|_| assert!(ask(&mut heart, "web", Priority::Interactive).is_none()));
    (0..10).for_each(|_| assert!(ask(&mut heart, "reserved", Priority::Batch).is_none()));
    let mut went = Vec::new();
    for permit in held.iter().take(5) {
        let mut events = Vec::new();
        heart.report(now, *permit, &Report::new(Outcome::Success), &mut events);
        went.extend(events.into_iter().filter_map(|event| match event {
            Event::Granted { waiter, .. } => Some(waiter),
            _ => None,
        }));
    }
    assert_eq!(went[..3], ["reserved"; 3], "three of ten slots are its part");
    assert_eq!(went.len(), 5);
    assert!(went[3..].contains(&"web"), "and no more than its turn beside it: {went:?}");
}
