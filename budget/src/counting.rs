//! How a provider counts tokens: what a permit holds of them before the call, and what counts once it is over.
//!
//! Nothing here touches what comes out as such (`output_tokens`): only the input that a cache served, and the sum of input and
//! output (`tokens`).

use std::num::NonZeroU64;

/// How the calls to some models are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CountingSpec {
    /// A glob over models; empty means all. The first that matches counts.
    pub models: String,
    /// How they are counted.
    pub counting: Counting,
}

/// How a provider counts tokens. The default: everything that goes in or comes out, once, as it really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counting {
    /// The part of the input from the provider's cache that counts as input, in per cent. At most 100.
    pub cached_input_percent: u32,
    /// The output that an estimate supposes where the caller leaves it open and nothing was learned yet.
    pub output_default: u64,
    /// What a permit holds of `tokens`.
    pub held: Held,
    /// What counts of `tokens` in the end.
    pub settled: Settled,
}

/// What a permit holds of `tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Held {
    /// Input and the output that is expected, weighed as in the end.
    #[default]
    Expected,
    /// Input and the largest output that the caller allows, where it says so.
    Bound,
    /// The larger of input and the largest output that the caller allows.
    Larger,
}

/// What counts of `tokens` in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settled {
    /// Input and so many per cent of the output.
    Used {
        /// 100 counts it once, 500 five times, 0 not at all. At most [`bounds::PERCENT`](crate::bounds::PERCENT).
        output_percent: u32,
    },
    /// What was held, with the input as it really was: the provider counts when the call starts, and gives nothing back.
    AsHeld,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            cached_input_percent: 100,
            output_default: 0,
            held: Held::default(),
            settled: Settled::default(),
        }
    }
}

impl Default for Settled {
    fn default() -> Self {
        Self::Used { output_percent: 100 }
    }
}

impl Counting {
    /// `tokens` before the call. `bound` is the largest output that the caller allows.
    pub(crate) fn held(self, input: u64, output: u64, bound: Option<NonZeroU64>) -> u64 {
        match self.held {
            Held::Expected => input.saturating_add(percent(output, self.expected_percent())),
            Held::Bound => input.saturating_add(bound.map_or(output, NonZeroU64::get)),
            Held::Larger => input.max(bound.map_or(output, NonZeroU64::get)),
        }
    }

    /// `tokens` after the call.
    pub(crate) fn settled(self, input: u64, output: u64, bound: Option<NonZeroU64>) -> u64 {
        match self.settled {
            Settled::Used { output_percent } => input.saturating_add(percent(output, output_percent)),
            Settled::AsHeld => self.held(input, output, bound),
        }
    }

    /// Whether `tokens` are input and output as they really were.
    pub(crate) fn is_plain(self) -> bool {
        self.settled == Settled::Used { output_percent: 100 }
    }

    /// The input that counts if `cached` of it came from the cache.
    pub(crate) fn input(self, input: u64, cached: u64) -> u64 {
        let cached = cached.min(input);
        (input - cached).saturating_add(percent(cached, self.cached_input_percent))
    }

    /// The largest output with which a permit holds at most `most` of `tokens`.
    pub(crate) fn output_within(self, most: u64, input: u64, bound: Option<NonZeroU64>) -> u64 {
        match (self.held, bound) {
            (Held::Bound | Held::Larger, Some(_)) => u64::MAX,
            (Held::Larger, None) => most,
            (Held::Bound, None) => most.saturating_sub(input),
            (Held::Expected, _) => match self.expected_percent() {
                0 => u64::MAX,
                weight => {
                    let room = u128::from(most.saturating_sub(input)) * 100 / u128::from(weight);
                    u64::try_from(room).unwrap_or(u64::MAX)
                }
            },
        }
    }

    fn expected_percent(self) -> u32 {
        match self.settled {
            Settled::Used { output_percent } => output_percent,
            Settled::AsHeld => 100,
        }
    }
}

/// Rounded up, so that nothing is ever counted short.
fn percent(amount: u64, percent: u32) -> u64 {
    let weighed = (u128::from(amount) * u128::from(percent)).div_ceil(100);
    u64::try_from(weighed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the cache served is rounded up, and never more than what went in.
    #[test]
    fn cached_input() {
        let free = Counting { cached_input_percent: 0, ..Counting::default() };
        assert_eq!(free.input(100, 90), 10);
        assert_eq!(free.input(100, u64::MAX), 0);
        let tenth = Counting { cached_input_percent: 10, ..Counting::default() };
        assert_eq!(tenth.input(100, 95), 15, "5 + 9.5, rounded up");
        assert_eq!(Counting::default().input(u64::MAX, 7), u64::MAX);
    }

    /// Goal: the output that fits is the largest that does.
    #[test]
    fn output_within_is_tight() {
        for output_percent in [0, 1, 33, 100, 500] {
            let counting = Counting { settled: Settled::Used { output_percent }, ..Counting::default() };
            let output = counting.output_within(1_000, 100, None);
            assert!(counting.held(100, output, None) <= 1_000 || output_percent == 0, "{output_percent}");
            if output_percent > 0 {
                assert!(counting.held(100, output + 1, None) > 1_000, "{output_percent}");
            }
        }
        let larger = Counting { held: Held::Larger, settled: Settled::AsHeld, ..Counting::default() };
        assert_eq!(larger.output_within(1_000, 100, None), 1_000);
        assert_eq!(
            larger.output_within(1_000, 100, NonZeroU64::new(5)),
            u64::MAX,
            "the bound holds it, not the guess"
        );
    }

    /// Goal: amounts of any size are weighed without a wrap.
    #[test]
    fn saturates() {
        let burn = Counting { settled: Settled::Used { output_percent: 1_000 }, ..Counting::default() };
        assert_eq!(burn.settled(u64::MAX, u64::MAX, None), u64::MAX);
        assert_eq!(burn.held(1, u64::MAX, None), u64::MAX);
    }
}
