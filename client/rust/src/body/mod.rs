//! What the bodies of requests and responses say of usage, in the words of the providers whose SDKs people use.

mod estimate;
mod stream;
mod told;

pub use {estimate::estimate, stream::UsageReader};

use crate::Usage;

/// What a response's body says was used; what it does not say is absent.
///
/// ```
/// let usage = permitd_client::body::usage(r#"{"usage":{"prompt_tokens":9,"completion_tokens":4}}"#);
/// assert_eq!((usage.input_tokens, usage.output_tokens), (Some(9), Some(4)));
/// ```
#[must_use]
pub fn usage(body: impl AsRef<[u8]>) -> Usage {
    // A body that is no JSON, or says it in some other way, says nothing.
    told::Told::read(body.as_ref()).unwrap_or_default().usage()
}
