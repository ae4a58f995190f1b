//! One replay of a trace: requests come when they came, and what follows is up to the limits. The provider is a budget too: what it would
//! not grant at once is a 429, reported as such and asked for again, as clients do.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use permitd_budget::{
    Acquired, Budget, CheckedSpec, Event, Grant, IN_FLIGHT, Outcome, PermitKey, Report, Request, Snapshot,
    Time, Usage,
};

use super::trace::{Ask, Trace};

/// How often a call that the provider refuses is asked for again.
const TRIES_MAX: u32 = 10;
/// After the last request, what still waits is left.
const AFTERWARDS: Duration = Duration::from_secs(24 * 3_600);

/// What a replay came to.
#[derive(Debug)]
pub(super) struct Told {
    /// Permits whose calls the provider took.
    pub(super) served: u64,
    /// From the first request to the end of the last call.
    pub(super) span: Duration,
    /// Requests that got no permit, by reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Calls that the provider refused.
    pub(super) rate_limited: u64,
    /// Calls that were given up after that.
    pub(super) given_up: u64,
    /// Requests that waited in the end.
    pub(super) waiting: u32,
    /// How long each call that was served had waited since it was asked for, by tenant; sorted.
    pub(super) waits: BTreeMap<String, Vec<Duration>>,
    /// Lines that the trace lacks.
    pub(super) lost: u64,
}

/// A call to be made: which request's, and how often it was tried.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    ask: usize,
    tries: u32,
}

#[derive(Debug)]
enum Step {
    Ask(usize),
    End { permit: PermitKey, provider: PermitKey, used: Usage },
}

struct Replay<'a> {
    trace: &'a Trace,
    heart: Budget<Wanted>,
    provider: Budget<()>,
    now: Time,
    steps: BTreeMap<(Time, u64), Step>,
    steps_ever: u64,
    /// Calls of each request that are known and not made yet.
    made: HashMap<usize, usize>,
    last_end: Time,
    told: Told,
}

/// Replays a trace with these limits before a provider with those.
pub(super) fn replay(trace: &Trace, spec: &CheckedSpec, provider: &CheckedSpec) -> Told {
    let first = trace.asks.first().map_or(Time::ZERO, |ask| ask.at);
    let told = Told {
        served: 0,
        span: Duration::ZERO,
        refused: BTreeMap::new(),
        rate_limited: 0,
        given_up: 0,
        waiting: 0,
        waits: BTreeMap::new(),
        lost: trace.lost,
    };
    let mut replay = Replay {
        trace,
        heart: Budget::new(spec, first),
        provider: Budget::new(provider, first),
        now: first,
        steps: BTreeMap::new(),
        steps_ever: 0,
        made: HashMap::new(),
        last_end: first,
        told,
    };
    for (at, ask) in trace.asks.iter().enumerate() {
        replay.later(ask.at, Step::Ask(at));
    }
    replay.run();
    replay.finish(first)
}

impl Replay<'_> {
    fn run(&mut self) {
        let end = self.trace.asks.last().map_or(self.now, |ask| ask.at + AFTERWARDS);
        loop {
            let step = self.steps.first_key_value().map(|((at, _), _)| *at);
            let poll = self.heart.next_poll().filter(|_| step.is_some() || self.heart.waiting() > 0);
            let Some(due) = [step, poll].into_iter().flatten().min().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            let mut events = Vec::new();
            match self.steps.first_key_value() {
                Some(((at, _), _)) if *at <= due => {
                    let (_, step) = self.steps.pop_first().expect("just seen");
                    self.take(step, &mut events);
                }
                _ => drop(self.heart.poll(self.now, &mut events)),
            }
            self.follow(events);
        }
    }

    fn take(&mut self, step: Step, events: &mut Vec<Event<Wanted>>) {
        match step {
            Step::Ask(ask) => self.ask(Wanted { ask, tries: 0 }, self.trace.asks[ask].count, events),
            Step::End { permit, provider, used } => {
                let report = Report { actual: used, ..Report::new(Outcome::Success) };
                self.heart.report(self.now, permit, &report, events);
                self.provider.report(self.now, provider, &Report::new(Outcome::Success), &mut Vec::new());
                self.last_end = self.now;
            }
        }
    }

    fn ask(&mut self, wanted: Wanted, count: u32, events: &mut Vec<Event<Wanted>>) {
        let Ask { tenant, model, priority, estimate, max_wait, .. } = &self.trace.asks[wanted.ask];
        let request = Request {
            tenant,
            model,
            priority: *priority,
            estimate: estimate.clone(),
            count,
            max_wait: *max_wait,
            gives_up: None,
            waiter: wanted,
        };
        match self.heart.acquire(self.now, request, events) {
            Ok(Acquired::Granted(grant)) => self.call(wanted, &grant, events),
            Ok(Acquired::Waiting(_)) => {}
            Err(refusal) => *self.told.refused.entry(refusal.reason.name()).or_default() += 1,
        }
    }

    fn follow(&mut self, mut events: Vec<Event<Wanted>>) {
        while !events.is_empty() {
            for event in std::mem::take(&mut events) {
                match event {
                    Event::Granted { waiter, grant, .. } => self.call(waiter, &grant, &mut events),
                    Event::Refused { refusal, .. } => {
                        *self.told.refused.entry(refusal.reason.name()).or_default() += 1;
                    }
                    Event::Expired { .. } => {}
                }
            }
        }
    }

    /// The call of a permit goes out, and the provider takes it or not.
    fn call(&mut self, wanted: Wanted, grant: &Grant, events: &mut Vec<Event<Wanted>>) {
        let ask = &self.trace.asks[wanted.ask];
        let made = self.made.entry(wanted.ask).or_default();
        let known = ask.calls.get(*made);
        let used = known.map_or_else(Usage::default, |call| call.used.clone());
        let request = Request {
            tenant: "all",
            model: &ask.model,
            priority: ask.priority,
            estimate: sent(grant, &used),
            count: 1,
            max_wait: Some(Duration::ZERO),
            gives_up: None,
            waiter: (),
        };
        match self.provider.acquire(self.now, request, &mut Vec::new()) {
            Ok(Acquired::Granted(taken)) => {
                *made += 1;
                let took = known.map_or(self.trace.usual, |call| call.took);
                self.told.served += 1;
                self.told.waits.entry(ask.tenant.clone()).or_default().push(self.now.since(ask.at));
                self.later(self.now + took, Step::End { permit: grant.permit, provider: taken.permit, used });
            }
            refused => {
                self.told.rate_limited += 1;
                let refusal = refused.err();
                let limit = refusal.as_ref().and_then(|refusal| refusal.limit.as_deref());
                let report = match limit {
                    // How long others take is not for a provider to say.
                    Some(limit) if limit.starts_with(IN_FLIGHT) => Report::new(Outcome::ConcurrencyLimited),
                    _ => {
                        let retry_after = refusal.and_then(|refusal| refusal.retry_after);
                        Report { retry_after, ..Report::new(Outcome::RateLimited) }
                    }
                };
                self.heart.report(self.now, grant.permit, &report, events);
                if wanted.tries == TRIES_MAX {
                    self.told.given_up += 1;
                } else {
                    self.ask(Wanted { tries: wanted.tries + 1, ..wanted }, 1, events);
                }
            }
        }
    }

    fn later(&mut self, at: Time, step: Step) {
        self.steps_ever += 1;
        self.steps.insert((at, self.steps_ever), step);
    }

    fn finish(mut self, first: Time) -> Told {
        let Snapshot { waiting, .. } = self.heart.snapshot(self.now);
        self.told.waits.values_mut().for_each(|waits| waits.sort_unstable());
        Told { waiting, span: self.last_end.since(first), ..self.told }
    }
}

/// What the provider sees of a call: what it used, and what it did not say as it was charged.
fn sent(grant: &Grant, used: &Usage) -> Usage {
    let charged = &grant.charged;
    let input = used.input_tokens.or(used.tokens).unwrap_or(charged.input_tokens);
    Usage {
        requests: Some(used.requests.unwrap_or(charged.requests)),
        input_tokens: Some(input),
        output_tokens: Some(used.output_tokens.unwrap_or(charged.output_tokens)),
        other: if used.other.is_empty() {
            charged.other.iter().flat_map(|other| other.iter().cloned()).collect()
        } else {
            used.other.clone()
        },
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec, Priority};

    use super::*;
    use crate::simulate::trace::Call;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Requests of one tenant, four a second for a minute, of a second each.
    fn trace() -> Trace {
        let asks = (0..240).map(|number| Ask {
            at: Time::from_nanos(1_700_000_000_000_000_000 + number * 250_000_000),
            tenant: "web".to_owned(),
            model: String::new(),
            priority: Priority::Standard,
            count: 1,
            estimate: Usage::default(),
            max_wait: None,
            calls: vec![Call { took: Duration::from_secs(1), used: Usage::default() }],
        });
        Trace { declared: limited(60), asks: asks.collect(), usual: Duration::from_secs(1), lost: 0 }
    }

    fn limited(amount: u64) -> CheckedSpec {
        let limits = vec![LimitSpec::rate("requests", amount, MINUTE)];
        BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("sound")
    }

    /// Goal: with the provider's own limits nothing is refused and the last waits for what the rate lacks; with more of both it waits
    /// less; with more than the provider has, the provider refuses, and yet everything is served in the end.
    #[test]
    fn other_limits_are_other_waits() {
        let trace = trace();
        let longest = |told: &Told| *told.waits["web"].last().expect("served");
        let same = replay(&trace, &limited(60), &limited(60));
        assert_eq!((same.served, same.rate_limited, same.waiting), (240, 0, 0));
        // 60 at once, then one a second: the last goes 180 s after the first, and came after 59.75 s.
        assert!(
            longest(&same).abs_diff(Duration::from_millis(120_250)) < Duration::from_millis(100),
            "{same:?}"
        );
        let more = replay(&trace, &limited(120), &limited(120));
        assert_eq!((more.served, more.rate_limited), (240, 0));
        assert!(longest(&more) < longest(&same) / 10, "{more:?}");
        let too_much = replay(&trace, &limited(120), &limited(60));
        assert!(too_much.rate_limited > 0 && too_much.served + too_much.given_up == 240, "{too_much:?}");
    }

    /// Goal: a replay is the same every time.
    #[test]
    fn replays_are_alike() {
        let told = || format!("{:?}", replay(&trace(), &limited(100), &limited(60)));
        assert_eq!(told(), told());
    }
}
