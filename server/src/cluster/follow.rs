//! Following etcd: what the directory and the audit trail know comes from one watch, begun anew with everything that there is whenever
//! it breaks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use tonic::Status;

use super::{
    Cluster,
    directory::MemberRow,
    etcd::messages::{Event, KeyValue},
    keys::Live,
};
use crate::store::{etcd::BudgetValue, rows};

/// Between two tries to follow.
const RETRY_EVERY: Duration = Duration::from_millis(200);

impl Cluster {
    /// Reads everything that there is. The revision as of which.
    pub(super) async fn read_directory(&self) -> Result<i64, Status> {
        let (found, revision) = self.etcd.range(&self.keys.live()).await?;
        self.directory.write().clear();
        for kv in found {
            self.take_in(kv);
        }
        self.tell_change();
        Ok(revision)
    }

    /// Follows from that revision on, for good.
    pub(super) async fn follow(self: Arc<Self>, mut revision: i64) {
        loop {
            if let Err(status) = self.follow_once(revision).await {
                tracing::warn!(
                    error = status.message(),
                    "does not hear of changes in the cluster at this moment"
                );
            }
            revision = loop {
                match self.read_directory().await {
                    Ok(revision) => break revision,
                    Err(_) => tokio::time::sleep(RETRY_EVERY).await,
                }
            };
        }
    }

    async fn follow_once(&self, revision: i64) -> Result<(), Status> {
        // The requests' end would end the watch.
        let (mut answers, _requests) = self.etcd.watch(&self.keys.live(), revision + 1).await?;
        while let Some(answer) = answers.message().await? {
            if answer.canceled {
                return Err(Status::aborted(answer.cancel_reason));
            }
            let mut is_news = false;
            for Event { kind, kv } in answer.events {
                let Some(kv) = kv else { continue };
                is_news |= match kind {
                    0 => self.take_in(kv),
                    _ => self.forget(&kv.key),
                };
            }
            if is_news {
                self.tell_change();
            }
        }
        Ok(())
    }

    /// Takes in a key. Whether a request may find another way by it.
    pub(super) fn take_in(&self, KeyValue { key, value, .. }: KeyValue) -> bool {
        let mut directory = self.directory.write();
        match self.keys.read(&key) {
            Some(Live::Member(name)) => {
                let Ok(row) = MemberRow::decode(&*value) else { return false };
                directory.member_is(name, row, Instant::now())
            }
            Some(Live::Owner(budget)) => {
                directory.owner_is(budget, String::from_utf8_lossy(&value).into_owned());
                true
            }
            Some(Live::Budget(_)) => {
                let value = BudgetValue::decode(&*value).ok();
                let read = value.and_then(|value| Some((value.id, rows::read_budget(&value.row)?)));
                let Some((id, stored)) = read else { return false };
                directory.budget_is(id, stored);
                true
            }
            Some(Live::Pin(budget)) => {
                directory.pin_is(budget, String::from_utf8_lossy(&value).into_owned());
                true
            }
            Some(Live::Change(number)) => {
                drop(directory);
                if let Some(entry) = rows::read_change(&number.to_be_bytes(), &value) {
                    self.trail.enter(entry);
                }
                false
            }
            None => false,
        }
    }

    fn forget(&self, key: &[u8]) -> bool {
        let mut directory = self.directory.write();
        match self.keys.read(key) {
            Some(Live::Member(name)) => directory.member_gone(&name),
            Some(Live::Owner(budget)) => directory.owner_gone(&budget),
            Some(Live::Budget(budget)) => directory.budget_gone(&budget),
            Some(Live::Pin(budget)) => directory.pin_gone(&budget),
            Some(Live::Change(_)) | None => return false,
        }
        true
    }
}
