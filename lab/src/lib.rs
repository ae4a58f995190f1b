//! Where permitd is measured: a provider that enforces its limits exactly ([`provider`]), to run fleets of clients
//! against, what the server costs beside its transport ([`mod@bench`], [`instructions`]), and how budgets follow limits that nobody told them, in
//! virtual time ([`scenario`]); what it stands ([`siege`]), how it grows ([`depth`]), how late it is ([`refill`]), and what several servers cost and bear as one
//! ([`cluster`]).

pub mod bench;
mod chart;
pub mod cluster;
pub mod depth;
pub mod growth;
mod http;
pub mod instructions;
pub mod provider;
pub mod refill;
pub mod scenario;
mod server;
pub mod siege;
