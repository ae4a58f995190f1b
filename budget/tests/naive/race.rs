//! Rivals for one budget, each with work waiting all the time, and the order in which they are served.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, LimitSpec, Outcome, PermitKey, Priority, Report, Request,
    TenantSpec, Time, Usage,
};

use crate::runner::Numbers;

/// Requests that each rival keeps waiting.
const BACKLOG: usize = 40;

/// One who competes.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    pub(crate) tenant: String,
    pub(crate) weight: u32,
    pub(crate) priority: Priority,
    /// Tokens of one request, from and to.
    pub(crate) tokens: (u64, u64),
    /// Requests that one request counts for, from and to.
    pub(crate) requests: (u64, u64),
    /// Each of a rival's permits really uses up to so many per cent of what it asked for, or down to so many below; none means as asked.
    pub(crate) error_percent: u64,
}

impl Rival {
    /// Asks for 1 to `most` tokens at a time.
    pub(crate) fn new(tenant: &str, weight: u32, most: u64) -> Self {
        Self {
            tenant: tenant.to_owned(),
            weight,
            priority: Priority::Standard,
            tokens: (1, most),
            requests: (1, 1),
            error_percent: 0,
        }
    }

    /// What one permit may differ from its estimate by.
    pub(crate) fn error(&self) -> u64 {
        self.tokens.1 * self.error_percent / 100
    }
}

/// Something that a rival was served, or that was corrected afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) rival: usize,
    pub(crate) tokens: i128,
    pub(crate) requests: i128,
}

/// A race for a budget of `limits`, `grants` grants long, with up to `in_flight` permits of each rival out at a time.
pub(crate) fn race(
    limits: Vec<LimitSpec>,
    rivals: &[Rival],
    grants: usize,
    in_flight: usize,
    seed: u64,
) -> Vec<Served> {
    let weight =
        |rival: &Rival| (rival.tenant.clone(), TenantSpec { weight: rival.weight, ..TenantSpec::default() });
    let tenants = rivals.iter().map(weight).collect();
    let spec = BudgetSpec { limits, tenants, ..BudgetSpec::default() }
        .check()
        .expect("races declare what makes sense");
    let mut race = Race {
        now: Time::from_nanos(5_000_000_000),
        heart: Budget::new(&spec, Time::from_nanos(5_000_000_000)),
        numbers: Numbers::from_seed(seed),
        rivals: rivals.to_vec(),
        waiting: vec![0; rivals.len()],
        out: vec![Vec::new(); rivals.len()],
        served: Vec::new(),
    };
    // Somebody else empties the bucket, and everybody is there before the first grant.
    race.empty(spec.limits[0].burst);
    race.heart.pause();
    for rival in 0..rivals.len() {
        race.fill(rival);
    }
    let mut events = Vec::new();
    race.heart.resume(race.now, &mut events);
    let mut granted = 0;
    loop {
        granted += race.take_in(events, in_flight);
        if granted >= grants {
            return race.served;
        }
        race.now = race.heart.next_poll().expect("those who wait go some time").max(race.now);
        events = Vec::new();
        let _ = race.heart.poll(race.now, &mut events);
    }
}

struct Race {
    now: Time,
    heart: Budget<usize>,
    numbers: Numbers,
    rivals: Vec<Rival>,
    waiting: Vec<usize>,
    out: Vec<Vec<(PermitKey, u64)>>,
    served: Vec<Served>,
}

impl Race {
    fn empty(&mut self, tokens: u64) {
        let estimate = Usage { input_tokens: Some(1), output_tokens: Some(0), ..Usage::default() };
        let (model, priority, count) = ("", Priority::Standard, 1);
        let (max_wait, gives_up, waiter) = (None, None, usize::MAX);
        let request =
            Request { tenant: "opening", model, priority, estimate, count, max_wait, gives_up, waiter };
        for _ in 0..tokens {
            let answer = self.heart.acquire(self.now, request.clone(), &mut Vec::new());
            assert!(matches!(answer, Ok(Acquired::Granted(_))), "a new budget is full: {answer:?}");
        }
    }

    fn fill(&mut self, at: usize) -> Vec<Event<usize>> {
        let mut events = Vec::new();
        let rival = self.rivals[at].clone();
        while self.waiting[at] < BACKLOG {
            let tokens = self.numbers.within(rival.tokens.0, rival.tokens.1);
            let requests = self.numbers.within(rival.requests.0, rival.requests.1);
            let estimate = Usage {
                requests: Some(requests),
                input_tokens: Some(tokens),
                output_tokens: Some(0),
                ..Usage::default()
            };
            let request = Request {
                tenant: &rival.tenant,
                model: "",
                priority: rival.priority,
                estimate,
                count: 1,
                max_wait: None,
                gives_up: None,
                waiter: at,
            };
            let answer = self.heart.acquire(self.now, request, &mut events);
            assert!(
                matches!(answer, Ok(Acquired::Waiting(_))),
                "{} does not wait behind {}: {answer:?}",
                rival.tenant,
                self.waiting[at]
            );
            self.waiting[at] += 1;
        }
        events
    }

    /// Notes what was granted, reports what is out, and has everybody ask again.
    fn take_in(&mut self, mut events: Vec<Event<usize>>, in_flight: usize) -> usize {
        let mut granted = 0;
        while !events.is_empty() {
            let mut next = Vec::new();
            for event in events {
                let (at, grant) = match event {
                    Event::Granted { waiter, grant, .. } => (waiter, grant),
                    Event::Expired { waiter: usize::MAX, .. } => continue,
                    other => panic!("{other:?} in a race"),
                };
                granted += 1;
                self.waiting[at] -= 1;
                assert!(self.waiting[at] > 0, "the backlog of {} ran out", self.rivals[at].tenant);
                let (tokens, requests) =
                    (i128::from(grant.charged.tokens), i128::from(grant.charged.requests));
                self.served.push(Served { rival: at, tokens, requests });
                self.out[at].push((grant.permit, grant.charged.tokens));
            }
            for at in 0..self.rivals.len() {
                while self.out[at].len() >= in_flight {
                    self.settle(at, &mut next);
                }
                next.append(&mut self.fill(at));
            }
            events = next;
        }
        granted
    }

    fn settle(&mut self, at: usize, events: &mut Vec<Event<usize>>) {
        let which = self.numbers.below(self.out[at].len() as u64) as usize;
        let (permit, charged) = self.out[at].swap_remove(which);
        let error = charged * self.rivals[at].error_percent / 100;
        let actual = self.numbers.within(charged.saturating_sub(error), charged + error);
        let used = Usage { input_tokens: Some(actual), output_tokens: Some(0), ..Usage::default() };
        let report = Report { actual: used, ..Report::new(Outcome::Success) };
        let (reported, _) = self.heart.report(self.now, permit, &report, events);
        assert!(reported.settled, "{permit:?} did not settle");
        let tokens = i128::from(actual) - i128::from(charged);
        if tokens != 0 {
            self.served.push(Served { rival: at, tokens, requests: 0 });
        }
    }
}

/// Tokens per minute, in a bucket of `burst`.
pub(crate) fn tokens_per_minute(amount: u64, burst: u64) -> LimitSpec {
    LimitSpec { burst, ..LimitSpec::rate("tokens", amount, Duration::from_secs(60)) }
}
