//! The provider of a scenario: the simulator's accounts behind answers as the scenario describes them. A call is judged by the first
//! pool that its model belongs to.

use std::time::Duration;

use permitd_budget::{Observed, Outcome, Tripped, Window};

use super::{
    call::Call,
    expect::unit,
    file::{Manner, Scenario, WaitTold},
    ramp::Growth,
};
use crate::provider::{
    Behaviour, Limits,
    account::{Account, Dimension, Level, Limited},
    buckets::{MINUTE, Nanos},
    draws,
};

/// One second, in nanoseconds.
const SECOND: Nanos = 1_000_000_000;

/// The provider.
pub(super) struct Simulated {
    seed: u64,
    manner: Manner,
    behaviour: Behaviour,
    pools: Vec<(String, Account)>,
    growth: Option<Growth>,
    /// The provider's clock is ahead by so much, so that nobody knows where its windows begin.
    phase: Nanos,
    asked: u64,
}

/// What becomes of a call that arrives.
pub(super) enum Verdict {
    /// It takes so long, with what it waits inside.
    Started {
        latency: Nanos,
    },
    Refused(Refused),
}

/// A refusal, as the provider means it and as it tells it.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) why: Why,
    /// After how long the call would have fitted, if that is known.
    pub(super) needed: Option<Nanos>,
    /// What the caller is told.
    pub(super) told: Option<Nanos>,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A limit.
    Limit(Dimension),
    /// Growing too steeply.
    Ramp,
    /// No capacity for anybody.
    Overloaded,
    /// It takes more than the limit ever holds.
    TooLarge(Dimension),
}

impl Simulated {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let phase = draws::number(seed, "phase", "provider", 0) % MINUTE;
        let account = |limits: &Limits| Account::new(limits, phase);
        let pools = scenario.pools.iter();
        Self {
            seed,
            manner: scenario.provider.clone(),
            behaviour: scenario.behaviours[0].1,
            pools: pools.map(|pool| (pool.models.clone(), account(&pool.truth[0].1))).collect(),
            growth: scenario.provider.ramp.map(Growth::new),
            phase,
            asked: 0,
        }
    }

    /// Which pool a model belongs to.
    pub(super) fn pool_of(&self, model: &str) -> usize {
        let found = self.pools.iter().position(|(models, _)| model.starts_with(models));
        found.expect("checked on load: every model has a pool")
    }

    /// How many pools there are.
    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn change_limits(&mut self, now: Nanos, pool: usize, limits: &Limits) {
        self.pools[pool].1.change(now + self.phase, limits);
    }

    pub(super) fn change_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    pub(super) fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Lets a call start or refuses it. `counts` says whether a refusal may cost something: not at the oracle's door.
    pub(super) fn arrive(&mut self, now: Nanos, pool: usize, call: &Call, counts: bool) -> Verdict {
        let at = now + self.phase;
        self.asked += 1;
        if draws::overloaded(self.seed, "provider", self.asked, self.behaviour.overloaded) {
            return Verdict::Refused(self.refusal(Why::Overloaded, None));
        }
        if let Some(growth) = &mut self.growth
            && !growth.allows(at)
        {
            return Verdict::Refused(self.refusal(Why::Ramp, None));
        }
        let account = &mut self.pools[pool].1;
        if let Err(limited) = account.start(at, &call.cost()) {
            if counts && self.behaviour.refused_calls_count {
                account.count_refused(at);
            }
            let Limited { dimension, wait, never, .. } = limited;
            let why = if never { Why::TooLarge(dimension) } else { Why::Limit(dimension) };
            return Verdict::Refused(self.refusal(why, wait));
        }
        if let Some(growth) = &mut self.growth {
            growth.count();
        }
        let waits = account.wait_inside(at, call.latency);
        Verdict::Started { latency: waits.saturating_add(call.latency) }
    }

    /// Ends a call that had started.
    pub(super) fn end(&mut self, now: Nanos, pool: usize, call: &Call) {
        self.pools[pool].1.end(now + self.phase, &call.cost(), call.output);
    }

    /// What a response that leaves now says of the limits.
    pub(super) fn headers(&mut self, now: Nanos, pool: usize) -> Vec<Observed> {
        if !self.manner.headers {
            return Vec::new();
        }
        let (models, account) = &mut self.pools[pool];
        let levels = account.levels(now + self.phase);
        let told = [
            (Dimension::Requests, levels.requests),
            (Dimension::InputTokens, levels.input_tokens),
            (Dimension::OutputTokens, levels.output_tokens),
            (Dimension::Tokens, levels.tokens),
        ];
        let (times, rounded_to) = (self.manner.headers_times, self.manner.rounded_to.max(1));
        let observed = |of: Dimension, level: Level| {
            let limit = (level.limit as f64 * times).round() as u64;
            // Of a limit that is told too high as much is used as of the true one.
            let remaining = (level.remaining + limit).saturating_sub(level.limit);
            Observed {
                unit: unit(of).into(),
                per: Some(Duration::from_nanos(MINUTE)),
                models: if models.is_empty() { "".into() } else { format!("{models}*").into() },
                window: Window::Bucket,
                limit: Some(limit),
                remaining: Some(remaining / rounded_to * rounded_to),
                rounded_to,
                reset: Some(Duration::from_nanos(level.full_after)),
            }
        };
        told.into_iter().filter_map(|(of, level)| Some(observed(of, level?))).collect()
    }

    /// The outcome as whoever reads the answer understands it, and the dimensions that it names.
    pub(super) fn read(&self, why: Why) -> (Outcome, Vec<Tripped>) {
        if why == Why::Overloaded {
            return (Outcome::Overloaded, Vec::new());
        }
        if let Why::TooLarge(_) = why {
            return (Outcome::TooLarge, Vec::new());
        }
        if !self.manner.names_the_limit {
            return (Outcome::RateLimited, Vec::new());
        }
        match why {
            Why::Limit(Dimension::Concurrency) => (Outcome::ConcurrencyLimited, Vec::new()),
            Why::Limit(of) => {
                let per = Some(Duration::from_nanos(MINUTE));
                (Outcome::RateLimited, vec![Tripped { unit: unit(of).into(), per }])
            }
            Why::Ramp => (Outcome::AccelerationLimited, Vec::new()),
            Why::Overloaded | Why::TooLarge(_) => unreachable!("answered above"),
        }
    }

    fn refusal(&self, why: Why, needed: Option<Nanos>) -> Refused {
        let told = match self.manner.wait_told {
            _ if !self.behaviour.retry_after => None,
            WaitTold::Honest => needed.map(|needed| needed.div_ceil(SECOND) * SECOND),
            WaitTold::Times(times) => needed.map(|needed| (needed as f64 * times) as Nanos),
            WaitTold::Always(wait) => Some(wait.0),
        };
        Refused { why, needed, told }
    }
}
