//! What a budget has granted in about the last minute, of the units that providers limit most: the first guess for a limit
//! that nobody declared and the provider enforces all the same.

use std::time::Duration;

use crate::{
    time::{Time, nanos},
    usage::{Amounts, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOKENS},
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_NANOS: u64 = 60_000_000_000;

/// What so much a minute comes to in another window.
pub(crate) fn in_window(per_minute: u64, per: Duration) -> u64 {
    let units = u128::from(per_minute) * u128::from(nanos(per)) / u128::from(MINUTE_NANOS);
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: u64,
    tokens: u64,
    input_tokens: u64,
    output_tokens: u64,
}

/// Sums of this minute and of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    minute: u64,
    this: Sums,
    before: Sums,
}

impl Recent {
    #[inline]
    pub(crate) fn grant(&mut self, charge: &Amounts, now: Time) {
        let minute = now.as_nanos() / MINUTE_NANOS;
        if minute != self.minute {
            self.before = if minute == self.minute + 1 { self.this } else { Sums::default() };
            (self.this, self.minute) = (Sums::default(), minute);
        }
        let add = |sum: &mut u64, amount: u64| *sum = sum.saturating_add(amount);
        add(&mut self.this.requests, charge.requests);
        add(&mut self.this.tokens, charge.tokens);
        add(&mut self.this.input_tokens, charge.input_tokens);
        add(&mut self.this.output_tokens, charge.output_tokens);
    }

    /// Units granted in about the last minute; `None` for a unit that is not counted.
    pub(crate) fn per_minute(&self, unit: &str) -> Option<u64> {
        let of = |sums: &Sums| match unit {
            REQUESTS => Some(sums.requests),
            TOKENS => Some(sums.tokens),
            INPUT_TOKENS => Some(sums.input_tokens),
            OUTPUT_TOKENS => Some(sums.output_tokens),
            _ => None,
        };
        Some(of(&self.this)?.max(of(&self.before)?))
    }
}
