//! The hot path: any number of requests for any number of budgets on one stream, with whatever is ready coalesced into one
//! message. One task serves a stream, and what it knows of its requests ([`core::Core`]) outlives it, so that another
//! connection can take them over.

mod again;
mod asking;
pub(crate) mod away;
mod batch;
mod cells;
mod codec;
mod core;
mod greeting;
mod inbound;
mod ledger;
mod message;
mod outgoing;
mod owners;
mod parts;
mod pooled;
mod settling;
mod shares;
mod stream;
mod table;
mod upstream;

pub(crate) use codec::{SessionCodec, Written};
pub(crate) use inbound::{Ending, Inbound};
pub(crate) use message::Incoming;
#[cfg(any(test, feature = "fuzzing"))]
pub use message::fuzz;
pub(crate) use stream::SessionStream;
pub(crate) use table::Sessions;
