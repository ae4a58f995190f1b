//! The provider behind its HTTP face: keys, clients, counters. One lock holds it, for moments.

use std::{collections::HashMap, time::Duration};

use super::{
    account::{Account, Cost, Levels, Limited},
    buckets::{MINUTE, Nanos},
    config::{Behaviour, Bounds, Config, Limits, Rate},
    draws,
    stats::{Counters, Possible, Stats},
};

/// A call as a shape understood it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) key: String,
    pub(crate) client: String,
    /// Which of the client's calls this is, where the client says so: then a repeat has the same latency and output.
    pub(crate) number: Option<u64>,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens_max: u64,
    pub(crate) cost: Cost,
}

/// A call that passed all limits and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    generation: u64,
    key: String,
    client: String,
    cost: Cost,
    service: Nanos,
    pub(crate) latency: Duration,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
}

/// Why a call did not start.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Limited(Limited),
    Overloaded,
    /// More keys or clients than the process holds.
    Full(&'static str, usize),
}

pub(crate) struct World {
    seed: u64,
    bounds: Bounds,
    limits: Limits,
    behaviour: Behaviour,
    /// Counts resets, so that a call from before one does not end in the accounts after it.
    generation: u64,
    possible: Possible,
    accounts: HashMap<String, (Account, Counters)>,
    clients: HashMap<String, Counters>,
}

impl World {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            seed: config.seed,
            bounds: config.bounds,
            limits: config.limits,
            behaviour: config.behaviour,
            generation: 0,
            possible: Possible::default(),
            accounts: HashMap::new(),
            clients: HashMap::new(),
        }
    }

    /// Lets a call start or refuses it; counts it either way.
    pub(crate) fn begin(&mut self, now: Nanos, ask: &Ask) -> Result<Admitted, Refusal> {
        if self.accounts.len() >= self.bounds.keys && !self.accounts.contains_key(&ask.key) {
            return Err(Refusal::Full("keys", self.bounds.keys));
        }
        if self.clients.len() >= self.bounds.clients && !self.clients.contains_key(&ask.client) {
            return Err(Refusal::Full("clients", self.bounds.clients));
        }
        let limits = self.limits;
        let (account, by_key) = self
            .accounts
            .entry(ask.key.clone())
            .or_insert_with(|| (Account::new(&limits, now), Counters::default()));
        let by_client = self.clients.entry(ask.client.clone()).or_default();
        let mut count = |change: &dyn Fn(&mut Counters)| {
            change(by_key);
            change(by_client);
            by_client.requests
        };
        let sequence = count(&|counters| counters.requests += 1);
        if draws::overloaded(self.seed, &ask.client, sequence, self.behaviour.overloaded) {
            count(&|counters| counters.overloaded += 1);
            return Err(Refusal::Overloaded);
        }
        if let Err(limited) = account.start(now, &ask.cost) {
            count(&|counters| counters.count_limited(&limited));
            if self.behaviour.refused_calls_count {
                account.count_refused(now);
            }
            return Err(Refusal::Limited(limited));
        }
        let number = ask.number.unwrap_or(sequence);
        let (latency, output) = draws::work(self.seed, &ask.client, number, &self.behaviour);
        let service_time = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let latency = latency + Duration::from_nanos(account.wait_inside(now, service_time));
        let service = service_at_start(&limits, &ask.cost, service_time);
        count(&|counters| {
            counters.admitted += 1;
            counters.input_tokens += ask.input_tokens;
            counters.tokens += ask.cost.tokens.unwrap_or(0);
            counters.service_ns += service;
        });
        Ok(Admitted {
            generation: self.generation,
            key: ask.key.clone(),
            client: ask.client.clone(),
            cost: ask.cost,
            service,
            latency,
            input_tokens: ask.input_tokens,
            output_tokens: output.min(ask.output_tokens_max).max(1),
        })
    }

    /// What keeps a call from starting now. Counts and takes nothing.
    pub(crate) fn obstacle(&mut self, now: Nanos, ask: &Ask) -> Option<Limited> {
        self.accounts.get_mut(&ask.key)?.0.obstacle(now, &ask.cost)
    }

    /// Nanoseconds of service that a client had.
    pub(crate) fn served(&self, client: &str) -> u64 {
        self.clients.get(client).map_or(0, |counters| counters.service_ns)
    }

    /// Ends a call; `answered` says whether its caller stayed until the end. The output counts in either case: it was made.
    pub(crate) fn end(&mut self, now: Nanos, call: &Admitted, answered: bool) {
        if call.generation != self.generation {
            return;
        }
        let Some((account, by_key)) = self.accounts.get_mut(&call.key) else { return };
        account.end(now, &call.cost, call.output_tokens);
        let output_rate = self.limits.output_tokens.filter(|_| call.cost.output_applies);
        let more = busy(output_rate, call.output_tokens).saturating_sub(call.service);
        for counters in self.clients.get_mut(&call.client).into_iter().chain([by_key]) {
            counters.output_tokens += call.output_tokens;
            counters.service_ns += more;
            counters.ok += u64::from(answered);
        }
    }

    /// Counts a call that is wrong in itself, where its key and client are known already.
    pub(crate) fn count_invalid(&mut self, key: &str, client: &str) {
        let by_key = self.accounts.get_mut(key).map(|(_, counters)| counters);
        for counters in by_key.into_iter().chain(self.clients.get_mut(client)) {
            counters.requests += 1;
            counters.invalid += 1;
        }
    }

    pub(crate) fn levels(&mut self, now: Nanos, key: &str) -> Levels {
        self.accounts.get_mut(key).map(|(account, _)| account.levels(now)).unwrap_or_default()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    pub(crate) fn set_limits(&mut self, now: Nanos, limits: Limits) {
        self.possible.advance(now, &self.limits);
        self.limits = limits;
        for (account, _) in self.accounts.values_mut() {
            account.change(now, &limits);
        }
    }

    pub(crate) fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    pub(crate) fn stats(&mut self, now: Nanos) -> Stats {
        self.possible.advance(now, &self.limits);
        Stats {
            elapsed_ns: self.possible.elapsed(),
            possible: self.possible.amounts(),
            keys: self.accounts.iter().map(|(key, (_, counters))| (key.clone(), counters.clone())).collect(),
            clients: self.clients.iter().map(|(name, counters)| (name.clone(), counters.clone())).collect(),
        }
    }

    /// Forgets all counts, sequence numbers and what was taken: as if just started, with the limits of the moment.
    pub(crate) fn reset(&mut self, now: Nanos) {
        self.generation += 1;
        self.possible = Possible::starting(now);
        self.accounts.clear();
        self.clients.clear();
    }
}

/// How long a call keeps the limit busy that it needs longest, as far as its start tells.
fn service_at_start(limits: &Limits, cost: &Cost, service_time: Nanos) -> Nanos {
    let needs = [
        limits.concurrency.map_or(0, |slots| service_time / u64::from(slots)),
        busy(limits.requests, 1),
        busy(limits.input_tokens, cost.input_tokens.unwrap_or(0)),
        busy(limits.tokens, cost.tokens.unwrap_or(0)),
    ];
    needs.into_iter().max().unwrap_or(0)
}

fn busy(rate: Option<Rate>, amount: u64) -> Nanos {
    rate.map_or(0, |rate| {
        let nanos = u128::from(amount) * u128::from(MINUTE) / u128::from(rate.per_minute);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn world() -> World {
        World::new(&Config {
            limits: Limits {
                requests: Some(Rate::per_minute(60, 2)),
                output_tokens: Some(Rate::per_minute(6_000, 6_000)),
                ..Limits::default()
            },
            ..Config::default()
        })
    }

    fn ask(client: &str) -> Ask {
        Ask {
            key: "key".to_owned(),
            client: client.to_owned(),
            number: None,
            input_tokens: 10,
            output_tokens_max: 500,
            cost: Cost { input_tokens: Some(10), tokens: None, output_applies: true },
        }
    }

    #[test]
    fn counts_by_key_and_client_and_integrates_the_limit() {
        let mut world = world();
        let call = world.begin(0, &ask("a")).expect("full");
        world.begin(0, &ask("b")).expect("1 left");
        assert!(matches!(world.begin(0, &ask("b")), Err(Refusal::Limited(_))));
        world.end(SECOND, &call, true);
        world.set_limits(10 * SECOND, Limits { requests: Some(Rate::per_minute(600, 2)), ..world.limits() });
        let stats = world.stats(20 * SECOND);
        assert_eq!(stats.possible.requests, 10 + 100);
        assert_eq!((stats.keys["key"].requests, stats.keys["key"].limited_by.requests), (3, 1));
        assert_eq!((stats.clients["a"].ok, stats.clients["a"].output_tokens), (1, call.output_tokens));
        assert_eq!((stats.clients["b"].admitted, stats.clients["b"].limited), (1, 1));
        let bottleneck = SECOND.max(call.output_tokens * 10_000_000);
        assert_eq!(stats.clients["a"].service_ns, bottleneck);
    }

    #[test]
    fn a_reset_starts_the_same_sequence_again_and_forgets_calls_before_it() {
        let mut world = world();
        let first = world.begin(0, &ask("a")).expect("full");
        world.reset(SECOND);
        world.end(SECOND, &first, true);
        let again = world.begin(SECOND, &ask("a")).expect("full again");
        assert_eq!((again.latency, again.output_tokens), (first.latency, first.output_tokens));
        let stats = world.stats(2 * SECOND);
        assert_eq!((stats.elapsed_ns, stats.clients["a"].requests, stats.clients["a"].ok), (SECOND, 1, 0));
    }

    #[test]
    fn names_are_bounded() {
        let mut world = World::new(&Config {
            bounds: Bounds { keys: 1, clients: 2, ..Bounds::default() },
            ..Config::default()
        });
        world.begin(0, &ask("a")).expect("the first");
        world.begin(0, &ask("b")).expect("the second");
        assert!(matches!(world.begin(0, &ask("c")), Err(Refusal::Full("clients", 2))));
        assert!(matches!(
            world.begin(0, &Ask { key: "other".into(), ..ask("a") }),
            Err(Refusal::Full("keys", 1))
        ));
    }
}
