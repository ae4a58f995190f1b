//! What the questions have in common.

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, Permit, Usage};
use permitd_tests::Facts;
use tonic::Code;

pub(crate) const NOT_IN_TIME: (Code, &str) = (Code::ResourceExhausted, "NOT_IN_TIME");

pub(crate) fn tenant(name: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { tenant: name.to_owned(), ..request }
}

pub(crate) fn model(name: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { model: name.to_owned(), ..request }
}

pub(crate) fn charged(permit: &Permit) -> Usage {
    permit.charged.clone().expect("a permit says what it holds")
}

pub(crate) fn hint(facts: &Facts) -> Duration {
    facts.retry_after.unwrap_or_else(|| panic!("a hint when to try again: {facts:?}"))
}
