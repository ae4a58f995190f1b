//! Flags that say how much a call uses.

use clap::Args;
use permitd_proto::v1;

use crate::limits::{amount, unit_amount};

const ESTIMATE: &str = "What one call is expected to use";
const ACTUAL: &str = "What the call used (default: as charged)";

/// What one call is expected to use.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Estimate {
    /// Input tokens; what comes out is learned from reports and charged on top. Next to --input-tokens or
    /// --output-tokens: both together.
    #[arg(help_heading = ESTIMATE, long, value_name = "N", value_parser = amount)]
    tokens: Option<u64>,
    /// Input tokens.
    #[arg(help_heading = ESTIMATE, long, value_name = "N", value_parser = amount)]
    input_tokens: Option<u64>,
    /// Output tokens.
    #[arg(help_heading = ESTIMATE, long, value_name = "N", value_parser = amount)]
    output_tokens: Option<u64>,
    /// The most output tokens that the call can return.
    #[arg(help_heading = ESTIMATE, long, value_name = "N", value_parser = amount)]
    max_output_tokens: Option<u64>,
    /// Requests; default 1.
    #[arg(help_heading = ESTIMATE, long, value_name = "N", value_parser = amount)]
    requests: Option<u64>,
    /// Any further unit, for example points=5. Can be repeated.
    #[arg(help_heading = ESTIMATE, long = "unit", value_name = "NAME=N", value_parser = unit_amount)]
    units: Vec<(String, u64)>,
}

/// What the call used in the end.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Actual {
    /// Tokens, input and output together.
    #[arg(help_heading = ACTUAL, long, value_name = "N", value_parser = amount)]
    tokens: Option<u64>,
    /// Input tokens.
    #[arg(help_heading = ACTUAL, long, value_name = "N", value_parser = amount)]
    input_tokens: Option<u64>,
    /// Output tokens.
    #[arg(help_heading = ACTUAL, long, value_name = "N", value_parser = amount)]
    output_tokens: Option<u64>,
    /// The part of the input that the provider read from its cache.
    #[arg(help_heading = ACTUAL, long, value_name = "N", value_parser = amount)]
    cached_input_tokens: Option<u64>,
    /// Requests.
    #[arg(help_heading = ACTUAL, long, value_name = "N", value_parser = amount)]
    requests: Option<u64>,
    /// Any further unit, for example points=5. Can be repeated.
    #[arg(help_heading = ACTUAL, long = "unit", value_name = "NAME=N", value_parser = unit_amount)]
    units: Vec<(String, u64)>,
}

impl Estimate {
    pub(crate) fn into_wire(self) -> v1::Usage {
        v1::Usage {
            requests: self.requests,
            tokens: self.tokens,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            max_output_tokens: self.max_output_tokens,
            cached_input_tokens: None,
            other: self.units.into_iter().collect(),
        }
    }
}

impl Actual {
    pub(crate) fn into_wire(self) -> v1::Usage {
        v1::Usage {
            requests: self.requests,
            tokens: self.tokens,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            max_output_tokens: None,
            cached_input_tokens: self.cached_input_tokens,
            other: self.units.into_iter().collect(),
        }
    }
}
