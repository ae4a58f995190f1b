//! What is declared of a budget, and by whom.

use permitd_budget::CheckedSpec;

/// What an administrator or the configuration says about a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What was declared.
    pub spec: CheckedSpec,
    /// Changes with every change.
    pub etag: String,
    /// Who declared it.
    pub source: Source,
}

/// Who declared a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An administrator.
    Admin,
    /// The configuration, by name or as its provider's default.
    Config,
}

impl Source {
    /// The wire's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Admin => "admin",
            Source::Config => "config",
        }
    }
}
