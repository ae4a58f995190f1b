//! Where permitd is measured: a provider that enforces its limits exactly ([`provider`]), to run fleets of clients
//! against, and what the server costs beside its transport ([`mod@bench`]).

pub mod bench;
pub mod provider;
