//! The store of a cluster: rows in etcd, budget by budget, each written only while this server owns the budget. A write by a server that
//! was deposed is refused by etcd, whatever that server believes; and so is one that was given up and comes late, after newer ones: before
//! the next write the claim itself is written anew, and every write names the claim as it was written last.
//!
//! Rows of one budget are written all or none; those of several budgets may be written in parts. Permits are kept in pages, so that how
//! many are granted does not tell in how many keys are written.

mod owned;
mod values;

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use tokio::runtime;
use tonic::Status;

use self::values::{BalanceValue, PageValue};
pub(crate) use self::{
    owned::{Hold, Owned},
    values::{BudgetValue, Loaded},
};
use super::{
    EachRow, Store, StoreError, Table, Write,
    rows::{PULSE, SEAL, read_budget},
};
use crate::{
    cluster::{
        etcd::{
            Etcd, delete, made_at,
            messages::{Done, KeyValue, RequestOp, TxnRequest},
            put, read, written_at,
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
/// Tries to write under claims that turn out to have been written anew.
const COMMITS_MAX: usize = 4;

/// A row of the store, as [`Store::read`] hands it out.
pub(crate) type Row = (Table, Vec<u8>, Vec<u8>);

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

/// What is to be written of a budget, and under which claim, by the revision at which it was made; `None` for what belongs to none.
type ClaimedGroup = (Option<(BudgetName, i64)>, Group);

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
    fn groups(&self, writes: &[Write]) -> Vec<ClaimedGroup> {
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
            let revision = claims.by_name.get(&name).map_or(0, |claim| claim.hold.revision);
            (Some((name, revision)), group)
        });
        let loose = (!loose.changes.is_empty()).then_some((None, loose));
        claimed.chain(loose).collect()
    }

    /// As many groups as fit into one transaction at a time.
    async fn write_all(&self, groups: &[ClaimedGroup]) -> Result<Vec<BudgetName>, Status> {
        let mut lost = Vec::new();
        let mut groups = groups;
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
    async fn commit(&self, groups: &[ClaimedGroup]) -> Result<bool, Status> {
        for _ in 0..COMMITS_MAX {
            if !self.affirm(groups).await? {
                return Ok(false);
            }
            let Some(holds) = self.owned.holds(groups) else { return Ok(false) };
            let owner = |(name, _): &(BudgetName, Hold)| self.keys.owner(name);
            let request = TxnRequest {
                compare: holds.iter().map(|held| written_at(owner(held), held.1.written)).collect(),
                success: groups.iter().flat_map(|(_, group)| group.ops()).collect(),
                failure: holds.iter().map(|held| read(owner(held))).collect(),
            };
            let given_up = self.etcd.given_up();
            let answered = self.etcd.txn(request).await;
            if self.etcd.given_up() != given_up {
                self.owned.update(&holds, |claim| claim.is_doubted = true);
            }
            let answered = answered?;
            if answered.succeeded {
                return Ok(true);
            }
            // Where the claims stand, one of them was written anew by a call that had been given up.
            let found = answered.responses.into_iter().map(|response| match response.done {
                Some(Done::Range(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
            for ((name, hold), found) in holds.into_iter().zip(found) {
                let Some(found) = found.filter(|found| found.create_revision == hold.revision) else {
                    return Ok(false);
                };
                self.owned.update(&[(name, hold)], |claim| claim.hold.written = found.mod_revision);
            }
        }
        Err(Status::unavailable("the claims were written anew again and again"))
    }

    /// Writes claims anew under which a write was given up: if that comes after all, it names a claim that is not the latest. False if any
    /// of them does not hold any more.
    async fn affirm(&self, groups: &[ClaimedGroup]) -> Result<bool, Status> {
        let doubted = self.owned.doubted(groups);
        if doubted.is_empty() {
            return Ok(true);
        }
        let put_anew = |(name, hold): &(BudgetName, Hold)| {
            put(self.keys.owner(name), hold.owner.clone().into_bytes(), hold.lease)
        };
        let request = TxnRequest {
            compare: doubted
                .iter()
                .map(|(name, hold)| made_at(self.keys.owner(name), hold.revision))
                .collect(),
            success: doubted.iter().map(put_anew).collect(),
            failure: Vec::new(),
        };
        let answered = self.etcd.txn(request).await?;
        if let (true, Some(header)) = (answered.succeeded, answered.header) {
            self.owned.update(&doubted, |claim| {
                (claim.hold.written, claim.is_doubted) = (header.revision, false);
            });
        }
        Ok(answered.succeeded)
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
        let written = self.runtime.block_on(self.write_all(&groups));
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
