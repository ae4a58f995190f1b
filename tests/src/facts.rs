//! What a refusal says, whichever way it came: a call's status, or an item of a session.

use std::time::Duration;

use permitd_proto::v1::Refused;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// What a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// gRPC's code.
    pub code: Code,
    /// UPPER_SNAKE_CASE.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Which limit refused; empty for none.
    pub limit: String,
    /// When to try again; `None` for never, or not known.
    pub retry_after: Option<Duration>,
    /// The fields that a BadRequest names. Sessions name them in the message only.
    pub fields: Vec<String>,
}

/// What a call's status says; every refusal of the service has exactly one ErrorInfo.
///
/// # Panics
/// If it does not.
#[must_use]
pub fn facts(status: &Status) -> Facts {
    let details = status.check_error_details_vec().expect("details that decode");
    let mut infos = Vec::new();
    let mut found = Facts {
        code: status.code(),
        reason: String::new(),
        message: status.message().to_owned(),
        limit: String::new(),
        retry_after: None,
        fields: Vec::new(),
    };
    for detail in details {
        match detail {
            ErrorDetail::ErrorInfo(info) => infos.push(info),
            ErrorDetail::RetryInfo(info) => found.retry_after = info.retry_delay,
            ErrorDetail::BadRequest(bad) => {
                found.fields.extend(bad.field_violations.into_iter().map(|violation| violation.field));
            }
            _ => {}
        }
    }
    assert_eq!(infos.len(), 1, "exactly one ErrorInfo in {status:?}");
    let info = infos.remove(0);
    found.limit = info.metadata.get("limit").cloned().unwrap_or_default();
    found.reason = info.reason;
    found.check()
}

/// What a session's refusal says.
///
/// # Panics
/// If it says nothing.
#[must_use]
pub fn refused_facts(refused: &Refused) -> Facts {
    let retry_after = refused.retry_after.as_ref();
    Facts {
        code: Code::from_i32(i32::try_from(refused.code).expect("a gRPC code")),
        reason: refused.reason.clone(),
        message: refused.message.clone(),
        limit: refused.limit.clone(),
        retry_after: retry_after.map(|wait| Duration::try_from(*wait).expect("a wait that is not negative")),
        fields: Vec::new(),
    }
    .check()
}

impl Facts {
    /// Code and reason, to compare.
    #[must_use]
    pub fn says(&self) -> (Code, &str) {
        (self.code, self.reason.as_str())
    }

    /// Whether it says that this field makes no sense.
    #[must_use]
    pub fn names(&self, field: &str) -> bool {
        self.code == Code::InvalidArgument
            && self.message.contains(field)
            && (self.fields.is_empty() || self.fields.iter().any(|named| named == field))
    }

    fn check(self) -> Self {
        let upper_snake = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(!self.reason.is_empty() && self.reason.chars().all(upper_snake), "a reason: {self:?}");
        assert!(!self.message.is_empty(), "a message that says what to do: {self:?}");
        assert!(!matches!(self.code, Code::Internal | Code::Unknown | Code::Ok), "a fitting code: {self:?}");
        self
    }
}
