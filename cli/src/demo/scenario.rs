//! What the demo sets up: one provider key with limits, and clients with work for it. Both phases get the same.

use std::time::Duration;

use permitd_lab::provider::{Behaviour, Config, Limits, Rate};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, LogNormal};
use serde::{Deserialize, Serialize};

use crate::format::grouped;

/// What the limits allow at least, in calls per second ...
const CALLS_PER_SECOND: u64 = 30;
/// ... and at least for each client, so that a larger fleet still makes enough calls each to compare.
const CALLS_PER_SECOND_EACH: u64 = 3;
/// How many calls a worker keeps going at a time.
const WORKER_SLOTS: u32 = 6;
/// The greedy client has so many times a worker's slots.
const GREEDY_SLOTS_FACTOR: u32 = 10;
/// ... and so many times a worker's calls to make.
const GREEDY_WORK_FACTOR: u64 = 3;

/// The shortest demo that measures anything.
pub(crate) const SECONDS_MIN: u64 = 10;
/// The longest.
pub(crate) const SECONDS_MAX: u64 = 3_600;
/// Fewer could not keep their shares busy.
pub(crate) const CLIENTS_MIN: u32 = 5;
/// Each is a process.
pub(crate) const CLIENTS_MAX: u32 = 32;

/// The whole set-up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    /// How long the whole may take.
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    /// What the provider enforces.
    pub(crate) limits: Limits,
    pub(crate) clients: Vec<ClientSpec>,
}

/// One client process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClientSpec {
    /// Its tenant, and its name in the provider's counters.
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) work: Work,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// So many calls, so many of them at a time, as fast as it is let.
    Batch { calls: u64, slots: u32 },
    /// A small call every second or so, for somebody who waits for it, until told to stop.
    Interactive,
}

/// One call of a client. The number decides it, so that both phases make the same calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: u64,
    /// Characters of the prompt.
    pub(crate) prompt_chars: usize,
    pub(crate) max_tokens: u64,
}

impl Scenario {
    pub(crate) fn new(seconds: u64, seed: u64, clients: u32) -> Self {
        let seconds = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
        let clients = u64::from(clients.clamp(CLIENTS_MIN, CLIENTS_MAX));
        let workers = clients - 2;
        let per_second = CALLS_PER_SECOND.max(CALLS_PER_SECOND_EACH * clients);
        // At the limit, all the work takes 36 % of the time: the other phase may take longer, and starting takes some too.
        let calls = per_second * seconds * 36 / 100;
        let calls_of_worker = (calls / (workers + GREEDY_WORK_FACTOR)).max(1);
        let worker = Work::Batch { calls: calls_of_worker, slots: WORKER_SLOTS };
        let greedy = Work::Batch {
            calls: calls_of_worker * GREEDY_WORK_FACTOR,
            slots: WORKER_SLOTS * GREEDY_SLOTS_FACTOR,
        };
        let named = (1..=workers).map(|number| (format!("worker-{number}"), worker));
        let named =
            named.chain([("greedy".to_owned(), greedy), ("interactive".to_owned(), Work::Interactive)]);
        let clients = named
            .zip(1..)
            .map(|((name, work), number)| ClientSpec {
                name,
                seed: seed.wrapping_mul(1_000).wrapping_add(number),
                work,
            })
            .collect();
        Self { seconds, seed, limits: enforced(per_second), clients }
    }

    /// What the simulated provider is told.
    pub(crate) fn provider(&self) -> Config {
        let behaviour = Behaviour { latency_median_ms: 400, output_mean: 280, ..Behaviour::default() };
        Config { seed: self.seed, limits: self.limits, behaviour, ..Config::default() }
    }

    /// What permitd is told of the provider's limits, in the words of `permitd budgets set`: the same amounts per minute, and
    /// less at once. Calls are under way for a while, some longer than others, so that they arrive closer together than
    /// they were let go; the difference makes room for that. It is an amount, not a share of the rate.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let rates = [
            ("requests", self.limits.requests),
            ("input_tokens", self.limits.input_tokens),
            ("output_tokens", self.limits.output_tokens),
        ];
        let declared = rates.into_iter().filter_map(|(unit, rate)| {
            let rate = rate?;
            Some(Declared { unit, per_minute: rate.per_minute, burst: rate.burst / 2 })
        });
        declared.collect()
    }

    /// What is about to be seen.
    pub(crate) fn introduction(&self) -> String {
        let amount = |rate: Option<Rate>| {
            rate.map_or_else(|| "any number of".to_owned(), |rate| grouped(rate.per_minute))
        };
        let Limits { requests, input_tokens, output_tokens, .. } = self.limits;
        let workers = self.clients.len() - 2;
        let calls: u64 = self.clients.iter().filter_map(ClientSpec::calls).sum();
        format!(
            "One provider key: {} requests, {} input tokens and {} output tokens a minute, enforced.\n\
             {} client processes share it: {workers} equal workers, a greedy one with {GREEDY_SLOTS_FACTOR} times their concurrency, \
             and one that somebody waits for.\n\
             {calls} calls to make, twice. About {} seconds.",
            amount(requests),
            amount(input_tokens),
            amount(output_tokens),
            self.clients.len(),
            self.seconds,
        )
    }

    /// When a phase is over, done or not.
    pub(crate) fn phase_at_most(&self) -> Duration {
        Duration::from_millis(self.seconds * 540)
    }
}

/// A limit as permitd is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Declared {
    pub(crate) unit: &'static str,
    pub(crate) per_minute: u64,
    pub(crate) burst: u64,
}

impl ClientSpec {
    /// The client's call of that number.
    pub(crate) fn call(&self, number: u64) -> Call {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ number.rotate_left(32));
        match self.work {
            Work::Batch { .. } => {
                let chars =
                    LogNormal::new(8.1, 0.5).expect("the spread is a positive literal").sample(&mut random);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive; clamped next"
                )]
                let prompt_chars = (chars as usize).clamp(400, 24_000);
                Call { number, prompt_chars, max_tokens: 1_024 }
            }
            Work::Interactive => Call { number, prompt_chars: random.random_range(200..800), max_tokens: 64 },
        }
    }

    /// How many calls the client has to make; `None` for one that goes on until it is stopped.
    pub(crate) fn calls(&self) -> Option<u64> {
        match self.work {
            Work::Batch { calls, .. } => Some(calls),
            Work::Interactive => None,
        }
    }
}

/// Requests bind most of the time, tokens now and then: mean prompts take 85 % of what may go in, mean outputs 84 % of what may come
/// out. A bucket of requests holds one second's amount, so that some seconds measure the sustained rate. Outputs get some more: a
/// caller with no history has to reserve its `max_tokens`.
fn enforced(per_second: u64) -> Limits {
    let per_minute = per_second * 60;
    Limits {
        requests: Some(Rate::per_minute(per_minute, per_second)),
        input_tokens: Some(Rate::per_minute(per_minute * 1_100, per_second * 3_300)),
        output_tokens: Some(Rate::per_minute(per_minute * 333, per_second * 2_000)),
        tokens: None,
        concurrency: None,
        capacity: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_decided_by_seed_and_number() {
        let client = |seed| Scenario::new(30, seed, 8).clients[0].clone();
        assert_eq!(client(1).call(5), client(1).call(5));
        assert_ne!(client(1).call(5), client(1).call(6));
        assert_ne!(client(1).call(5), client(2).call(5));
    }

    #[test]
    fn the_fleet_is_workers_a_greedy_one_and_an_interactive_one() {
        let scenario = Scenario::new(30, 1, 8);
        let names: Vec<&str> = scenario.clients.iter().map(|client| client.name.as_str()).collect();
        assert_eq!(names.len(), 8);
        assert_eq!((names[0], names[6], names[7]), ("worker-1", "greedy", "interactive"));
        let calls: u64 = scenario.clients.iter().filter_map(ClientSpec::calls).sum();
        assert_eq!(calls, 36 * 9);
    }

    #[test]
    fn prompts_leave_tokens_in_partly_binding() {
        let worker = Scenario::new(30, 1, 8).clients[0].clone();
        let chars: usize = (0..10_000).map(|number| worker.call(number).prompt_chars).sum();
        let mean_tokens = chars / 10_000 / 4;
        assert!(
            (850..1_000).contains(&mean_tokens),
            "{mean_tokens} of the 1100 that the limit allows for each call"
        );
    }
}
