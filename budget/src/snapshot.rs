//! A look at a whole budget.

use crate::{spec::LimitSpec, time::Time};

/// A budget at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order declared, then learned ones.
    pub limits: Vec<LimitSnapshot>,
    /// Requests in the queue; a request for several permits is one.
    pub waiting: u32,
    /// Unreported permits.
    pub in_flight: u32,
    /// Whether an administrator paused it.
    pub paused: bool,
    /// Tenants with something to tell, by name.
    pub tenants: Vec<TenantSnapshot>,
    /// Permits ever granted.
    pub granted_total: u64,
    /// Requests ever refused.
    pub refused_total: u64,
    /// Reports of a refusal by the provider for rate.
    pub rate_limited_total: u64,
    /// Permits that ended without a report.
    pub expired_total: u64,
}

/// One limit at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSnapshot {
    /// As declared.
    pub configured: LimitSpec,
    /// What feedback has taught; the declared amount where nothing did.
    pub effective_amount: u64,
    /// What could be granted now, rounded down, without freeze and cushion; negative means in debt. For `each`, the least
    /// tenant's.
    pub level: i64,
    /// No grant before then.
    pub frozen_until: Option<Time>,
}

/// One tenant at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSnapshot {
    /// Its name.
    pub tenant: String,
    /// Its requests in the queue.
    pub waiting: u32,
    /// Its unreported permits.
    pub in_flight: u32,
    /// Permits ever granted to it.
    pub granted_total: u64,
}
