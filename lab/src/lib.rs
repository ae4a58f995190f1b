//! Where permitd is measured: a provider that enforces its limits exactly ([`provider`]), to run fleets of clients
//! against, what the server costs beside its transport ([`mod@bench`], [`instructions`]), and how budgets follow limits that nobody told them, in
//! virtual time ([`scenario`]); and what it stands ([`siege`]).

pub mod bench;
pub mod instructions;
pub mod provider;
pub mod scenario;
pub mod siege;
