//! The store of a cluster: rows in etcd, budget by budget, each written only while this server owns the budget. A write by a server that
//! was deposed is refused by etcd, whatever that server believes.
//!
//! Rows of one budget are written all or none; those of several budgets may be written in parts. Permits are kept in pages, so that how
//! many are granted does not tell in how many keys are written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use prost::Message;
use tokio::{runtime, sync::Notify};
use tonic::Status;

use super::{
    EachRow, Store, StoreError, Table, Write,
    rows::{PULSE, SEAL, read_budget, read_pulse},
};
use crate::{
    clock::Pulse,
    cluster::{
        etcd::{
            Etcd, delete, made_at,
            messages::{KeyValue, RequestOp, TxnRequest},
            put,
        },
        keys::{Keys, Live},
    },
    config::{BudgetName, EtcdConfig},
};

/// Slots of one page.
const PAGE_SLOTS: u32 = 256;
/// etcd takes 128 operations in a transaction, and 1.5 MiB.
const OPS_MAX: usize = 100;
const BYTES_MAX: usize = 1024 * 1024;

/// A row of the store, as [`Store::read`] hands it out.
pub(crate) type Row = (Table, Vec<u8>, Vec<u8>);

/// The budgets that this server owns: what may be written, and under which claim.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    claims: Mutex<Claims>,
    /// A write was refused since a budget is not owned any more.
    pub(crate) deposed: Notify,
}

#[derive(Debug, Default)]
struct Claims {
    by_name: HashMap<BudgetName, Claim>,
    names: HashMap<u32, BudgetName>,
    lost: Vec<BudgetName>,
}

#[derive(Debug)]
struct Claim {
    /// At which the claim was made: whoever claims later has another.
    revision: i64,
    /// The budget that has the name now.
    current: Option<u32>,
    pages: BTreeMap<(u32, u32), BTreeMap<u32, Vec<u8>>>,
}

/// A budget's declaration, with its id.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BudgetValue {
    #[prost(fixed32, tag = "1")]
    pub(crate) id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) row: Vec<u8>,
}

/// A balance, with whose clock it was written by, and when.
#[derive(Clone, PartialEq, Message)]
struct BalanceValue {
    /// The process.
    #[prost(string, tag = "1")]
    writer: String,
    #[prost(bytes = "vec", tag = "3")]
    pulse: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    row: Vec<u8>,
}

/// A page of permits.
#[derive(Clone, PartialEq, Message)]
struct PageValue {
    #[prost(btree_map = "uint32, bytes", tag = "1")]
    slots: BTreeMap<u32, Vec<u8>>,
}

/// What etcd has of one budget.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) rows: Vec<Row>,
    /// Which process wrote the balance, and when that was by its clock.
    pub(crate) written_by: Option<(String, Pulse)>,
}

impl Loaded {
    /// The budget's declaration.
    pub(crate) fn declared(&mut self, value: &[u8]) -> Option<u32> {
        let BudgetValue { id, row } = BudgetValue::decode(value).ok()?;
        self.rows.push((Table::Budgets, id.to_be_bytes().to_vec(), row));
        Some(id)
    }

    /// What is left of it.
    pub(crate) fn balance(&mut self, id: u32, value: &[u8]) -> Option<()> {
        let BalanceValue { writer, pulse, row } = BalanceValue::decode(value).ok()?;
        self.written_by = Some((writer, read_pulse(&pulse)?));
        self.rows.push((Table::Balances, id.to_be_bytes().to_vec(), row));
        Some(())
    }

    /// A page of its permits.
    pub(crate) fn page(&mut self, id: u32, value: &[u8]) -> Option<()> {
        for (slot, row) in PageValue::decode(value).ok()?.slots {
            self.rows.push((Table::Permits, [id.to_be_bytes(), slot.to_be_bytes()].concat(), row));
        }
        Some(())
    }
}

impl Owned {
    /// The budget is this server's from now on, with what was loaded of it.
    pub(crate) fn claimed(&self, name: BudgetName, revision: i64, rows: &[Row]) {
        let mut claim = Claim { revision, current: None, pages: BTreeMap::new() };
        let mut claims = self.claims.lock();
        for (table, key, value) in rows {
            match (table, id_of(key)) {
                (Table::Budgets, Some(id)) => {
                    claim.current = Some(id);
                    claims.names.insert(id, name.clone());
                }
                (Table::Permits, Some(id)) => {
                    if let Some(slot) = slot_of(key) {
                        claim.pages.entry((id, slot / PAGE_SLOTS)).or_default().insert(slot, value.clone());
                    }
                }
                _ => {}
            }
        }
        claims.by_name.insert(name, claim);
    }

    /// The claim on a budget, if there is one.
    pub(crate) fn revision(&self, name: &BudgetName) -> Option<i64> {
        Some(self.claims.lock().by_name.get(name)?.revision)
    }

    /// The budget is not this server's any more.
    pub(crate) fn released(&self, name: &BudgetName) {
        let mut claims = self.claims.lock();
        claims.by_name.remove(name);
        claims.names.retain(|_, of| of != name);
    }

    /// Nothing is this server's any more.
    pub(crate) fn clear(&self) {
        *self.claims.lock() = Claims::default();
    }

    /// Budgets that turned out to be another's, told once.
    pub(crate) fn take_lost(&self) -> Vec<BudgetName> {
        std::mem::take(&mut self.claims.lock().lost)
    }
}

/// The store. It has a thread of its own, and on it a runtime and a client.
#[derive(Debug)]
pub(crate) struct EtcdStore {
    runtime: runtime::Runtime,
    etcd: Etcd,
    keys: Keys,
    /// This process.
    instance: String,
    owned: Arc<Owned>,
}

/// What has to be written together.
#[derive(Debug, Default)]
struct Group {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Group {
    fn bytes(&self) -> usize {
        self.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    fn ops(&self) -> impl Iterator<Item = RequestOp> {
        self.changes.iter().map(|(key, value)| match value {
            Some(value) => put(key.clone(), value.clone(), 0),
            None => delete(key.clone()),
        })
    }
}

/// Budgets with what is to be written of them, and under which claim; `None` for what belongs to none.
type Groups = Vec<(Option<(BudgetName, i64)>, Group)>;

impl EtcdStore {
    /// # Errors
    /// What is wrong with the configuration, or that there is no runtime to be had.
    pub(crate) fn open(
        config: &EtcdConfig,
        keys: Keys,
        instance: String,
        owned: Arc<Owned>,
    ) -> Result<Self, StoreError> {
        let unavailable = |why: String| StoreError::Unavailable { place: "etcd".to_owned(), why };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unavailable(error.to_string()))?;
        let etcd = {
            let _inside = runtime.enter();
            Etcd::new(config).map_err(unavailable)?
        };
        Ok(Self { runtime, etcd, keys, instance, owned })
    }

    /// Sorts writes by the budgets that they are of. Those of budgets that are not owned any more are left out: their cells are gone
    /// or on their way.
    fn groups(&self, writes: &[Write]) -> Groups {
        let claims = &mut *self.owned.claims.lock();
        let mut groups: BTreeMap<BudgetName, Group> = BTreeMap::new();
        let mut loose = Group::default();
        let mut dirty: Vec<(BudgetName, (u32, u32))> = Vec::new();
        let pulse = writes.iter().find_map(|write| match write {
            Write::Put(Table::Meta, key, pulse) if key == PULSE => Some(pulse.clone()),
            _ => None,
        });
        let pulse = pulse.unwrap_or_default();
        for write in writes {
            let (table, key, value) = match write {
                Write::Put(table, key, value) => (*table, key, Some(value)),
                Write::Remove(table, key) | Write::RemoveAll(table, key) => (*table, key, None),
            };
            if table == Table::Changes {
                if let Ok(number) = key.as_slice().try_into().map(u64::from_be_bytes) {
                    loose.changes.insert(self.keys.change(number), value.cloned());
                }
                continue;
            }
            // Members tell their clocks and get their ids elsewhere.
            let Some(id) = id_of(key).filter(|_| table != Table::Meta) else { continue };
            if let (Table::Budgets, Some(row)) = (table, value)
                && let Some(stored) = read_budget(row)
                && let Some(claim) = claims.by_name.get_mut(&stored.name)
            {
                claim.current = Some(id);
                claims.names.insert(id, stored.name);
            }
            let Some(name) = claims.names.get(&id) else { continue };
            let Some(claim) = claims.by_name.get_mut(name) else { continue };
            let group = groups.entry(name.clone()).or_default();
            match (table, value) {
                (Table::Budgets, Some(row)) => {
                    let value = BudgetValue { id, row: row.clone() };
                    group.changes.insert(self.keys.budget(name), Some(value.encode_to_vec()));
                }
                // The name may be another budget's by now.
                (Table::Budgets, None) if claim.current == Some(id) => {
                    group.changes.insert(self.keys.budget(name), None);
                }
                (Table::Balances, row) => {
                    let (writer, pulse) = (&self.instance, pulse.clone());
                    let value =
                        |row: &Vec<u8>| BalanceValue { writer: writer.clone(), pulse, row: row.clone() };
                    let value = row.map(value);
                    group.changes.insert(self.keys.balance(id), value.map(|value| value.encode_to_vec()));
                }
                (Table::Permits, row) => match (slot_of(key), row) {
                    (Some(slot), row) => {
                        let page = claim.pages.entry((id, slot / PAGE_SLOTS)).or_default();
                        match row {
                            Some(row) => drop(page.insert(slot, row.clone())),
                            None => drop(page.remove(&slot)),
                        }
                        dirty.push((name.clone(), (id, slot / PAGE_SLOTS)));
                    }
                    (None, _) => {
                        for (page, slots) in claim.pages.iter_mut().filter(|((of, _), _)| *of == id) {
                            slots.clear();
                            dirty.push((name.clone(), *page));
                        }
                    }
                },
                _ => {}
            }
        }
        for (name, (id, page)) in dirty {
            let Some(claim) = claims.by_name.get_mut(&name) else { continue };
            let slots = claim.pages.get(&(id, page)).filter(|slots| !slots.is_empty());
            let value = slots.map(|slots| PageValue { slots: slots.clone() }.encode_to_vec());
            // An empty page stays in mind, so that it is removed again if this write fails.
            groups.entry(name).or_default().changes.insert(self.keys.page(id, page), value);
        }
        let claimed = groups.into_iter().map(|(name, group)| {
            let revision = claims.by_name.get(&name).map_or(0, |claim| claim.revision);
            (Some((name, revision)), group)
        });
        let loose = (!loose.changes.is_empty()).then_some((None, loose));
        claimed.chain(loose).collect()
    }

    /// As many groups as fit into one transaction at a time.
    async fn write_all(&self, groups: Groups) -> Result<Vec<BudgetName>, Status> {
        let mut lost = Vec::new();
        let mut groups = groups.as_slice();
        while !groups.is_empty() {
            let (mut ops, mut bytes, mut taken) = (0, 0, 0);
            for (_, group) in groups {
                ops += group.changes.len();
                bytes += group.bytes();
                if taken > 0 && (ops > OPS_MAX || bytes > BYTES_MAX) {
                    break;
                }
                taken += 1;
            }
            let (now, rest) = groups.split_at(taken);
            if !self.commit(now).await? {
                // One of them is not ours: which?
                for one in now {
                    if !self.commit(std::slice::from_ref(one)).await? {
                        lost.extend(one.0.as_ref().map(|(name, _)| name.clone()));
                    }
                }
            }
            groups = rest;
        }
        Ok(lost)
    }

    /// False if any of the claims does not hold any more; nothing was written then.
    async fn commit(&self, groups: &[(Option<(BudgetName, i64)>, Group)]) -> Result<bool, Status> {
        let claims = groups.iter().filter_map(|(claim, _)| claim.as_ref());
        let compare = claims.map(|(name, revision)| made_at(self.keys.owner(name), *revision)).collect();
        let success = groups.iter().flat_map(|(_, group)| group.ops()).collect();
        let request = TxnRequest { compare, success, failure: Vec::new() };
        Ok(self.etcd.txn(request).await?.succeeded)
    }

    fn unavailable(status: &Status) -> StoreError {
        StoreError::Unavailable { place: "etcd".to_owned(), why: status.message().to_owned() }
    }
}

impl Store for EtcdStore {
    fn read(&mut self, row: &mut EachRow<'_>) -> Result<(), StoreError> {
        let damaged = || StoreError::damaged("etcd", "a value below the cluster's prefix makes no sense");
        let (found, _) = self
            .runtime
            .block_on(self.etcd.range(self.keys.all()))
            .map_err(|status| Self::unavailable(&status))?;
        let value = |key: &[u8]| found.iter().find(|kv| kv.key == key);
        if let Some(KeyValue { value, .. }) = value(&self.keys.seal()) {
            row(Table::Meta, SEAL, value)?;
        }
        for kv in &found {
            match self.keys.read(&kv.key) {
                Some(Live::Change(number)) => row(Table::Changes, &number.to_be_bytes(), &kv.value)?,
                Some(Live::Budget(_)) => {
                    let mut loaded = Loaded::default();
                    let id = loaded.declared(&kv.value).ok_or_else(damaged)?;
                    if let Some(balance) = value(&self.keys.balance(id)) {
                        loaded.balance(id, &balance.value).ok_or_else(damaged)?;
                    }
                    let pages = self.keys.permits(id);
                    for page in found.iter().filter(|kv| kv.key.starts_with(&pages)) {
                        loaded.page(id, &page.value).ok_or_else(damaged)?;
                    }
                    loaded.rows.iter().try_for_each(|(table, key, value)| row(*table, key, value))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let groups = self.groups(writes);
        let written = self.runtime.block_on(self.write_all(groups));
        let lost = written.map_err(|status| Self::unavailable(&status))?;
        if lost.is_empty() {
            return Ok(());
        }
        let why = format!("{} and perhaps others are owned by another server now", lost[0]);
        self.owned.claims.lock().lost.extend(lost);
        self.owned.deposed.notify_one();
        Err(StoreError::Unavailable { place: "etcd".to_owned(), why })
    }
}

fn id_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.first_chunk()?))
}

fn slot_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(4..)?.try_into().ok()?))
}
