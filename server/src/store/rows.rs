//! What the rows say: protocol buffers, whose fields are added but never change their meaning, so that a newer permitd reads what an
//! older one wrote. Declarations and changes are those of the wire. Layout and numbers are told in docs/store.md.

mod balance;
mod declarations;
mod learned;

use std::{num::NonZeroU64, time::Duration};

use permitd_budget::{Amounts, Priority, SavedPermit, Time};
use permitd_proto::v1;
use prost::Message;

use super::{Table, Write};
use crate::{
    audit::{Entry, What},
    cell::{Declared, Source},
    clock::{Boot, Pulse},
    config::BudgetName,
    wire::{budget, encode},
};

pub(crate) use balance::{Balance, remove_balance, write_balance};
pub(super) use declarations::Declarations;

pub(super) const SEAL: &[u8] = b"seal";
pub(super) const IDS: &[u8] = b"ids";
pub(super) const PULSE: &[u8] = b"pulse";

/// A budget's declaration.
#[derive(Clone, PartialEq, Message)]
struct BudgetRow {
    #[prost(message, optional, tag = "1")]
    declared: Option<v1::Budget>,
    #[prost(bool, tag = "2")]
    by_admin: bool,
    #[prost(bool, tag = "3")]
    paused: bool,
    #[prost(bool, tag = "4")]
    deleted: bool,
}

/// What a budget's row says.
#[derive(Clone, Debug)]
pub(crate) struct StoredBudget {
    pub(crate) name: BudgetName,
    pub(crate) declared: Declared,
    pub(crate) paused: bool,
    /// By an administrator, although the configuration declares it.
    pub(crate) deleted: bool,
}

pub(crate) fn put_budget(id: u32, stored: &StoredBudget) -> Write {
    let row = BudgetRow {
        declared: Some(budget::write(&stored.name, &stored.declared)),
        by_admin: stored.declared.source == Source::Admin,
        paused: stored.paused,
        deleted: stored.deleted,
    };
    Write::Put(Table::Budgets, id.to_be_bytes().to_vec(), row.encode_to_vec())
}

pub(crate) fn read_budget(value: &[u8]) -> Option<StoredBudget> {
    let row = BudgetRow::decode(value).ok()?;
    let (name, declared) = read_declared(&row.declared?, row.by_admin)?;
    Some(StoredBudget { name, declared, paused: row.paused, deleted: row.deleted })
}

fn read_declared(written: &v1::Budget, by_admin: bool) -> Option<(BudgetName, Declared)> {
    let (name, spec) = budget::read(written).ok()?;
    let source = if by_admin { Source::Admin } else { Source::Config };
    Some((name, Declared { spec, etag: written.etag.clone(), source }))
}

/// Everything of a budget goes.
pub(crate) fn remove_budget(id: u32) -> [Write; 3] {
    let key = id.to_be_bytes().to_vec();
    [
        Write::Remove(Table::Budgets, key.clone()),
        Write::Remove(Table::Balances, key.clone()),
        Write::RemoveAll(Table::Permits, key),
    ]
}

/// An entry of the audit trail.
#[derive(Clone, PartialEq, Message)]
struct ChangeRow {
    #[prost(message, optional, tag = "1")]
    change: Option<v1::Change>,
    /// Both empty where it was done to a server.
    #[prost(string, tag = "2")]
    provider: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(bool, tag = "4")]
    before_by_admin: bool,
    #[prost(bool, tag = "5")]
    after_by_admin: bool,
}

pub(crate) fn put_change(entry: &Entry) -> Write {
    let by_admin =
        |of: &Option<Declared>| of.as_ref().is_some_and(|declared| declared.source == Source::Admin);
    let row = ChangeRow {
        change: Some(entry.to_wire()),
        provider: entry.budget.as_ref().map_or_else(String::new, |name| name.provider().to_owned()),
        key: entry.budget.as_ref().map_or_else(String::new, |name| name.key().to_owned()),
        before_by_admin: by_admin(&entry.before),
        after_by_admin: by_admin(&entry.after),
    };
    Write::Put(Table::Changes, entry.number.to_be_bytes().to_vec(), row.encode_to_vec())
}

pub(crate) fn remove_change(number: u64) -> Write {
    Write::Remove(Table::Changes, number.to_be_bytes().to_vec())
}

pub(crate) fn read_change(key: &[u8], value: &[u8]) -> Option<Entry> {
    let row = ChangeRow::decode(value).ok()?;
    let change = row.change?;
    let declared = |written: Option<v1::Budget>, by_admin| match written {
        Some(written) => read_declared(&written, by_admin).map(|(_, declared)| Some(declared)),
        None => Some(None),
    };
    Some(Entry {
        number: u64::from_be_bytes(key.try_into().ok()?),
        at: budget::read_time("at", &change.at?).ok()?,
        who: change.who,
        what: What::ALL.into_iter().find(|what| what.name() == change.what)?,
        budget: match (&*row.provider, &*row.key) {
            ("", "") => None,
            (provider, key) => Some(BudgetName::new(provider, key).ok()?),
        },
        server: change.server,
        before: declared(change.before, row.before_by_admin)?,
        after: declared(change.after, row.after_by_admin)?,
        reason: change.reason,
    })
}

/// A live permit.
#[derive(Clone, PartialEq, Message)]
struct PermitRow {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(string, tag = "2")]
    tenant: String,
    #[prost(string, tag = "3")]
    model: String,
    #[prost(uint32, tag = "4")]
    class: u32,
    #[prost(message, optional, tag = "5")]
    charge: Option<v1::Usage>,
    #[prost(fixed64, tag = "6")]
    granted_nanos: u64,
    #[prost(fixed64, tag = "7")]
    expires_nanos: u64,
    #[prost(uint64, tag = "8")]
    ttl_nanos: u64,
    #[prost(uint64, tag = "9")]
    waited_nanos: u64,
    #[prost(bool, tag = "10")]
    open_output: bool,
}

/// What is in a slot now.
pub(crate) fn put_permit(id: u32, slot: u32, permit: Option<&SavedPermit>) -> Write {
    let key = [id.to_be_bytes(), slot.to_be_bytes()].concat();
    let Some(permit) = permit else { return Write::Remove(Table::Permits, key) };
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let row = PermitRow {
        key: permit.key,
        tenant: permit.tenant.clone(),
        model: permit.model.clone(),
        class: class_number(permit.priority),
        charge: Some(v1::Usage {
            max_output_tokens: permit.charge.output_bound.map(NonZeroU64::get),
            ..encode::amounts(permit.charge.clone())
        }),
        granted_nanos: permit.granted.as_nanos(),
        expires_nanos: permit.expires.as_nanos(),
        ttl_nanos: nanos(permit.ttl),
        waited_nanos: nanos(permit.waited),
        open_output: permit.open_output,
    };
    Write::Put(Table::Permits, key, row.encode_to_vec())
}

/// The id of the budget, and the permit.
pub(super) fn read_permit(key: &[u8], value: &[u8]) -> Option<(u32, SavedPermit)> {
    let (id, _slot) = key.split_first_chunk::<4>()?;
    let row = PermitRow::decode(value).ok()?;
    let charge = row.charge?;
    let permit = SavedPermit {
        key: row.key,
        tenant: row.tenant,
        model: row.model,
        priority: Priority::ALL.into_iter().find(|class| class_number(*class) == row.class)?,
        charge: Amounts {
            requests: charge.requests.unwrap_or(0),
            input_tokens: charge.input_tokens.unwrap_or(0),
            output_tokens: charge.output_tokens.unwrap_or(0),
            tokens: charge.tokens.unwrap_or(0),
            output_bound: charge.max_output_tokens.and_then(NonZeroU64::new),
            other: (!charge.other.is_empty())
                .then(|| charge.other.into_iter().map(|(unit, amount)| (unit.into(), amount)).collect()),
        },
        granted: Time::from_nanos(row.granted_nanos),
        expires: Time::from_nanos(row.expires_nanos),
        ttl: Duration::from_nanos(row.ttl_nanos),
        waited: Duration::from_nanos(row.waited_nanos),
        open_output: row.open_output,
    };
    Some((u32::from_be_bytes(*id), permit))
}

fn class_number(class: Priority) -> u32 {
    match class {
        Priority::Interactive => 1,
        Priority::Standard => 2,
        Priority::Batch => 3,
    }
}

/// When the last write was begun, by the clocks that there are.
#[derive(Clone, PartialEq, Message)]
struct PulseRow {
    #[prost(fixed64, tag = "1")]
    at_nanos: u64,
    #[prost(bytes = "vec", tag = "2")]
    boot: Vec<u8>,
    #[prost(uint64, tag = "3")]
    up_nanos: u64,
}

pub(super) fn put_pulse(pulse: &Pulse) -> Write {
    let (boot, up) = pulse.boot.map_or((Vec::new(), Duration::ZERO), |boot| (boot.id.to_vec(), boot.up));
    let up_nanos = u64::try_from(up.as_nanos()).unwrap_or(u64::MAX);
    let row = PulseRow { at_nanos: pulse.at.as_nanos(), boot, up_nanos };
    Write::Put(Table::Meta, PULSE.to_vec(), row.encode_to_vec())
}

pub(super) fn read_pulse(value: &[u8]) -> Option<Pulse> {
    let row = PulseRow::decode(value).ok()?;
    let boot = row.boot.try_into().ok().map(|id| Boot { id, up: Duration::from_nanos(row.up_nanos) });
    Some(Pulse { at: Time::from_nanos(row.at_nanos), boot })
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;

    fn put(write: Write) -> (Vec<u8>, Vec<u8>) {
        let Write::Put(_, key, value) = write else { panic!("not a row: {write:?}") };
        (key, value)
    }

    /// Goal: what is written is read back, and nothing else is read.
    #[test]
    fn rows_are_read_back() {
        let limits = vec![LimitSpec::rate("requests", 60, Duration::from_secs(60)), LimitSpec::in_flight(5)];
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
        let declared = Declared { spec, etag: "e".to_owned(), source: Source::Admin };
        let name: BudgetName = "anthropic/prod".parse().expect("a name");
        let stored =
            StoredBudget { name: name.clone(), declared: declared.clone(), paused: true, deleted: false };
        let (key, value) = put(put_budget(7, &stored));
        assert_eq!(key, 7_u32.to_be_bytes());
        let read = read_budget(&value).expect("a row");
        assert_eq!((&read.name, &read.declared), (&name, &declared));
        assert!(read.paused && !read.deleted);

        let entry = Entry {
            number: 9,
            at: Time::from_nanos(1_700_000_000_123_456_789),
            who: "loopback".to_owned(),
            what: What::Delete,
            budget: Some(name),
            server: String::new(),
            before: Some(declared),
            after: None,
            reason: "why".to_owned(),
        };
        let (key, value) = put(put_change(&entry));
        assert_eq!(read_change(&key, &value).as_ref(), Some(&entry));
        let drained =
            Entry { what: What::Drain, budget: None, server: "a:1".to_owned(), before: None, ..entry };
        let (key, value) = put(put_change(&drained));
        assert_eq!(read_change(&key, &value), Some(drained));

        let permit = SavedPermit {
            key: u64::MAX,
            tenant: "web".to_owned(),
            model: "m".to_owned(),
            priority: Priority::Batch,
            charge: Amounts {
                tokens: 5,
                output_bound: NonZeroU64::new(9),
                other: Some([("points".into(), 3)].into()),
                ..Amounts::default()
            },
            granted: Time::from_nanos(1),
            expires: Time::MAX,
            ttl: Duration::from_secs(600),
            waited: Duration::from_nanos(3),
            open_output: true,
        };
        let (key, value) = put(put_permit(7, 3, Some(&permit)));
        assert_eq!(read_permit(&key, &value), Some((7, permit)));
        assert_eq!(put_permit(7, 3, None), Write::Remove(Table::Permits, key));

        let pulse =
            Pulse { at: Time::from_nanos(5), boot: Some(Boot { id: [3; 16], up: Duration::from_secs(9) }) };
        assert_eq!(read_pulse(&put(put_pulse(&pulse)).1), Some(pulse));
        for garbage in [&b""[..], b"x", &[0xff; 40]] {
            assert!(read_budget(garbage).is_none() && read_change(&key_of(1), garbage).is_none());
            assert!(read_permit(&key_of(1), garbage).is_none());
        }
    }

    fn key_of(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }
}
