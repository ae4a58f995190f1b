//! What tests of cells begin with.

use std::sync::Arc;

use permitd_budget::{BudgetSpec, LimitSpec, Priority, Request, Usage};

use super::{Cell, Declared, Footing, Source};
use crate::inbox::Waiter;

/// A budget of so many calls at once.
pub(super) fn cell(id: u32, in_flight: u64, footing: &Arc<Footing>) -> Arc<Cell> {
    let spec = BudgetSpec { limits: vec![LimitSpec::in_flight(in_flight)], ..BudgetSpec::default() };
    let spec = spec.check().expect("a sound spec");
    let declared = Declared { spec, etag: "1".to_owned(), source: Source::Admin };
    Cell::new(id, "p/k".parse().expect("a name"), declared, footing)
}

/// One call.
pub(super) fn request(waiter: Waiter) -> Request<'static, Waiter> {
    Request {
        tenant: "t",
        model: "",
        priority: Priority::Standard,
        estimate: Usage::default(),
        count: 1,
        max_wait: None,
        gives_up: None,
        waiter,
    }
}
