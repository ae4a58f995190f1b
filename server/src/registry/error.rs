//! What the registry says no to, with what to do instead.

use crate::config::{BudgetName, NOT_IN_A_CLUSTER};

/// Why the registry did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody declared the budget.
    #[error(
        "nobody declared the budget {name}; create it with `permitd budgets set {name} --limit requests=60/1m` (and the \
         provider's real limits)"
    )]
    Unknown {
        /// Its name.
        name: BudgetName,
    },
    /// The configuration does not declare the budget.
    #[error(
        "the configuration does not declare the budget {name}, so there is nothing to go back to; delete it with `permitd \
         budgets delete {name}`, or declare it there"
    )]
    NotConfigured {
        /// Its name.
        name: BudgetName,
    },
    /// It is a pool: several budgets under one name.
    #[error(
        "{name} is a pool, and what it grants is of its members: look at it with `permitd pools get {name}`, and steer each \
         member; the configuration declares pools, under [pools]"
    )]
    IsPool {
        /// Its name.
        name: BudgetName,
    },
    /// Pools are configured for a server of a cluster.
    #[error("pools: {}", NOT_IN_A_CLUSTER)]
    NoPools,
    /// A pool of the configuration is called as a budget is that an administrator declared.
    #[error(
        "pools: there is a budget {name} that was declared live, so no pool can be called so; give the pool a name of its own, or, \
         while the server runs without the pool, delete the budget with `permitd budgets delete {name}`"
    )]
    Taken {
        /// The name.
        name: BudgetName,
    },
    /// The etag given is not the budget's.
    #[error("the etag given is not that of {name} as it stands; read it again and repeat the change")]
    EtagMismatch {
        /// The budget.
        name: BudgetName,
    },
    /// The budget is another server's.
    #[error("another server of the cluster owns {name}, or none does at this moment; ask again")]
    Elsewhere {
        /// Its name.
        name: BudgetName,
    },
    /// As many budgets as the server keeps.
    #[error("the server keeps at most {most} budgets; delete some or raise server.bounds.budgets")]
    Full {
        /// How many that is.
        most: usize,
    },
}
