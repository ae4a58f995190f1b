//! What failed, why, and what to do about it.

use std::{fmt, process::ExitCode, time::Duration};

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::format::rough;

/// What failed for good, by `sysexits`.
pub(crate) const FAILED: u8 = 1;
/// No server answers: `EX_UNAVAILABLE`.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Not now, later perhaps: `EX_TEMPFAIL`.
pub(crate) const TRY_LATER: u8 = 75;

/// What failed, why, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    hint: Option<String>,
    /// What the server called it.
    reason: Option<String>,
    retry_after: Option<Duration>,
    exit_code: u8,
    /// Whether another try may find a server.
    pub(crate) unreachable: bool,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: None,
            hint: None,
            reason: None,
            retry_after: None,
            exit_code: FAILED,
            unreachable: false,
        }
    }

    pub(crate) fn because(self, why: impl fmt::Display) -> Self {
        Self { why: Some(why.to_string()), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }

    /// No server answers at `server`.
    pub(crate) fn unreachable(server: &str, why: impl fmt::Display) -> Self {
        let hint = "start one with `permitd serve`, or name another with --server URL or PERMITD_SERVER";
        let failure = Self::new(format!("no permitd server answers at {server}")).because(why).hint(hint);
        Self { unreachable: true, ..failure.exit_code(UNAVAILABLE) }
    }

    /// What the server at `server` answered.
    pub(crate) fn answered(server: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            return match status.code() {
                Code::Unavailable | Code::Unknown | Code::Cancelled => {
                    Self::unreachable(server, root_cause(status))
                }
                Code::Unimplemented => {
                    Self::new(format!("what answers at {server} is no permitd of this version"))
                        .because(status.message())
                }
                code => Self::new(status.message()).because(code.description()),
            };
        };
        let later = matches!(status.code(), Code::ResourceExhausted | Code::Unavailable);
        let hint = (status.code() == Code::Unauthenticated).then_some(
            "show another token (--token-file FILE or PERMITD_TOKEN) or certificate (--tls-cert, --tls-key)",
        );
        Self {
            reason: Some(info.reason.clone()),
            hint: hint.map(str::to_owned),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            exit_code: if later { TRY_LATER } else { FAILED },
            unreachable: info.reason == "DRAINING",
            ..Self::new(status.message())
        }
    }

    /// Prints it and says how to exit.
    pub(crate) fn show(self, json: bool) -> ExitCode {
        if json {
            let error = json!({
                "message": self.what, "why": self.why, "hint": self.hint, "reason": self.reason,
                "retry_after_seconds": self.retry_after.map(|wait| wait.as_secs_f64()),
            });
            eprintln!("{}", json!({ "error": error }));
        } else {
            eprintln!("{self}");
        }
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  try: {hint}")?;
        }
        // Some messages say it themselves, among other things to do; two roundings of one wait would only puzzle.
        if let Some(wait) = self.retry_after
            && !self.what.contains("try again in ")
        {
            write!(f, "\n  try: again in {}", rough(wait))?;
        }
        Ok(())
    }
}

/// The innermost reason: "connection refused" rather than "transport error".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the wait is told once, whether or not the message has it.
    #[test]
    fn tells_the_wait_once() {
        let told = |what: &str| {
            let retry_after = Some(Duration::from_millis(598_400));
            Failure { retry_after, ..Failure::new(what) }.to_string()
        };
        assert_eq!(told("the quota is used up"), "error: the quota is used up\n  try: again in 9m59s");
        assert_eq!(told("short; try again in 598s"), "error: short; try again in 598s");
    }
}
