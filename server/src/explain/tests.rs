//! Budgets in trouble, made by the heart itself, and what is said of them.

use std::{collections::VecDeque, time::Duration};

use permitd_budget::{
    Acquired, Adapt, Budget, BudgetSpec, Event, LimitSpec, Outcome, PermitKey, Priority, Report, Request,
    Time, Usage,
};
use permitd_proto::v1::Topic;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A budget that things happen to.
struct Case {
    now: Time,
    budget: Budget<()>,
    pools: Vec<BudgetName>,
}

impl Case {
    fn of(limits: &[LimitSpec]) -> Self {
        let spec =
            BudgetSpec { limits: limits.to_vec(), ..BudgetSpec::default() }.check().expect("makes sense");
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        Self { now, budget: Budget::new(&spec, now), pools: Vec::new() }
    }

    /// Asks; a permit if it was granted at once.
    fn ask(&mut self, tenant: &str, tokens: u64, max_wait: Option<Duration>) -> Option<PermitKey> {
        let (estimate, gives_up) = (Usage::of_tokens(tokens), None);
        let request = Request {
            tenant,
            model: "m",
            priority: Priority::Batch,
            estimate,
            count: 1,
            max_wait,
            gives_up,
            waiter: (),
        };
        match self.budget.acquire(self.now, request, &mut Vec::new()) {
            Ok(Acquired::Granted(grant)) => Some(grant.permit),
            _ => None,
        }
    }

    fn report(&mut self, permit: PermitKey, report: &Report) {
        self.budget.report(self.now, permit, report, &mut Vec::new());
    }

    fn wait(&mut self, span: Duration) -> Vec<Event<()>> {
        self.now += span;
        let mut events = Vec::new();
        let _ = self.budget.poll(self.now, &mut events);
        events
    }

    fn told(&mut self) -> Vec<Finding> {
        let (snapshot, standing) = (self.budget.snapshot(self.now), self.budget.standing(self.now));
        let name = "anthropic/prod".parse().expect("a name");
        findings(&Facts {
            name: &name,
            snapshot: &snapshot,
            standing: &standing,
            pools: &self.pools,
            now: self.now,
        })
    }

    /// What is said about a topic.
    fn texts(&mut self, topic: Topic) -> Vec<String> {
        self.told().into_iter().filter(|finding| finding.topic == topic).map(|finding| finding.text).collect()
    }
}

/// Goal: an idle budget has nothing to complain of, and one without limits is told to get some.
#[test]
fn nothing_is_wrong() {
    let mut case = Case::of(&[LimitSpec::rate("requests", 60, MINUTE)]);
    assert_eq!(case.texts(Topic::Held), ["Nothing holds it back: whoever asks and fits is granted at once."]);
    assert_eq!(case.told().len(), 1);
    let mut case = Case::of(&[]);
    let advice =
        case.told().into_iter().find(|finding| finding.topic == Topic::Advice).expect("one thing to do");
    assert!(advice.text.starts_with("No limit is declared"), "{advice:?}");
}

/// Goal: of two limits the one that binds is named, with who waits for it and what would help.
#[test]
fn names_the_limit_that_binds() {
    let limits = [LimitSpec::rate("requests", 600, MINUTE), LimitSpec::rate("tokens", 6_000, MINUTE)];
    let mut case = Case::of(&limits);
    assert!(case.ask("web", 5_500, None).is_some());
    case.ask("nightly", 1_000, None);
    case.ask("nightly", 1_000, None);
    case.ask("web", 1_500, None);
    case.wait(Duration::from_secs(2));
    let held = case.texts(Topic::Held);
    assert!(held.len() == 1 && held[0].starts_with("tokens/1m holds back 3 requests: "), "{held:?}");
    assert!(held[0].ends_with(" of 6,000 are free; the first can go in about 3s."), "{held:?}");
    assert_eq!(
        case.texts(Topic::Waiting),
        [
            "nightly: 2 requests wait (batch for m); the first has waited 2s, held by tokens/1m.",
            "web: 1 request waits (batch for m); it has waited 2s, 2 are before it, held by tokens/1m.",
        ]
    );
    let advice = case.texts(Topic::Advice);
    assert_eq!(
        advice,
        [
            "Raising tokens/1m would help most: it holds back 3 of 3 that wait. Smaller or fewer calls would do as well."
        ]
    );
}

/// Goal: full slots say when the first comes back by itself, and a pause is told with its remedy.
#[test]
fn tells_of_slots_and_pauses() {
    let mut case = Case::of(&[LimitSpec::in_flight(1)]);
    assert!(case.ask("web", 1, None).is_some());
    case.ask("web", 1, None);
    assert_eq!(
        case.texts(Topic::Held),
        [
            "in_flight holds back 1 request: all 1 are in flight; the first unreported one ends by itself in 10m."
        ]
    );
    case.budget.pause();
    let paused = case.told().remove(0);
    assert_eq!(paused.command.as_deref(), Some("permitd budgets resume anthropic/prod"));
    assert_eq!(
        case.texts(Topic::Waiting),
        ["web: 1 request waits (batch for m); it has waited 0s, held by in_flight (paused)."]
    );
}

/// Goal: a refusal by the provider is told with what it froze and what it taught.
#[test]
fn tells_of_refusals_by_the_provider() {
    let mut case = Case::of(&[LimitSpec::rate("requests", 60, MINUTE)]);
    let permits: Vec<_> = (0..55).map(|_| case.ask("web", 1, None).expect("room")).collect();
    case.wait(Duration::from_secs(1));
    let report = Report { retry_after: Some(Duration::from_secs(30)), ..Report::new(Outcome::RateLimited) };
    permits[..3].iter().for_each(|permit| case.report(*permit, &report));
    case.ask("web", 1, Some(Duration::ZERO));
    case.ask("web", 1, None);
    case.wait(Duration::from_secs(2));
    let held = case.texts(Topic::Held);
    assert_eq!(
        held,
        ["requests/1m is frozen for another 28s, since the provider refused calls; 1 request waits for it."]
    );
    let refused = case.texts(Topic::Refused);
    assert_eq!(
        refused[0],
        "The provider refused 3 calls to m for rate, with a wait of 30s, the last one 2s ago; that froze requests/1m."
    );
    assert!(
        refused[1].starts_with("1 request of web got no permit, 2s ago: not in time: requests/1m is short")
    );
    let learned = case.texts(Topic::Learned);
    assert!(
        learned[0].starts_with("requests/1m grants ") && learned[0].contains("as refusals taught"),
        "{learned:?}"
    );
    let advice = case.texts(Topic::Advice);
    assert!(advice[0].starts_with("The provider refused 3 calls of 55"), "{advice:?}");
}

/// Goal: a limit that follows latency says so, before and after it knows what calls take.
#[test]
fn tells_what_latency_taught() {
    let mut case = Case::of(&[LimitSpec { adapt: Adapt::Latency, ..LimitSpec::in_flight(100) }]);
    let learned = case.texts(Topic::Learned);
    assert_eq!(learned, ["in_flight grants 10 of the declared 100 until it is known how long calls take."]);
    let mut permits: VecDeque<_> = (0..10).map(|_| case.ask("web", 1, None).expect("room")).collect();
    for _ in 0..40 {
        case.wait(Duration::from_millis(200));
        case.report(permits.pop_front().expect("ten"), &Report::new(Outcome::Success));
        permits.push_back(case.ask("web", 1, None).expect("room"));
    }
    case.wait(Duration::from_secs(3));
    let learned = case.texts(Topic::Learned);
    assert_eq!(
        learned,
        [
            "in_flight grants 20 of the declared 100, as the time that calls take taught 3s ago: about 2s when none waits at the provider."
        ]
    );
}

/// Goal: whoever estimates far too much, asks for more than there ever is, or never reports is told so.
#[test]
fn tells_what_callers_do_wrong() {
    let mut case = Case::of(&[LimitSpec::rate("tokens", 10_000, MINUTE)]);
    let permit = case.ask("web", 8_000, None).expect("room");
    let actual = Usage { input_tokens: Some(1_000), ..Usage::of_tokens(1_000) };
    case.report(permit, &Report { actual, ..Report::new(Outcome::Success) });
    case.ask("web", 20_000, None);
    case.ask("web", 10, None);
    case.wait(Duration::from_secs(601));
    let advice = case.texts(Topic::Advice);
    for start in [
        "Report every call",
        "Split the requests of web, or raise tokens/1m",
        "Estimate lower: of 8,010 of tokens/1m",
    ] {
        assert!(advice.iter().any(|text| text.starts_with(start)), "{start} is not in {advice:#?}");
    }
}

/// Goal: an exhausted quota is told with its reset, or with what ends it.
#[test]
fn tells_of_an_exhausted_quota() {
    for (wait, text) in [
        (Some(3 * MINUTE), "for another 3m: everybody is refused."),
        (None, "everybody is refused until it is topped up and the budget resumed."),
    ] {
        let mut case = Case::of(&[LimitSpec::in_flight(9)]);
        let permit = case.ask("web", 1, None).expect("room");
        case.report(permit, &Report { retry_after: wait, ..Report::new(Outcome::QuotaExhausted) });
        let held = case.texts(Topic::Held);
        assert!(held.len() == 1 && held[0].ends_with(text), "{held:?}");
    }
}

/// Goal: of many pools some are named, and the others counted.
#[test]
fn pools_are_named() {
    let mut case = Case::of(&[LimitSpec::rate("requests", 60, MINUTE)]);
    case.pools = (1..=7).map(|number| format!("any/{number}").parse().expect("a name")).collect();
    let told = case.told();
    assert_eq!(told[1].text, "It is a member of the pools any/1, any/2, any/3, any/4, any/5 and 2 others.");
    assert_eq!(told[1].command.as_deref(), Some("permitd pools list anthropic/prod"));
}
