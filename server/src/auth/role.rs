//! What somebody may do, in five words.

use std::{fmt, str::FromStr};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Ask for permits.
    Acquire,
    /// Say how the calls of one's permits went.
    Report,
    /// Declare, change, pause and delete budgets; and everything that [`Role::Observe`] may.
    Admin,
    /// See budgets, changes and metrics.
    Observe,
    /// Be another server of the same cluster, which passes on the calls of those whom it let in.
    Peer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Acquire, Self::Report, Self::Admin, Self::Observe, Self::Peer];

    /// As it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Report => "report",
            Self::Admin => "admin",
            Self::Observe => "observe",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No role has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such role; there are acquire, report, admin, observe and peer")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(RoleError)
    }
}
