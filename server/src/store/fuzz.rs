//! Ways in for fuzzers: any bytes as the store's file, and as its rows.

#[cfg(test)]
mod sound;

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use permitd_budget::{Budget, Priority, Request, Resumed, Time, Usage};

#[cfg(test)]
pub(crate) use self::sound::{sound_file, sound_rows};
use super::{Embedded, Store as _, Table, Write, disk::Medium, memory::Memory, start};

const NOW: Time = Time::from_nanos(1_700_000_000_000_000_000);

/// A file in memory.
#[derive(Clone, Debug, Default)]
struct Ram(Arc<Mutex<Vec<u8>>>);

impl Medium for Ram {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = bytes.get(from..from.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there =
            bytes.get_mut(from..from.saturating_add(data.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        there.copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Ram {
    fn open(&self) -> Result<Embedded, super::StoreError> {
        let ram = self.clone();
        Embedded::open_medium("memory".into(), Box::new(move || Ok(Box::new(ram.clone()))), None)
    }
}

/// Any bytes as the store's file: sound, or refused and left alone.
pub fn file(data: &[u8]) {
    let ram = Ram(Arc::new(Mutex::new(data.to_vec())));
    match ram.open() {
        Ok(mut store) => drop(start::read(&mut store)),
        Err(_) => assert!(*ram.0.lock() == data, "what is refused is left alone"),
    }
}

/// Any bytes as the rows of a store, which a server then goes on from: each a table in one byte, the key's length in one and the key,
/// the value's length in two and the value.
pub fn rows(mut data: &[u8]) {
    let mut writes = Vec::new();
    while let Some(write) = row(&mut data) {
        writes.push(write);
    }
    let mut memory = Memory::default();
    memory.write(&writes).expect("nothing fails");
    let Ok(kept) = start::read(&mut memory) else { return };
    for (stored, balance, permits) in kept.budgets.into_values() {
        let Some(balance) = balance.map(|balance| balance.saved()) else { continue };
        let back = Resumed { by_old_clock: balance.at.max(NOW), now: NOW };
        let mut heart = Budget::restore(&stored.declared.spec, &balance, permits, &back, &());
        let mut events = Vec::new();
        for later in [0, 1, 1_000] {
            let now = NOW + Duration::from_secs(later);
            let _ = heart.save(now, false);
            heart.saved(now, &mut events);
            let _ = heart.poll(now, &mut events);
            let _ = heart.acquire(now, one(), &mut events);
            let _ = heart.snapshot(now);
        }
    }
}

fn row(data: &mut &[u8]) -> Option<Write> {
    let (&[table, length], rest) = data.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(length).into())?;
    *data = rest;
    let table = Table::ALL[usize::from(table) % Table::ALL.len()];
    Some(Write::Put(table, key.to_vec(), value.to_vec()))
}

fn one() -> Request<'static, ()> {
    let (tenant, model, priority) = ("web", "m", Priority::Standard);
    let estimate = Usage::of_tokens(50);
    Request { tenant, model, priority, estimate, count: 1, max_wait: None, gives_up: None, waiter: () }
}
