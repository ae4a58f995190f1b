//! All limits of one key: a call passes all of them or is refused by one, and then takes from none.

use serde::{Deserialize, Serialize};

use super::{
    buckets::{Bucket, Fit, Nanos},
    config::{Limits, Rate},
    crew::Crew,
};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Calls.
    Requests,
    /// Tokens going in.
    InputTokens,
    /// Tokens coming out.
    OutputTokens,
    /// Tokens as OpenAI counts them.
    Tokens,
    /// Calls at the same time.
    Concurrency,
}

/// What a call takes when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of the limit on tokens going in.
    pub input_tokens: Option<u64>,
    /// Of the limit on tokens in all.
    pub tokens: Option<u64>,
    /// Whether the limit on tokens coming out applies, which is taken from when the call ends.
    pub output_applies: bool,
}

/// Which limit refused a call, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The limit.
    pub dimension: Dimension,
    /// Its amount per minute, or at the same time.
    pub limit: u64,
    /// What the call would have taken.
    pub requested: u64,
    /// After how long it would fit. `None` where that is unknown (concurrency), or never.
    pub wait: Option<Nanos>,
    /// Whether the call takes more than the limit ever holds.
    pub never: bool,
}

/// A limit as headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The amount per minute.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// How long until it is full again.
    pub full_after: Nanos,
}

/// Levels of all rate limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of calls.
    pub requests: Option<Level>,
    /// Of tokens going in.
    pub input_tokens: Option<Level>,
    /// Of tokens coming out.
    pub output_tokens: Option<Level>,
    /// Of tokens in all.
    pub tokens: Option<Level>,
}

/// The limits of one key and what is left of them.
#[derive(Clone, Debug)]
pub struct Account {
    requests: Option<Bucket>,
    input_tokens: Option<Bucket>,
    output_tokens: Option<Bucket>,
    tokens: Option<Bucket>,
    concurrency: Option<u32>,
    running: u32,
    crew: Option<Crew>,
}

impl Account {
    /// With full buckets.
    #[must_use]
    pub fn new(limits: &Limits, now: Nanos) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::full(rate, now));
        Self {
            requests: bucket(limits.requests),
            input_tokens: bucket(limits.input_tokens),
            output_tokens: bucket(limits.output_tokens),
            tokens: bucket(limits.tokens),
            concurrency: limits.concurrency,
            running: 0,
            crew: limits.capacity.map(|capacity| Crew::new(capacity, now)),
        }
    }

    /// Lets a call start, or says which limit it would break. With several broken, the one that takes longest to clear.
    ///
    /// # Errors
    /// The limit that refused.
    pub fn start(&mut self, now: Nanos, cost: &Cost) -> Result<(), Limited> {
        if let Some(limited) = self.obstacle(now, cost) {
            return Err(limited);
        }
        take(&mut self.requests, now, 1);
        take(&mut self.input_tokens, now, cost.input_tokens.unwrap_or(0));
        take(&mut self.tokens, now, cost.tokens.unwrap_or(0));
        self.running += 1;
        Ok(())
    }

    /// How long a call that has started waits inside until it is worked on, which takes so long.
    pub fn wait_inside(&mut self, now: Nanos, service: Nanos) -> Nanos {
        self.crew.as_mut().map_or(0, |crew| crew.give(now, service))
    }

    /// What a refused call costs where refused calls count.
    pub fn count_refused(&mut self, now: Nanos) {
        if let Some(requests) = &mut self.requests {
            requests.waste(now, 1);
        }
    }

    /// Ends a call that had started; what came out is taken now, known at last.
    pub fn end(&mut self, now: Nanos, cost: &Cost, output_tokens: u64) {
        if cost.output_applies {
            take(&mut self.output_tokens, now, output_tokens);
        }
        self.running = self.running.saturating_sub(1);
    }

    /// Other limits from now on. What was left stays as far as it fits; a new limit starts full.
    pub fn change(&mut self, now: Nanos, limits: &Limits) {
        let change = |bucket: &mut Option<Bucket>, rate: Option<Rate>| match (bucket.as_mut(), rate) {
            (Some(bucket), Some(rate)) => bucket.change(now, rate),
            (_, rate) => *bucket = rate.map(|rate| Bucket::full(rate, now)),
        };
        change(&mut self.requests, limits.requests);
        change(&mut self.input_tokens, limits.input_tokens);
        change(&mut self.output_tokens, limits.output_tokens);
        change(&mut self.tokens, limits.tokens);
        self.concurrency = limits.concurrency;
        self.crew = limits.capacity.map(|capacity| match self.crew.take() {
            Some(crew) => crew.resized(capacity, now),
            None => Crew::new(capacity, now),
        });
    }

    /// What is left of everything.
    pub fn levels(&mut self, now: Nanos) -> Levels {
        let level = |bucket: &mut Option<Bucket>| {
            bucket.as_mut().map(|bucket| Level {
                limit: bucket.rate().per_minute,
                remaining: bucket.remaining(now),
                full_after: bucket.full_after(now),
            })
        };
        Levels {
            requests: level(&mut self.requests),
            input_tokens: level(&mut self.input_tokens),
            output_tokens: level(&mut self.output_tokens),
            tokens: level(&mut self.tokens),
        }
    }

    /// The limit that a call would break if it started now; with several, the one that takes longest to clear. Takes nothing.
    pub fn obstacle(&mut self, now: Nanos, cost: &Cost) -> Option<Limited> {
        // The output of a call is not known when it starts: it may start as long as anything is left.
        let output = cost.output_applies.then_some(1);
        let rates = [
            (Dimension::Requests, &mut self.requests, Some(1)),
            (Dimension::InputTokens, &mut self.input_tokens, cost.input_tokens),
            (Dimension::OutputTokens, &mut self.output_tokens, output),
            (Dimension::Tokens, &mut self.tokens, cost.tokens),
        ];
        let slowest = rates
            .into_iter()
            .filter_map(|(dimension, bucket, amount)| {
                let (bucket, requested) = (bucket.as_mut()?, amount?);
                let (wait, never) = match bucket.fits(now, requested) {
                    Fit::Now => return None,
                    Fit::After(wait) => (Some(wait), false),
                    Fit::Never => (None, true),
                };
                Some(Limited { dimension, limit: bucket.rate().per_minute, requested, wait, never })
            })
            .max_by_key(|limited| (limited.never, limited.wait));
        slowest.or_else(|| {
            let limit = self.concurrency.filter(|limit| self.running >= *limit)?;
            let limit = u64::from(limit);
            Some(Limited { dimension: Dimension::Concurrency, limit, requested: 1, wait: None, never: false })
        })
    }
}

fn take(bucket: &mut Option<Bucket>, now: Nanos, amount: u64) {
    if let Some(bucket) = bucket {
        bucket.take(now, amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn anthropic(input: u64) -> Cost {
        Cost { input_tokens: Some(input), tokens: None, output_applies: true }
    }

    fn limits() -> Limits {
        Limits {
            requests: Some(Rate::per_minute(60, 3)),
            input_tokens: Some(Rate::per_minute(6_000, 500)),
            output_tokens: Some(Rate::per_minute(600, 100)),
            concurrency: Some(2),
            ..Limits::default()
        }
    }

    #[test]
    fn a_refused_call_takes_from_no_limit() {
        let mut account = Account::new(&limits(), 0);
        account.start(0, &anthropic(450)).expect("everything is full");
        let before = account.levels(0);
        let limited = account.start(0, &anthropic(100)).expect_err("50 are left");
        assert_eq!(limited.dimension, Dimension::InputTokens);
        assert_eq!(limited.wait, Some(SECOND / 2));
        assert_eq!(account.levels(0), before);
    }

    #[test]
    fn output_is_taken_when_the_call_ends_and_may_make_debt() {
        let mut account = Account::new(&limits(), 0);
        account.start(0, &anthropic(1)).expect("everything is full");
        assert_eq!(account.levels(0).output_tokens.expect("limited").remaining, 100);
        account.end(0, &anthropic(1), 150);
        let limited = account.start(0, &anthropic(1)).expect_err("in debt");
        assert_eq!(
            (limited.dimension, limited.wait),
            (Dimension::OutputTokens, Some(5 * SECOND + SECOND / 10))
        );
    }

    #[test]
    fn concurrency_counts_calls_that_have_not_ended() {
        let mut account = Account::new(&limits(), 0);
        account.start(0, &anthropic(1)).expect("1 of 2");
        account.start(0, &anthropic(1)).expect("2 of 2");
        let limited = account.start(0, &anthropic(1)).expect_err("3 of 2");
        assert_eq!((limited.dimension, limited.limit, limited.wait), (Dimension::Concurrency, 2, None));
        account.end(0, &anthropic(1), 1);
        account.start(0, &anthropic(1)).expect("2 of 2 again");
    }

    #[test]
    fn the_longest_wait_is_told_and_impossible_is_not_a_wait() {
        let mut account = Account::new(&limits(), 0);
        account.end(0, &anthropic(1), 200);
        for _ in 0..3 {
            account.count_refused(0);
        }
        let limited = account.start(0, &anthropic(1)).expect_err("requests after 1 s, output after 10.1 s");
        assert_eq!(limited.dimension, Dimension::OutputTokens);
        let limited = account.start(0, &anthropic(501)).expect_err("never");
        assert_eq!((limited.dimension, limited.wait, limited.never), (Dimension::InputTokens, None, true));
    }

    #[test]
    fn a_limit_that_is_added_starts_full_and_one_taken_away_is_gone() {
        let mut account = Account::new(&limits(), 0);
        account.change(0, &Limits { tokens: Some(Rate::per_minute(100, 0)), ..Limits::default() });
        let levels = account.levels(0);
        assert_eq!((levels.requests, levels.tokens.map(|level| level.remaining)), (None, Some(100)));
    }
}
