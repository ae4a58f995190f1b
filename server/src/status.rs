//! The one place that says how a refusal looks on the wire: its gRPC code, its reason, and the details that say more. A unary
//! call gets a [`tonic::Status`], an item of a session a [`Refused`]; both carry the same facts.

use std::{collections::HashMap, time::Duration};

use permitd_budget::{Reason, Refusal, SpecError};
use permitd_proto::v1::Refused;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    config::{BudgetName, BudgetNameError},
    registry::RegistryError,
    wire::encode,
};

/// Whose reasons they are, in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "permitd.dev";

/// When to try again after a server that is about to stop: long enough to find another one.
pub const DRAINING_HINT: Duration = Duration::from_secs(1);

/// The reason of a refusal by a server that does not own the budget.
pub(crate) const ELSEWHERE: &str = "BUDGET_ELSEWHERE";

/// The reason of a refusal to do with a pool what only a budget can do.
pub const IS_POOL: &str = "BUDGET_IS_POOL";

/// A refusal on its way to the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    code: Code,
    reason: &'static str,
    message: String,
    retry_after: Option<Duration>,
    subject: Option<Subject>,
    /// The limit of a budget that refused, or that those wait for who are in the way.
    limit: Option<String>,
}

/// What a fault is about.
#[derive(Clone, Debug, PartialEq)]
enum Subject {
    /// The field of a bad request.
    Field(String),
    /// The limit of a budget, or the bound of it or of the server, that is reached.
    Bound(String),
}

impl Fault {
    /// A fault with nothing but what every fault has. `reason` is in UPPER_SNAKE_CASE; `message` says what to do.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None, subject: None, limit: None }
    }

    /// A field of the request makes no sense.
    #[must_use]
    pub fn invalid(field: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let field = field.into();
        let message = format!("{field}: {}", problem.as_ref());
        Self {
            subject: Some(Subject::Field(field)),
            ..Self::new(Code::InvalidArgument, "INVALID_ARGUMENT", message)
        }
    }

    /// The server's own bound is reached.
    #[must_use]
    pub fn exhausted(reason: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subject: Some(Subject::Bound(subject.into())),
            ..Self::new(Code::ResourceExhausted, reason, message)
        }
    }

    /// The same fault with when to try again.
    #[must_use]
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The server is about to stop.
    #[must_use]
    pub fn draining() -> Self {
        Self::from(Refusal::new(Reason::Draining))
    }

    /// The store can't be written. `what` became of the change.
    #[must_use]
    pub fn store_unavailable(what: &str) -> Self {
        let message = format!("the server can't write to its store: {what}; look at its log and its disk");
        Self {
            retry_after: Some(DRAINING_HINT),
            ..Self::new(Code::Unavailable, "STORE_UNAVAILABLE", message)
        }
    }

    /// The same fault with the field one level further down: `limits[2]` becomes `budget.limits[2]`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        if let Some(Subject::Field(field)) = &mut self.subject {
            *field = format!("{parent}.{field}");
            self.message = format!("{parent}.{}", self.message);
        }
        self
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason, UPPER_SNAKE_CASE.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// When trying again may help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The limit that refused, or that is in the way.
    pub(crate) fn limit(&self) -> Option<&str> {
        self.limit.as_deref()
    }

    /// The same fault, as the answer of a pool.
    pub(crate) fn of_member(self, pool: &BudgetName, member: &BudgetName) -> Self {
        let message = format!("no member of {pool} takes it; {member}: {}", self.message);
        Self { message, ..self }
    }

    /// What is said to people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// As an item of a session's answer.
    pub(crate) fn into_refused(self) -> Refused {
        Refused {
            request_id: 0,
            permit_id: String::new(),
            code: self.code as u32,
            reason: self.reason.to_owned(),
            message: self.message,
            limit: self.limit.unwrap_or_default(),
            retry_after: self.retry_after.map(encode::duration),
        }
    }

    /// As the refusal of a session's request.
    pub(crate) fn into_refused_request(self, request_id: u64) -> Refused {
        Refused { request_id, ..self.into_refused() }
    }

    /// As the refusal of a session's report or extension.
    pub(crate) fn into_refused_permit(self, permit_id: String) -> Refused {
        Refused { permit_id, ..self.into_refused() }
    }

    /// As a call's status.
    #[must_use]
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        let mut metadata = HashMap::new();
        if let Some(limit) = &self.limit {
            metadata.insert("limit".to_owned(), limit.clone());
        }
        match self.subject.or(self.limit.map(Subject::Bound)) {
            Some(Subject::Field(field)) => {
                metadata.insert("field".to_owned(), field.clone());
                details.add_bad_request_violation(field, self.message.clone());
            }
            Some(Subject::Bound(bound)) => {
                details.add_quota_failure_violation(bound, self.message.clone());
            }
            None => {}
        }
        details.set_error_info(self.reason, DOMAIN, metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.reason {
            Reason::LargerThanLimit { .. } => Code::OutOfRange,
            Reason::Paused | Reason::Draining | Reason::Moved | Reason::StoreUnavailable => Code::Unavailable,
            Reason::Deleted => Code::NotFound,
            Reason::Cancelled => Code::Cancelled,
            // NotInTime, the full queues, QuotaExhausted, and whatever the heart comes to refuse for.
            _ => Code::ResourceExhausted,
        };
        let bound = match refusal.reason {
            Reason::QueueFull { .. } => Some("queue.max_waiting"),
            Reason::TenantQueueFull { .. } => Some("tenants.max_waiting"),
            Reason::TooManyTenants => Some("tenants"),
            _ => None,
        };
        let hint = matches!(refusal.reason, Reason::Draining | Reason::Moved).then_some(DRAINING_HINT);
        let (reason, message) = (refusal.reason.name(), refusal.to_string());
        Self {
            retry_after: refusal.retry_after.or(hint),
            subject: bound.map(|bound| Subject::Bound(bound.to_owned())),
            limit: refusal.limit,
            ..Self::new(code, reason, message)
        }
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::Unknown { .. } | RegistryError::NotConfigured { .. } => {
                Self::new(Code::NotFound, "BUDGET_UNKNOWN", message)
            }
            RegistryError::IsPool { .. } | RegistryError::Taken { .. } | RegistryError::NoPools => {
                Self::new(Code::FailedPrecondition, IS_POOL, message)
            }
            RegistryError::EtagMismatch { .. } => Self::new(Code::Aborted, "ETAG_MISMATCH", message),
            RegistryError::Elsewhere { .. } => {
                Self::new(Code::Unavailable, ELSEWHERE, message).after(DRAINING_HINT)
            }
            RegistryError::Full { .. } => {
                Self::exhausted("TOO_MANY_BUDGETS", "server.bounds.budgets", message)
            }
        }
    }
}

impl From<BudgetNameError> for Fault {
    fn from(error: BudgetNameError) -> Self {
        Self::invalid(error.part, error.problem)
    }
}

impl From<SpecError> for Fault {
    fn from(error: SpecError) -> Self {
        Self::invalid(error.field, error.problem)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.into_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason) -> Refusal {
        Refusal { reason, limit: Some("tokens/1m".to_owned()), retry_after: Some(Duration::from_secs(3)) }
    }

    /// Goal: each reason has the code that SEMANTICS gives it.
    #[test]
    fn codes_fit_reasons() {
        let larger = Reason::LargerThanLimit { unit: "tokens".to_owned(), asked: 2, most: 1 };
        for (reason, code) in [
            (larger, Code::OutOfRange),
            (Reason::NotInTime, Code::ResourceExhausted),
            (Reason::QueueFull { max_waiting: 1 }, Code::ResourceExhausted),
            (Reason::TenantQueueFull { max_waiting: 1 }, Code::ResourceExhausted),
            (Reason::TooManyTenants, Code::ResourceExhausted),
            (Reason::Paused, Code::Unavailable),
            (Reason::Deleted, Code::NotFound),
            (Reason::QuotaExhausted, Code::ResourceExhausted),
            (Reason::Cancelled, Code::Cancelled),
            (Reason::Draining, Code::Unavailable),
            (Reason::StoreUnavailable, Code::Unavailable),
        ] {
            let name = reason.name();
            let fault = Fault::from(Refusal::new(reason));
            assert_eq!((fault.code(), fault.reason()), (code, name));
        }
    }

    /// Goal: status and session item carry the same facts, and the status exactly one ErrorInfo.
    #[test]
    fn status_and_refused_agree() {
        let fault = Fault::from(refusal(Reason::NotInTime));
        let refused = fault.clone().into_refused();
        let status = fault.into_status();
        assert_eq!(refused.code, status.code() as u32);
        assert_eq!(refused.message, status.message());
        let details = status.get_error_details();
        let info = details.error_info().expect("every fault has one");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_IN_TIME", DOMAIN));
        assert_eq!(info.metadata["limit"], "tokens/1m");
        assert_eq!(refused.limit, "tokens/1m");
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(Duration::from_secs(3)));
        assert_eq!(refused.retry_after.map(|wait| wait.seconds), Some(3));
        assert_eq!(status.get_error_details_vec().len(), 3, "with a QuotaFailure that names the limit");
    }

    /// Goal: a bad field is named in the message and in the details.
    #[test]
    fn names_the_field() {
        let status = Fault::invalid("limits[2].per", "is zero").within("budget").into_status();
        assert_eq!(status.message(), "budget.limits[2].per: is zero");
        let details = status.get_error_details();
        let violation = &details.bad_request().expect("a BadRequest").field_violations[0];
        assert_eq!(violation.field, "budget.limits[2].per");
    }
}
