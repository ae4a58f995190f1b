//! Amounts per unit: what is asked for, what is charged, what was used, and the rules between them.

use std::num::NonZeroU64;

use crate::counting::Counting;

/// The unit of calls.
pub const REQUESTS: &str = "requests";
/// The unit of input plus output.
pub const TOKENS: &str = "tokens";
/// The unit of what goes into a model.
pub const INPUT_TOKENS: &str = "input_tokens";
/// The unit of what comes out of a model.
pub const OUTPUT_TOKENS: &str = "output_tokens";
/// The unit of calls at the same time.
pub const IN_FLIGHT: &str = "in_flight";

/// Further units that one request may name.
pub const OTHER_UNITS_MAX: usize = 16;

/// A further unit by its name, and its amount.
pub type OtherUnit = (Box<str>, u64);

/// What a caller says: absent means unknown in an estimate, as charged in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls; unknown means 1.
    pub requests: Option<u64>,
    /// Input and output together; alone, in an estimate, it counts as input.
    pub tokens: Option<u64>,
    /// What goes in.
    pub input_tokens: Option<u64>,
    /// What comes out.
    pub output_tokens: Option<u64>,
    /// A bound on what comes out, for estimates only.
    pub max_output_tokens: Option<u64>,
    /// The part of what goes in that the provider read from its cache, for reports only.
    pub cached_input_tokens: Option<u64>,
    /// Further units by name, at most [`OTHER_UNITS_MAX`].
    pub other: Vec<OtherUnit>,
}

/// What a permit holds, or has used: an amount for every unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Calls.
    pub requests: u64,
    /// What goes in.
    pub input_tokens: u64,
    /// What comes out.
    pub output_tokens: u64,
    /// Input and output together, as the provider counts them.
    pub tokens: u64,
    /// The largest output that the caller allows, if it said so. One that allows none needs no bound.
    pub output_bound: Option<NonZeroU64>,
    /// Further units by name.
    pub other: Option<Box<[OtherUnit]>>,
}

impl Usage {
    /// Nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            requests: None,
            tokens: None,
            input_tokens: None,
            output_tokens: None,
            max_output_tokens: None,
            cached_input_tokens: None,
            other: Vec::new(),
        }
    }

    /// So many tokens and nothing else known.
    #[must_use]
    pub fn of_tokens(tokens: u64) -> Self {
        Self { tokens: Some(tokens), ..Self::default() }
    }

    /// Whether the token units contradict each other, and how.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let total = self.tokens?;
        match (self.input_tokens, self.output_tokens) {
            (Some(input), Some(output)) if input.checked_add(output) != Some(total) => Some(format!(
                "tokens is {total}, but input_tokens + output_tokens is {}",
                input.saturating_add(output)
            )),
            (Some(part), None) if part > total => {
                Some(format!("input_tokens is {part}, more than tokens, {total}"))
            }
            (None, Some(part)) if part > total => {
                Some(format!("output_tokens is {part}, more than tokens, {total}"))
            }
            _ => None,
        }
    }

    /// What a permit for this estimate is charged. `learned_output` is what the tenant and model used before; it stands in for
    /// an output that the caller leaves open, at most `max_output_tokens`.
    pub(crate) fn charge(self, learned_output: Option<u64>, counting: Counting) -> Amounts {
        let open_output = || match (learned_output, self.max_output_tokens) {
            (Some(learned), Some(most)) => learned.min(most),
            (Some(learned), None) => learned,
            (None, most) => most.unwrap_or(counting.output_default),
        };
        let (input, output) = match (self.tokens, self.input_tokens, self.output_tokens) {
            (_, Some(input), Some(output)) => (input, output),
            (Some(total), Some(input), None) => (input, total.saturating_sub(input)),
            (Some(total), None, Some(output)) => (total.saturating_sub(output), output),
            (Some(total), None, None) => (total, open_output()),
            (None, Some(input), None) => (input, open_output()),
            (None, None, Some(output)) => (0, output),
            (None, None, None) => (0, open_output()),
        };
        Amounts {
            requests: self.requests.unwrap_or(1),
            input_tokens: input,
            output_tokens: output,
            tokens: counting.held(input, output, self.max_output_tokens.and_then(NonZeroU64::new)),
            output_bound: self.max_output_tokens.and_then(NonZeroU64::new),
            other: (!self.other.is_empty()).then(|| self.other.into_boxed_slice()),
        }
    }

    /// Whether the output was left open, so that what is used teaches the next estimate.
    pub(crate) fn leaves_output_open(&self) -> bool {
        self.output_tokens.is_none() && !(self.tokens.is_some() && self.input_tokens.is_some())
    }

    /// The output that a report tells, given or from the other two.
    pub(crate) fn output_used(&self) -> Option<u64> {
        match (self.tokens, self.input_tokens, self.output_tokens) {
            (_, _, Some(output)) => Some(output),
            (Some(total), Some(input), None) => Some(total.saturating_sub(input)),
            _ => None,
        }
    }

    /// What was used in the end, where this is a report on a permit that holds `charged`.
    pub(crate) fn settle(&self, charged: &Amounts, counting: Counting) -> Amounts {
        let (input, output) = match (self.tokens, self.input_tokens, self.output_tokens) {
            (Some(total), None, None) => {
                let output = charged.output_tokens.min(total);
                (total - output, output)
            }
            (Some(total), Some(input), None) => (input, total.saturating_sub(input)),
            (Some(total), None, Some(output)) => (total.saturating_sub(output), output),
            (_, input, output) => {
                (input.unwrap_or(charged.input_tokens), output.unwrap_or(charged.output_tokens))
            }
        };
        let mut other: Vec<OtherUnit> = charged.other.as_deref().unwrap_or_default().to_vec();
        for (unit, amount) in &self.other {
            match other.iter_mut().find(|(known, _)| known == unit) {
                Some(known) => known.1 = *amount,
                None => other.push((unit.clone(), *amount)),
            }
        }
        let counted = counting.input(input, self.cached_input_tokens.unwrap_or(0));
        let tokens = match (self.tokens, self.input_tokens, self.output_tokens) {
            (Some(total), ..) if counted == input && counting.is_plain() => total,
            (None, None, None) if counted == input => charged.tokens,
            _ => counting.settled(counted, output, charged.output_bound),
        };
        Amounts {
            requests: self.requests.unwrap_or(charged.requests),
            input_tokens: counted,
            output_tokens: output,
            tokens,
            output_bound: charged.output_bound,
            other: (!other.is_empty()).then(|| other.into_boxed_slice()),
        }
    }
}

impl Amounts {
    /// Not even the call.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// Another output, the input as it is.
    pub(crate) fn set_output(&mut self, output: u64, counting: Counting) {
        self.output_tokens = output;
        self.tokens = counting.held(self.input_tokens, output, self.output_bound);
    }

    /// Cuts a guessed output to what the limits (unit, most) can ever grant.
    pub(crate) fn cut_output<'a>(
        &mut self,
        limits: impl Iterator<Item = (&'a str, u64)>,
        counting: Counting,
    ) {
        let most = limits.map(|(unit, most)| match unit {
            OUTPUT_TOKENS => most,
            TOKENS => counting.output_within(most, self.input_tokens, self.output_bound),
            _ => u64::MAX,
        });
        let output = most.fold(self.output_tokens, u64::min);
        self.set_output(output, counting);
    }

    /// The amount of a unit by its name; 0 for one that is not there. `in_flight` is always 1.
    #[must_use]
    pub fn of(&self, unit: &str) -> u64 {
        match unit {
            REQUESTS => self.requests,
            TOKENS => self.tokens,
            INPUT_TOKENS => self.input_tokens,
            OUTPUT_TOKENS => self.output_tokens,
            IN_FLIGHT => 1,
            _ => self
                .other
                .as_deref()
                .and_then(|other| other.iter().find(|(name, _)| &**name == unit))
                .map_or(0, |(_, amount)| *amount),
        }
    }
}
