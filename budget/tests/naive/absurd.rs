//! What a report says that can't be, or an estimate that is nothing, harms nobody but for a moment.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Event, LimitSpec, Outcome, PermitKey, Priority, Report, Request,
    TenantSpec, Time, Usage,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Somebody who always has so many requests waiting.
#[derive(Clone, Copy)]
struct Asker {
    name: &'static str,
    priority: Priority,
    estimate: u64,
    /// Tokens that a call used, given how many calls of all were reported before.
    used: fn(u64) -> u64,
}

struct Shop {
    heart: Budget<usize>,
    askers: Vec<Asker>,
    now: Time,
    waiting: Vec<usize>,
    reports: u64,
    granted: Vec<u64>,
}

impl Shop {
    fn new(spec: BudgetSpec, askers: &[Asker]) -> Self {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        let heart = Budget::new(&spec.check().expect("sound"), now);
        let (waiting, granted) = (vec![0; askers.len()], vec![0; askers.len()]);
        Self { heart, askers: askers.to_vec(), now, waiting, reports: 0, granted }
    }

    /// For so long, with calls that take no time.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut events = Vec::new();
        while self.now < end {
            for who in 0..self.askers.len() {
                while self.waiting[who] < 4 {
                    self.ask(who, &mut events);
                }
            }
            let soon = self.now + SECOND;
            self.now = self.now.max(self.heart.next_poll().map_or(soon, |next| next.min(soon)));
            let _ = self.heart.poll(self.now, &mut events);
            while let Some(event) = events.pop() {
                if let Event::Granted { waiter, grant, .. } = event {
                    self.over(waiter, grant.permit, &mut events);
                }
            }
        }
    }

    fn ask(&mut self, who: usize, events: &mut Vec<Event<usize>>) {
        let Asker { name, priority, estimate, .. } = self.askers[who];
        let request = Request {
            tenant: name,
            model: "",
            priority,
            estimate: Usage { output_tokens: Some(0), ..Usage::of_tokens(estimate) },
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: who,
        };
        self.waiting[who] += 1;
        if let Ok(Acquired::Granted(grant)) = self.heart.acquire(self.now, request, events) {
            self.over(who, grant.permit, events);
        }
    }

    fn over(&mut self, who: usize, permit: PermitKey, events: &mut Vec<Event<usize>>) {
        self.waiting[who] -= 1;
        self.granted[who] += 1;
        let used = (self.askers[who].used)(self.reports);
        self.reports += 1;
        let actual = Usage { output_tokens: Some(0), ..Usage::of_tokens(used) };
        self.heart.report(self.now, permit, &Report { actual, ..Report::new(Outcome::Success) }, events);
    }

    /// Permits of each in the time to come.
    fn grants_in(&mut self, span: Duration) -> Vec<u64> {
        let before = self.granted.clone();
        self.run(span);
        self.granted.iter().zip(before).map(|(after, before)| after - before).collect()
    }
}

fn spec(tenants: &[(&str, u32)]) -> BudgetSpec {
    let guaranteed = |min_percent| TenantSpec { min_percent, ..TenantSpec::default() };
    let tenants: BTreeMap<_, _> =
        tenants.iter().map(|(name, percent)| ((*name).to_owned(), guaranteed(*percent))).collect();
    let limits = vec![LimitSpec::rate("tokens", 10_000, MINUTE)];
    BudgetSpec { limits, tenants, ..BudgetSpec::default() }
}

/// Goal (invariant 4): one report of more than there is puts its tenant, and its class, back by what a call can take at the most, and not
/// out for good; so also a tenant with a guarantee.
#[test]
fn an_absurd_report_starves_nobody() {
    for percent in [0, 20] {
        let absurd = |reports| if reports == 40 { u64::MAX } else { 100 };
        let asker = |name, priority| Asker { name, priority, estimate: 100, used: absurd };
        let askers = [
            asker("one", Priority::Standard),
            asker("other", Priority::Standard),
            asker("nightly", Priority::Batch),
        ];
        let mut shop = Shop::new(spec(&[("one", percent), ("other", percent)]), &askers);
        shop.run(10 * MINUTE);
        assert!(shop.reports > 40);
        let granted = shop.grants_in(10 * MINUTE);
        assert!(granted[0] > 200 && granted[1] > 200, "{percent} %: {granted:?} of 1,000");
    }
}

/// Goal (invariant 4): who is guaranteed a part and says that its calls need nothing is charged for what they used, and gets no more than
/// its part while others wait.
#[test]
fn a_guarantee_is_charged_what_was_used() {
    let askers = [
        Asker { name: "svc", priority: Priority::Standard, estimate: 0, used: |_| 1_000 },
        Asker { name: "web", priority: Priority::Standard, estimate: 100, used: |_| 100 },
    ];
    let mut shop = Shop::new(spec(&[("svc", 10)]), &askers);
    shop.run(10 * MINUTE);
    let granted = shop.grants_in(60 * MINUTE);
    let (svc, web) = (granted[0] * 1_000, granted[1] * 100);
    assert!(web >= 200_000, "svc used {svc} tokens, and left {web} of 600,000");
}

/// Goal (invariant 2): what comes back is no more than what was taken: who estimates a hundred times too much gains nothing by it.
#[test]
fn a_refund_is_no_more_than_was_taken() {
    let spec = BudgetSpec { shadow: true, ..spec(&[]) };
    let mut heart = Budget::new(&spec.check().expect("sound"), Time::from_nanos(77));
    let (now, mut events) = (Time::from_nanos(77), Vec::new());
    let request = Request {
        tenant: "one",
        model: "",
        priority: Priority::Standard,
        estimate: Usage { output_tokens: Some(0), ..Usage::of_tokens(1_000_000) },
        count: 1,
        max_wait: None,
        gives_up: None,
        waiter: 0,
    };
    let Ok(Acquired::Granted(grant)) = heart.acquire(now, request, &mut events) else {
        panic!("a shadow grants everything")
    };
    let actual = Usage { output_tokens: Some(0), ..Usage::of_tokens(9_000) };
    heart.report(now, grant.permit, &Report { actual, ..Report::new(Outcome::Success) }, &mut events);
    assert_eq!(heart.snapshot(now).limits[0].level, 1_000);
}
