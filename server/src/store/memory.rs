//! A store in memory, with faults to order: for tests, and for nothing that has to last.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{EachRow, Store, StoreError, Table, Write};

/// Rows in memory. Clones share them, as two processes share a disk one after the other.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    writes: u64,
    fault: Option<Fault>,
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// The first write that fails; all after it do too.
    from: u64,
    /// Whether what fails is there all the same.
    reaches: bool,
}

impl Memory {
    /// Lets all writes fail, but for the next `good` ones. With `reaches`, rows get there and only the word of it is lost.
    pub fn fail_after(&self, good: u64, reaches: bool) {
        let mut rows = self.0.lock();
        rows.fault = Some(Fault { from: rows.writes + good, reaches });
    }

    /// Lets writes succeed again.
    pub fn mend(&self) {
        self.0.lock().fault = None;
    }

    /// Writes so far, failed ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// A copy of what is there now, as a disk that is found after a crash.
    #[must_use]
    pub fn copy(&self) -> Self {
        let rows = self.0.lock().rows.clone();
        Self(Arc::new(Mutex::new(Rows { rows, ..Rows::default() })))
    }
}

impl Store for Memory {
    fn read(&mut self, row: &mut EachRow<'_>) -> Result<(), StoreError> {
        let rows = self.0.lock().rows.clone();
        rows.iter().try_for_each(|((table, key), value)| row(*table, key, value))
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut rows = self.0.lock();
        let number = rows.writes;
        rows.writes += 1;
        let fault = rows.fault.filter(|fault| number >= fault.from);
        if fault.is_none_or(|fault| fault.reaches) {
            for write in writes {
                match write {
                    Write::Put(table, key, value) => {
                        rows.rows.insert((*table, key.clone()), value.clone());
                    }
                    Write::Remove(table, key) => drop(rows.rows.remove(&(*table, key.clone()))),
                    Write::RemoveAll(table, prefix) => {
                        rows.rows.retain(|(of, key), _| of != table || !key.starts_with(prefix));
                    }
                }
            }
        }
        match fault {
            None => Ok(()),
            Some(_) => {
                Err(StoreError::Unavailable { place: "memory".to_owned(), why: "as ordered".to_owned() })
            }
        }
    }
}
