//! What survives the process: who owns it, budgets, balances set aside, live permits and the audit trail, as rows of bytes in a few
//! tables. A [`Store`] writes any number of rows at once, all or none; everything else about it is in one place each: what the rows
//! say in `rows`, when they are written in `keeper`, what a new process makes of them in `start`.

mod caught;
mod disk;
mod embedded;
pub(crate) mod etcd;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod keeper;
mod memory;
pub(crate) mod rows;
mod start;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use embedded::{Embedded, FORMAT, backup, check, restore};
pub(crate) use keeper::{Keeper, KeeperThread, StoreCounts};
pub use memory::Memory;
pub(crate) use rows::{Balance, StoredBudget};
pub(crate) use start::{Begun, Kept, begin, gather};

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// By name: what is there once.
    Meta,
    /// By id: what is declared.
    Budgets,
    /// By id: what is left, and what is set aside.
    Balances,
    /// By id and slot: live permits.
    Permits,
    /// By number: the audit trail.
    Changes,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 5] =
        [Table::Meta, Table::Budgets, Table::Balances, Table::Permits, Table::Changes];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Budgets => "budgets",
            Table::Balances => "balances",
            Table::Permits => "permits",
            Table::Changes => "changes",
        }
    }
}

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A row, new or replaced.
    Put(Table, Vec<u8>, Vec<u8>),
    /// A row that goes; one that is not there is gone already.
    Remove(Table, Vec<u8>),
    /// All rows whose key begins so.
    RemoveAll(Table, Vec<u8>),
}

/// Takes in a row: table, key, value.
pub type EachRow<'a> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Where rows are kept. Whoever has it is its only owner. It is used from one thread and may block.
pub trait Store: Send + fmt::Debug {
    /// Hands out every row.
    ///
    /// # Errors
    /// `Damaged`, or that of `row`.
    fn read(&mut self, row: &mut EachRow<'_>) -> Result<(), StoreError>;

    /// Makes all of these durable, in order, or none. After an error it is not known which; trying again is always sound.
    ///
    /// # Errors
    /// `Unavailable`.
    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError>;
}

/// Why a store can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another permitd; stop that one, or give this one another folder with --data", .0.display())]
    InUse(PathBuf),
    /// The disk is full or failing, or the folder can't be written.
    #[error("can't write {place}: {why}")]
    Unavailable {
        /// The file.
        place: String,
        /// What the system says.
        why: String,
    },
    /// It is no store, or it is damaged. Nothing was changed.
    #[error(
        "{place} is damaged or no store of permitd's: {why}. Nothing was changed. Restore a backup (permitd store restore), or move \
         the file away to start anew: live changes are lost then, and all budgets start full"
    )]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A later permitd wrote it. Nothing was changed.
    #[error(
        "{place} was written by a newer permitd (format {found}; this one knows up to {FORMAT}). Nothing was changed. Use the newer \
         permitd, or restore a backup from before it (permitd store restore)"
    )]
    Newer {
        /// The file.
        place: String,
        /// Its format.
        found: u32,
    },
}

impl StoreError {
    pub(crate) fn unavailable(place: &Path, why: impl fmt::Display) -> Self {
        Self::Unavailable { place: place.display().to_string(), why: why.to_string() }
    }

    pub(crate) fn damaged(place: &str, why: impl fmt::Display) -> Self {
        Self::Damaged { place: place.to_owned(), why: why.to_string() }
    }
}
