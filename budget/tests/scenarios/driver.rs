//! Carries out a scenario's commands, one line each, and says in words what came of it.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, Counting, CountingSpec, Event, Grant, Halt, Held, HeldBy, LimitSpec,
    Outcome, Overflow, PermitKey, Priority, Reason, Refusal, Report, Request, Seen, Settled, TenantSpec,
    Ticket, Time, Usage, Window,
};

/// Scenarios begin on a whole minute, so that windows with a phase are easy to read.
const START: Time = Time::from_nanos(1_700_000_040_000_000_000);

/// One budget and the names that its scenario gives to things.
pub(crate) struct Driver {
    now: Time,
    declared: BudgetSpec,
    budget: Option<Budget<String>>,
    tickets: BTreeMap<String, Ticket>,
    permits: Vec<PermitKey>,
    waited_for: BTreeMap<String, (HeldBy, Option<String>)>,
}

impl Driver {
    pub(crate) fn new() -> Self {
        let (tickets, permits, waited_for) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { now: START, declared: BudgetSpec::default(), budget: None, tickets, permits, waited_for }
    }

    /// What one command answers, in whole lines.
    pub(crate) fn command(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a command has a verb");
        let words: Vec<&str> = words.collect();
        match verb {
            "limits" | "queue" | "tenant" | "ttl" | "counting" => self.declare(verb, &words),
            "at" => self.run_until(START + span(words[0])),
            "skip" => {
                self.now = START + span(words[0]);
                String::new()
            }
            "acquire" => self.acquire(words[0], &pairs(&words[1..])),
            "report" => self.report(words[0], words[1], &pairs(&words[2..])),
            "cancel" => self.cancel(words[0]),
            "extend" => self.extend(words[0]),
            "show" => self.show(words[0]),
            "place" => self.place(words[0]),
            "waited" => match self.waited_for.get(words[0]) {
                Some((_, Some(limit))) => format!("{} waited for {limit}\n", words[0]),
                Some((held_by, None)) => format!("{} waited for {held_by:?}\n", words[0]),
                None => format!("{} was never granted after a wait\n", words[0]),
            },
            "levels" => self.levels(),
            "why" => self.why(),
            "state" => self.state(),
            "poll" => {
                let (now, mut events) = (self.now, Vec::new());
                let next = self.budget().poll(now, &mut events);
                assert_eq!(next, self.budget().next_poll(), "poll and next_poll agree");
                self.tell(events)
            }
            "next" => match self.budget().next_poll() {
                Some(next) => format!("at {:?}\n", next.since(START)),
                None => "never\n".to_owned(),
            },
            "pause" => {
                self.budget().pause();
                String::new()
            }
            "resume" => {
                let (now, mut events) = (self.now, Vec::new());
                self.budget().resume(now, &mut events);
                self.tell(events)
            }
            "refuse" => {
                let reason = if words[0] == "deleted" { Reason::Deleted } else { Reason::Draining };
                let mut events = Vec::new();
                self.budget().refuse_waiting(reason, None, &mut events);
                self.tell(events)
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn budget(&mut self) -> &mut Budget<String> {
        let (declared, now) = (&self.declared, self.now);
        self.budget.get_or_insert_with(|| Budget::new(&declared.clone().check().expect("declared well"), now))
    }

    fn declare(&mut self, what: &str, words: &[&str]) -> String {
        match what {
            "limits" => self.declared.limits = words.iter().map(|word| limit(word)).collect(),
            "ttl" => self.declared.permit_ttl = Some(span(words[0])),
            "counting" => self.declared.counting.push(counting(&pairs(words))),
            "tenant" => {
                let said = pairs(&words[1..]);
                let number = |name: &str| said.get(name).map_or(0, |value| value.parse().expect("a number"));
                let tenant = TenantSpec {
                    weight: number("weight"),
                    max_waiting: number("max_waiting"),
                    max_percent: number("max_percent"),
                    min_percent: number("min_percent"),
                };
                self.declared.tenants.insert(words[0].to_owned(), tenant);
            }
            _ => {
                let said = pairs(words);
                self.declared.queue.max_waiting =
                    said.get("max_waiting").map_or(0, |most| most.parse().expect("a number"));
                self.declared.queue.max_wait = said.get("max_wait").map(|wait| span(wait));
                let reject = said.get("overflow").is_some_and(|overflow| *overflow == "reject");
                self.declared.queue.overflow = if reject { Overflow::Reject } else { Overflow::Wait };
            }
        }
        let spec = match self.declared.clone().check() {
            Ok(spec) => spec,
            Err(error) => return format!("{error}\n"),
        };
        let (now, mut events) = (self.now, Vec::new());
        if let Some(budget) = &mut self.budget {
            budget.configure(now, &spec, &mut events);
        }
        self.tell(events)
    }

    fn run_until(&mut self, end: Time) -> String {
        let mut said = String::new();
        for _ in 0..10_000 {
            match self.budget().next_poll() {
                Some(next) if next <= end => {
                    self.now = self.now.max(next);
                    let (now, mut events) = (self.now, Vec::new());
                    let _ = self.budget().poll(now, &mut events);
                    said += &self.tell(events);
                }
                _ => {
                    self.now = end;
                    return said;
                }
            }
        }
        panic!("polled 10,000 times until {:?}", self.now.since(START));
    }

    fn acquire(&mut self, name: &str, said: &BTreeMap<&str, &str>) -> String {
        let now = self.now;
        let request = Request {
            tenant: said.get("tenant").unwrap_or(&"web"),
            model: said.get("model").unwrap_or(&""),
            priority: match said.get("priority") {
                Some(&"interactive") => Priority::Interactive,
                Some(&"batch") => Priority::Batch,
                _ => Priority::Standard,
            },
            estimate: usage(said),
            count: said.get("count").map_or(1, |count| count.parse().expect("a number")),
            max_wait: said.get("max_wait").map(|wait| span(wait)),
            gives_up: said.get("gives_up").map(|at| START + span(at)),
            waiter: name.to_owned(),
        };
        let mut events = Vec::new();
        let answer = self.budget().acquire(now, request, &mut events);
        let line = match answer {
            Ok(Acquired::Granted(grant)) => format!("{name} granted {}\n", self.name(&grant)),
            Ok(Acquired::Waiting(ticket)) => {
                self.tickets.insert(name.to_owned(), ticket);
                format!("{name} waits\n")
            }
            Err(refusal) => format!("{name} {}\n", refused(&refusal)),
        };
        line + &self.tell(events)
    }

    fn report(&mut self, permit: &str, outcome: &str, said: &BTreeMap<&str, &str>) -> String {
        let outcome = match outcome {
            "success" => Outcome::Success,
            "rate_limited" => Outcome::RateLimited,
            "concurrency_limited" => Outcome::ConcurrencyLimited,
            "overloaded" => Outcome::Overloaded,
            "quota_exhausted" => Outcome::QuotaExhausted,
            "too_large" => Outcome::TooLarge,
            "failed" => Outcome::Failed { retryable: true },
            "cancelled" => Outcome::Cancelled,
            other => panic!("no such outcome: {other}"),
        };
        let retry_after = said.get("retry_after").map(|wait| span(wait));
        let report = Report { actual: usage(said), retry_after, ..Report::new(outcome) };
        let (now, key, mut events) = (self.now, self.permit(permit), Vec::new());
        let (reported, waiter) = self.budget().report(now, key, &report, &mut events);
        let mut line = format!("{permit} {}", if reported.settled { "settled" } else { "not settled" });
        let _ = write!(line, ", {:?}", reported.outcome);
        if let Some(waiter) = waiter {
            let _ = write!(line, ", ends {waiter}'s permit");
        }
        if reported.retry {
            line += ", worth another try";
        }
        if let Some(after) = reported.retry_after {
            let _ = write!(line, " in {after:?}");
        }
        line + "\n" + &self.tell(events)
    }

    fn cancel(&mut self, name: &str) -> String {
        let (now, ticket, mut events) = (self.now, self.tickets[name], Vec::new());
        let line = match self.budget().cancel(now, ticket, &mut events) {
            Some(waiter) => format!("{waiter} cancelled\n"),
            None => format!("{name} does not wait\n"),
        };
        line + &self.tell(events)
    }

    fn extend(&mut self, permit: &str) -> String {
        let (now, key) = (self.now, self.permit(permit));
        match self.budget().extend(now, key) {
            Some(expires) => format!("{permit} expires at {:?}\n", expires.since(START)),
            None => format!("{permit} is not live\n"),
        }
    }

    fn show(&mut self, permit: &str) -> String {
        let key = self.permit(permit);
        let Some(grant) = self.budget().grant(key) else { return format!("{permit} is not live\n") };
        let charged = &grant.charged;
        let mut line = format!(
            "{permit} holds requests={} input={} output={} tokens={}",
            charged.requests, charged.input_tokens, charged.output_tokens, charged.tokens
        );
        for (unit, amount) in charged.other.iter().flatten() {
            let _ = write!(line, " {unit}={amount}");
        }
        format!("{line}, expires at {:?}, lives {:?}\n", grant.expires.since(START), grant.ttl)
    }

    fn place(&mut self, name: &str) -> String {
        let (now, ticket) = (self.now, self.tickets[name]);
        match self.budget().place(now, ticket) {
            Some(place) => match place.estimated_wait {
                Some(wait) => {
                    format!("{name}: {} before, about {wait:?}, held by {}\n", place.position, place.held_by)
                }
                None => format!("{name}: {} before, held by {}\n", place.position, place.held_by),
            },
            None => format!("{name} does not wait\n"),
        }
    }

    /// What holds the budget back, who waits for what, and what was refused of late.
    fn why(&mut self) -> String {
        let now = self.now;
        let standing = self.budget().standing(now);
        let mut said = String::new();
        for halt in standing.halts {
            let _ = match halt {
                Halt::Paused => writeln!(said, "paused"),
                Halt::Exhausted(until) => {
                    writeln!(said, "exhausted until {:?}", until.map(|at| at.since(START)))
                }
                Halt::Frozen(until) => writeln!(said, "frozen until {:?}", until.since(START)),
                Halt::Store => writeln!(said, "waits for the store"),
            };
        }
        for line in standing.lines {
            let limit = line.first.limit.unwrap_or_else(|| "nothing".to_owned());
            let _ = writeln!(
                said,
                "{} {:?}: {} wait for {limit} since {:?}",
                line.tenant, line.priority, line.waiting, line.oldest
            );
        }
        for Seen { what, times, last, .. } in standing.refusals {
            let _ = writeln!(
                said,
                "{}: {times} {}, last at {:?}",
                what.tenant,
                refused(&what.refusal),
                last.since(START)
            );
        }
        for Seen { what, times, last, .. } in standing.answers {
            let _ = writeln!(
                said,
                "{times} calls to {:?} {}, which froze {:?}, last at {:?}",
                what.model,
                what.outcome.name(),
                what.froze,
                last.since(START)
            );
        }
        said
    }

    fn levels(&mut self) -> String {
        let now = self.now;
        let snapshot = self.budget().snapshot(now);
        let mut said = String::new();
        for limit in snapshot.limits {
            let spec = &limit.configured;
            let per = spec.per.map_or(String::new(), |per| format!(" per {per:?}"));
            let _ = write!(said, "{}{per}: {} of {}", spec.unit, limit.level, spec.amount);
            for (name, glob) in [("models", &spec.models), ("tenants", &spec.tenants)] {
                if !glob.is_empty() {
                    let _ = write!(said, " {name}={glob}");
                }
            }
            if let Some(until) = limit.frozen_until {
                let _ = write!(said, ", frozen until {:?}", until.since(START));
            }
            said.push('\n');
        }
        said
    }

    fn state(&mut self) -> String {
        let now = self.now;
        let state = self.budget().snapshot(now);
        let mut said = format!(
            "{} waiting, {} in flight, {} granted, {} refused, {} expired{}\n",
            state.waiting,
            state.in_flight,
            state.granted_total,
            state.refused_total,
            state.expired_total,
            if state.paused { ", paused" } else { "" }
        );
        for tenant in state.tenants {
            let (waiting, in_flight, granted) = (tenant.waiting, tenant.in_flight, tenant.granted_total);
            let _ = writeln!(
                said,
                "  {}: {waiting} waiting, {in_flight} in flight, {granted} granted",
                tenant.tenant
            );
        }
        said
    }

    fn tell(&mut self, events: Vec<Event<String>>) -> String {
        let mut said = String::new();
        let at = self.now.since(START);
        for event in events {
            let _ = match event {
                Event::Granted { waiter, grant, remaining, held_by } => {
                    let left = if remaining > 0 { format!(", {remaining} remaining") } else { String::new() };
                    let limit = self.budget().limit_at(held_by);
                    self.waited_for.insert(waiter.clone(), (held_by, limit));
                    writeln!(
                        said,
                        "{at:?}: {waiter} granted {} after {:?}{left}",
                        self.name(&grant),
                        grant.waited
                    )
                }
                Event::Refused { waiter, refusal } => {
                    writeln!(said, "{at:?}: {waiter} {}", refused(&refusal))
                }
                Event::Expired { waiter, permit } => {
                    let name =
                        self.permits.iter().position(|known| *known == permit).expect("granted before") + 1;
                    writeln!(said, "{at:?}: {waiter}'s p{name} expired")
                }
            };
        }
        said
    }

    fn name(&mut self, grant: &Grant) -> String {
        self.permits.push(grant.permit);
        format!("p{}", self.permits.len())
    }

    fn permit(&self, name: &str) -> PermitKey {
        let number: usize = name.trim_start_matches('p').parse().expect("permits are p1, p2, ...");
        self.permits.get(number - 1).copied().unwrap_or(PermitKey::from_u64(u64::MAX - number as u64))
    }
}

fn refused(refusal: &Refusal) -> String {
    let after = refusal.retry_after.map_or(String::new(), |after| format!(", again in {after:?}"));
    let limit = refusal.limit.as_ref().map_or(String::new(), |limit| format!(" by {limit}"));
    format!("refused {}{limit}{after}", refusal.reason.name())
}

fn limit(word: &str) -> LimitSpec {
    let mut parts = word.split(',');
    let (unit, bound) = parts.next().and_then(|first| first.split_once('=')).expect("UNIT=AMOUNT/WINDOW");
    let mut limit = match bound.split_once('/') {
        Some((amount, per)) => LimitSpec::rate(unit, amount.parse().expect("a number"), span(per)),
        None => LimitSpec { unit: unit.to_owned(), ..LimitSpec::in_flight(bound.parse().expect("a number")) },
    };
    let said: Vec<&str> = parts.collect();
    let said = pairs(&said);
    limit.burst = said.get("burst").map_or(0, |burst| burst.parse().expect("a number"));
    limit.models = (*said.get("models").unwrap_or(&"")).to_owned();
    limit.tenants = (*said.get("tenants").unwrap_or(&"")).to_owned();
    limit.window = match said.get("window") {
        Some(&"fixed") => Window::Fixed { phase: said.get("phase").map(|phase| START + span(phase)) },
        Some(&"sliding") => Window::Sliding,
        Some(&"quantised") => {
            Window::Quantised { quantum: said.get("quantum").map_or(Duration::from_secs(1), |q| span(q)) }
        }
        _ => Window::Bucket,
    };
    limit
}

fn counting(said: &BTreeMap<&str, &str>) -> CountingSpec {
    let number = |name: &str| said.get(name).map(|value| value.parse().expect("a number"));
    let counting = Counting {
        cached_input_percent: number("cached").unwrap_or(100),
        output_default: number("output_default").unwrap_or(0).into(),
        held: match said.get("held") {
            Some(&"bound") => Held::Bound,
            Some(&"larger") => Held::Larger,
            _ => Held::Expected,
        },
        settled: match said.get("settled") {
            Some(&"as_held") => Settled::AsHeld,
            _ => Settled::Used { output_percent: number("output").unwrap_or(100) },
        },
    };
    CountingSpec { models: (*said.get("models").unwrap_or(&"")).to_owned(), counting }
}

fn usage(said: &BTreeMap<&str, &str>) -> Usage {
    let number = |name: &str| said.get(name).map(|value| value.parse::<u64>().expect("a number"));
    Usage {
        requests: number("requests"),
        tokens: number("tokens"),
        input_tokens: number("input"),
        output_tokens: number("output"),
        max_output_tokens: number("max_output"),
        cached_input_tokens: number("cached"),
        other: number("points").map(|points| ("points".into(), points)).into_iter().collect(),
    }
}

fn pairs<'a>(words: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    words
        .iter()
        .map(|word| word.split_once('=').unwrap_or_else(|| panic!("{word} is not NAME=VALUE")))
        .collect()
}

/// `250ms`, `5s`, `1m`, `2h`, `1d`.
fn span(text: &str) -> Duration {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("{text} has no unit"));
    let number: u64 = text[..digits].parse().unwrap_or_else(|_| panic!("{text} is no duration"));
    match &text[digits..] {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3_600),
        "d" => Duration::from_secs(number * 86_400),
        other => panic!("no such unit: {other}"),
    }
}
