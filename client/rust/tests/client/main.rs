//! The client against a scripted server on a real socket, where every message is looked at, and against the real server.

mod call;
mod fake;
mod faults;
mod followed;
#[cfg(feature = "tower")]
mod layer;
mod outage;
mod real;
mod resume;
mod session;
