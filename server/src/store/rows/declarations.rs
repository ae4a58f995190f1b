//! Declarations, read by the many: what they say but for their names is mostly the same, and is read once. Of a million alike, that
//! takes a tenth of the time, and a small part of the memory.

use std::collections::HashMap;

use permitd_budget::CheckedSpec;
use permitd_proto::v1;
use prost::Message as _;

use super::{StoredBudget, read_budget};
use crate::{
    cell::{Declared, Source},
    config::BudgetName,
    wire::{
        budget,
        reader::{Reader, bytes, number},
    },
};

/// Different ones that are remembered.
const KNOWN_MAX: usize = 1_024;

/// Reads rows of budgets.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    known: HashMap<Vec<u8>, CheckedSpec>,
    /// Keeps its room.
    buffer: Vec<u8>,
}

impl Declarations {
    /// What a row says; `None` if it makes no sense.
    pub(crate) fn read(&mut self, row: &[u8]) -> Option<StoredBudget> {
        // What is written in an unusual way is left to prost.
        self.read_in_place(row).or_else(|| read_budget(row))
    }

    fn read_in_place(&mut self, row: &[u8]) -> Option<StoredBudget> {
        const DECLARED: u64 = bytes(1);
        const BY_ADMIN: u64 = number(2);
        const PAUSED: u64 = number(3);
        const DELETED: u64 = number(4);
        let mut declared = None;
        let (mut by_admin, mut paused, mut deleted) = (false, false, false);
        let mut reader = Reader::new(row);
        while !reader.is_empty() {
            match reader.number()? {
                DECLARED if declared.is_none() => declared = Some(reader.bytes()?),
                BY_ADMIN => by_admin = reader.number()? != 0,
                PAUSED => paused = reader.number()? != 0,
                DELETED => deleted = reader.number()? != 0,
                _ => return None,
            }
        }
        let (name, etag, spec) = self.read_declared(declared?)?;
        let source = if by_admin { Source::Admin } else { Source::Config };
        Some(StoredBudget { name, declared: Declared { spec, etag, source }, paused, deleted })
    }

    fn read_declared(&mut self, declared: &[u8]) -> Option<(BudgetName, String, CheckedSpec)> {
        const PROVIDER: u64 = bytes(1);
        const KEY: u64 = bytes(2);
        const ETAG: u64 = bytes(7);
        let (mut provider, mut key, mut etag) = ("", "", "");
        self.buffer.clear();
        let mut reader = Reader::new(declared);
        while !reader.is_empty() {
            match reader.number()? {
                PROVIDER => provider = reader.text()?,
                KEY => key = reader.text()?,
                ETAG => etag = reader.text()?,
                field => {
                    self.buffer.push(u8::try_from(field).ok().filter(|field| *field < 0x80)?);
                    if field == bytes(field >> 3) {
                        let value = reader.bytes()?;
                        prost::encode_length_delimiter(value.len(), &mut self.buffer).ok()?;
                        self.buffer.extend_from_slice(value);
                    } else {
                        let value = (field == number(field >> 3)).then(|| reader.number())??;
                        prost::encode_length_delimiter(usize::try_from(value).ok()?, &mut self.buffer)
                            .ok()?;
                    }
                }
            }
        }
        if let Some(spec) = self.known.get(&self.buffer) {
            return Some((BudgetName::new(provider, key).ok()?, etag.to_owned(), spec.clone()));
        }
        let rest = v1::Budget::decode(&*self.buffer).ok()?;
        let (provider, key) = (provider.to_owned(), key.to_owned());
        let (name, spec) = budget::read(&v1::Budget { provider, key, ..rest }).ok()?;
        if self.known.len() < KNOWN_MAX {
            self.known.insert(self.buffer.clone(), spec.clone());
        }
        Some((name, etag.to_owned(), spec))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;
    use crate::store::{Write, rows::put_budget};

    /// Goal: many are read as one by one, and those that say the same share it.
    #[test]
    fn what_is_the_same_is_shared() {
        let mut declarations = Declarations::default();
        let mut first: [Option<CheckedSpec>; 2] = [None, None];
        for at in 0..100_u64 {
            let kind = at % 2;
            let limits = vec![LimitSpec::rate("requests", 60 + kind, Duration::from_secs(60))];
            let shadow = kind == 1;
            let spec = BudgetSpec { limits, shadow, ..BudgetSpec::default() }.check().expect("sound");
            let source = if at % 3 == 0 { Source::Admin } else { Source::Config };
            let declared = Declared { spec, etag: format!("e{at}"), source };
            let name: BudgetName = format!("p/{at}").parse().expect("a name");
            let stored = StoredBudget { name, declared, paused: at % 5 == 0, deleted: at % 7 == 0 };
            let Write::Put(_, _, row) = put_budget(7, &stored) else { panic!("a row") };
            let read = declarations.read(&row).expect("a row");
            assert_eq!((&read.name, &read.declared), (&stored.name, &stored.declared));
            assert_eq!((read.paused, read.deleted), (stored.paused, stored.deleted));
            let of_kind = &mut first[usize::from(shadow)];
            assert!(of_kind.get_or_insert_with(|| read.declared.spec.clone()).is(&read.declared.spec));
        }
        for garbage in [&b""[..], b"x", &[0xff; 40]] {
            assert!(declarations.read(garbage).is_none());
        }
    }
}
