//! The Rust client of permitd, the rate-limit permit service: ask for a permit before each outbound call, report afterwards how it went.
//!
//! A permitd server holds the request, token and concurrency budgets of every (provider, key). All services that call the same API ask
//! it, and get their permits from one fair queue, as fast as the provider allows and no faster: no 429s, no idle quota, nobody starves.
//!
//! ```no_run
//! use permitd_client::{Client, Report};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(["http://127.0.0.1:7110"]).await?;
//!
//! // Waits in the queue of the budget `anthropic/prod`.
//! let guard = client.acquire("anthropic/prod").model("claude-sonnet-4-5").tokens(1_200).await?;
//! // ... make the call, then say what it used ...
//! let advice = guard.report(Report::success().input_tokens(812).output_tokens(96)).await?;
//! assert!(!advice.retry);
//! # Ok(()) }
//! ```
//!
//! # The map
//!
//! | to | use |
//! |---|---|
//! | connect | [`Client::connect`], or [`Client::builder`] for several endpoints, [`Tls`], a [`Token`], a tenant, an outage policy |
//! | get one permit | [`Client::acquire`], which gives a [`Guard`] |
//! | get many | [`Acquire::many`], a stream of guards with one place in the queue |
//! | say how it went | [`Guard::report`] with a [`Report`]; the answer is an [`Advice`] |
//! | do it all in one | [`Client::call`]; with retries and a closer look at results, [`Client::caller`] |
#![cfg_attr(feature = "tower", doc = "| put it in front of an HTTP client | [`tower::PermitLayer`] |")]
#![cfg_attr(feature = "reqwest", doc = "| put it in front of `reqwest` | [`reqwest::PermitMiddleware`] |")]
//! | know why not | [`Error`]: `is_refused`, `is_timeout`, `is_unavailable`, `limit`, `retry_after` |
//!
//! # What it takes care of
//!
//! - **Nothing leaks.** A future that is dropped leaves the queue. A [`Guard`] that is dropped settles by itself. A guard that lives long is
//!   extended.
//! - **Deadlines** ([`Request::max_wait`], [`Request::timeout`]) are sent along, so that what cannot be in time is refused at once.
//! - **Reconnecting.** A broken session is resumed, on the same or another endpoint: requests keep their places, grants and
//!   reports that were on their way are neither lost nor doubled. Callers do not notice.
//! - **Outages.** When no server can be reached for a while, the [`OutagePolicy`] decides.
//! - **Speed.** All clones of a [`Client`] share one stream; whatever is ready goes out in one message. No task per request.
//!
//! # Features
//!
//! `tower` (default): a [`tower`] layer. `http`: [`Report::response`] and [`ByResponse`]; part of `tower`. `body`: what bodies of requests and
//! responses say of usage. `reqwest`: a middleware for `reqwest`, with `body`.

mod acquire;
#[cfg(feature = "body")]
pub mod body;
mod builder;
mod call;
mod client;
mod convert;
mod credentials;
mod driver;
mod error;
mod guard;
mod mailbox;
mod report;
mod request;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tower")]
pub mod tower;
mod usage;

/// For the command line of permitd, which secures connections as this crate does: no part of the interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::credentials::Credentials;
}

#[cfg(feature = "http")]
pub use call::ByResponse;
pub use {
    acquire::{Acquire, Acquiring, Grants},
    builder::{ClientBuilder, OutagePolicy},
    call::{ByResult, CallError, Caller, Classify},
    client::Client,
    credentials::{Tls, Token},
    error::Error,
    guard::{Guard, Permit, Reporting, Source},
    report::{Advice, BODY_BYTES_MAX, Outcome, Report},
    request::{COUNT_MAX, Priority, Request},
    usage::Usage,
};
