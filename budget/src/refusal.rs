//! Why a request gets no permit, with everything that a caller needs to decide what to do.

use std::{fmt, time::Duration};

/// When to try again while nothing can be written down.
const STORE_HINT: Duration = Duration::from_secs(1);

/// A refusal. Its `Display` is for people and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The limit that refused, as `unit/window`, if one did.
    pub limit: Option<String>,
    /// When trying again may help; `None` means never, or not known.
    pub retry_after: Option<Duration>,
}

/// Why a request gets no permit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No wait would help: it asks for more than the limit ever holds.
    LargerThanLimit {
        /// The unit asked for.
        unit: String,
        /// How much was asked for.
        asked: u64,
        /// The most that the limit ever holds.
        most: u64,
    },
    /// It can't be, or was not, granted before its deadline.
    NotInTime,
    /// The budget's queue is full.
    QueueFull {
        /// Its bound.
        max_waiting: u32,
    },
    /// The tenant's part of the queue is full.
    TenantQueueFull {
        /// Its bound.
        max_waiting: u32,
    },
    /// More tenants at once than a budget keeps.
    TooManyTenants,
    /// More models at once than a budget keeps.
    TooManyModels {
        /// The bound.
        most: u32,
    },
    /// An administrator paused the budget and the request can't wait.
    Paused,
    /// An administrator deleted the budget.
    Deleted,
    /// The provider's quota is used up.
    QuotaExhausted,
    /// The caller took the request back.
    Cancelled,
    /// The server is about to stop.
    Draining,
    /// Another server grants from the budget now.
    Moved,
    /// What would be granted can't be written down, so that a crash could grant it twice.
    StoreUnavailable,
}

impl Reason {
    /// The wire's name, UPPER_SNAKE_CASE.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Reason::LargerThanLimit { .. } => "LARGER_THAN_LIMIT",
            Reason::NotInTime => "NOT_IN_TIME",
            Reason::QueueFull { .. } => "QUEUE_FULL",
            Reason::TenantQueueFull { .. } => "TENANT_QUEUE_FULL",
            Reason::TooManyModels { .. } => "TOO_MANY_MODELS",
            Reason::TooManyTenants => "TOO_MANY_TENANTS",
            Reason::Paused => "BUDGET_PAUSED",
            Reason::Deleted => "BUDGET_DELETED",
            Reason::QuotaExhausted => "QUOTA_EXHAUSTED",
            Reason::Cancelled => "CANCELLED",
            Reason::Draining => "DRAINING",
            Reason::Moved => "BUDGET_MOVED",
            Reason::StoreUnavailable => "STORE_UNAVAILABLE",
        }
    }
}

impl Refusal {
    /// With neither a limit nor a wait.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, limit: None, retry_after: None }
    }

    /// Until the store can be written again.
    pub(crate) fn store_unavailable() -> Self {
        Self { retry_after: Some(STORE_HINT), ..Self::new(Reason::StoreUnavailable) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit.as_deref().unwrap_or("the budget");
        let behind = self.limit.as_deref().map(|limit| format!(" for {limit}")).unwrap_or_default();
        match &self.reason {
            Reason::LargerThanLimit { unit, asked, most } => write!(
                f,
                "{asked} {unit} can never be granted: {limit} holds at most {most}; split the request or raise the limit"
            ),
            Reason::NotInTime => match self.retry_after {
                Some(wait) => write!(f, "not in time: {limit} is short; try again in {wait:.0?} or wait longer (max_wait)"),
                None => write!(f, "not in time: {limit} is short; try again later or wait longer (max_wait)"),
            },
            Reason::QueueFull { max_waiting } => {
                write!(f, "the queue is full ({max_waiting} waiting{behind}); slow down, or raise queue.max_waiting")
            }
            Reason::TenantQueueFull { max_waiting } => {
                write!(f, "the tenant's queue is full ({max_waiting} waiting{behind}); slow down, or raise its max_waiting")
            }
            Reason::TooManyModels { most } => write!(f, "more than {most} models in use at once; name the model, not the call"),
            Reason::TooManyTenants => {
                f.write_str("too many tenants at once; use a tenant per service or job, not per request")
            }
            Reason::Paused => f.write_str("the budget is paused by an administrator, and the request gives no time to wait"),
            Reason::Deleted => f.write_str("the budget was deleted by an administrator"),
            Reason::QuotaExhausted => f.write_str(
                "the provider's quota is used up; top it up and resume the budget (permitd budgets resume PROVIDER/KEY)",
            ),
            Reason::Cancelled => f.write_str("cancelled by its caller"),
            Reason::StoreUnavailable => f.write_str(
                "the server can't write to its store, and grants no more than it has set aside there; look at its log and its disk",
            ),
            Reason::Moved => f.write_str("another server owns the budget now; ask again"),
            Reason::Draining => f.write_str("the server is about to stop; ask another one, or again in a moment"),
        }
    }
}
