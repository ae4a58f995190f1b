//! Where permitd is measured: a provider that enforces its limits exactly ([`provider`]), to run fleets of clients against.

pub mod provider;
