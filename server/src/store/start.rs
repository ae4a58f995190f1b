//! What a new process finds in the store, and how it begins: with everything that was kept, on a clock that goes on from the last.

use std::{collections::BTreeMap, num::NonZeroUsize, thread};

use permitd_budget::{Resumed, SavedPermit};

use super::{
    EachRow, Store, StoreError, Table, Write,
    rows::{self, Balance, Declarations, IDS, PULSE, SEAL, StoredBudget},
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
    pub(crate) budgets: BTreeMap<u32, (StoredBudget, Option<Balance>, Vec<SavedPermit>)>,
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
    let (mut budgets, mut balances) = (Vec::new(), Vec::new());
    let mut permits = BTreeMap::<u32, Vec<SavedPermit>>::new();
    each(&mut |table, key, value| {
        let found = match table {
            Table::Meta => kept.read_meta(key, value),
            // They are many, and read below.
            Table::Budgets => id(key).map(|id| budgets.push((id, Box::from(value)))),
            Table::Balances => id(key).map(|id| balances.push((id, Box::from(value)))),
            Table::Permits => rows::read_permit(key, value).map(|(id, permit)| {
                permits.entry(id).or_default().push(permit);
            }),
            Table::Changes => rows::read_change(key, value).map(|entry| kept.changes.push(entry)),
        };
        found.ok_or_else(|| makes_no_sense(table, key))
    })?;
    let budgets = read_all(budgets, || {
        let mut declarations = Declarations::default();
        move |row: Box<[u8]>| declarations.read(&row)
    });
    let budgets = budgets.map_err(|id| makes_no_sense(Table::Budgets, &id.to_be_bytes()))?;
    let balances = read_all(balances, || Balance::read);
    let balances = balances.map_err(|id| makes_no_sense(Table::Balances, &id.to_be_bytes()))?;
    let mut balances: BTreeMap<u32, Balance> = balances.into_iter().collect();
    let with_the_rest = |(id, stored)| {
        let rest = (balances.remove(&id), permits.remove(&id).unwrap_or_default());
        (id, (stored, rest.0, rest.1))
    };
    kept.budgets = budgets.into_iter().map(with_the_rest).collect();
    Ok(kept)
}

fn makes_no_sense(table: Table, key: &[u8]) -> StoreError {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::damaged("the store", format!("row {key} of {} makes no sense", table.name()))
}

/// Reads rows, on all processors where there are many: that is most of a start with very many budgets. Each thread gets a reader of its
/// own. The error is the id of a row that makes no sense.
fn read_all<T: Send, R: FnMut(Box<[u8]>) -> Option<T>>(
    rows: Vec<(u32, Box<[u8]>)>,
    reader: impl Fn() -> R + Sync,
) -> Result<Vec<(u32, T)>, u32> {
    /// Fewer are read sooner than a thread is begun.
    const PART_MIN: usize = 1_000;
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let part = rows.len().div_ceil(threads).max(PART_MIN);
    let read_part = |rows: Vec<(u32, Box<[u8]>)>| {
        let mut read = reader();
        rows.into_iter().map(|(id, row)| Ok((id, read(row).ok_or(id)?))).collect::<Result<Vec<_>, u32>>()
    };
    let mut rest = rows;
    thread::scope(|scope| {
        let mut others = Vec::new();
        while rest.len() > part {
            let last = rest.split_off(rest.len() - part);
            others.push(scope.spawn(|| read_part(last)));
        }
        let mut all = read_part(rest)?;
        for other in others.into_iter().rev() {
            all.extend(other.join().expect("reading does not panic")?);
        }
        Ok(all)
    })
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
