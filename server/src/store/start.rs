//! What a new process finds in the store, and how it begins: with everything that was kept, on a clock that goes on from the last.

use std::collections::BTreeMap;

use permitd_budget::{Resumed, SavedBudget, SavedPermit};

use super::{
    EachRow, Store, StoreError, Table, Write,
    rows::{self, IDS, PULSE, SEAL, StoredBudget},
};
use crate::{
    audit::Entry,
    clock::{Clock, Pulse, Reading},
    permit_id::Seal,
};

/// Everything that is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    seal: Option<[u8; 16]>,
    pulse: Option<Pulse>,
    /// The largest id that a budget ever had.
    pub(crate) ids: u32,
    pub(crate) budgets: BTreeMap<u32, (StoredBudget, Option<SavedBudget>, Vec<SavedPermit>)>,
    /// The audit trail, the oldest first.
    pub(crate) changes: Vec<Entry>,
}

/// What a server begins with.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) kept: Kept,
    pub(crate) seal: Seal,
    pub(crate) clock: Clock,
    /// This moment, by the clock of what is kept and by the new one.
    pub(crate) resumed: Resumed,
}

/// Reads everything, and makes what has to be there.
///
/// # Errors
/// Those of the store, and `Damaged` for rows that make no sense.
pub(crate) fn begin(store: &mut Option<Box<dyn Store>>, reading: &Reading) -> Result<Begun, StoreError> {
    let mut kept = Kept::default();
    let mut seal = Seal::random();
    if let Some(store) = store {
        kept = read(&mut **store)?;
        match kept.seal {
            Some(bytes) => seal = Seal::from_bytes(bytes),
            None => store.write(&[Write::Put(Table::Meta, SEAL.to_vec(), seal.to_bytes().to_vec())])?,
        }
    }
    let (clock, resumed) = Clock::resume(reading, kept.pulse.as_ref());
    Ok(Begun { kept, seal, clock, resumed })
}

/// Reads all rows.
///
/// # Errors
/// Those of the store, and `Damaged` for rows that make no sense.
pub(super) fn read(store: &mut dyn Store) -> Result<Kept, StoreError> {
    gather(|row| store.read(row))
}

/// As [`read`], of rows that `each` hands out.
///
/// # Errors
/// As there.
pub(crate) fn gather(
    each: impl FnOnce(&mut EachRow<'_>) -> Result<(), StoreError>,
) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    let (mut balances, mut permits) = (BTreeMap::new(), BTreeMap::<u32, Vec<SavedPermit>>::new());
    each(&mut |table, key, value| {
        let found = match table {
            Table::Meta => kept.read_meta(key, value),
            Table::Budgets => id(key).zip(rows::read_budget(value)).map(|(id, stored)| {
                kept.budgets.insert(id, (stored, None, Vec::new()));
            }),
            Table::Balances => id(key).zip(rows::read_balance(value)).map(|(id, balance)| {
                balances.insert(id, balance);
            }),
            Table::Permits => rows::read_permit(key, value).map(|(id, permit)| {
                permits.entry(id).or_default().push(permit);
            }),
            Table::Changes => rows::read_change(key, value).map(|entry| kept.changes.push(entry)),
        };
        found.ok_or_else(|| {
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            StoreError::damaged("the store", format!("row {key} of {} makes no sense", table.name()))
        })
    })?;
    for (id, (_, balance, of_budget)) in &mut kept.budgets {
        *balance = balances.remove(id);
        *of_budget = permits.remove(id).unwrap_or_default();
    }
    Ok(kept)
}

impl Kept {
    fn read_meta(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            SEAL => self.seal = Some(value.try_into().ok()?),
            IDS => self.ids = id(value)?,
            PULSE => self.pulse = Some(rows::read_pulse(value)?),
            // What a later version keeps beside it.
            _ => {}
        }
        Some(())
    }
}

fn id(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.try_into().ok()?))
}
