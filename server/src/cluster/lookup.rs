//! Names of budgets that the directory does not know: a budget that was declared at another server just now is read from etcd before
//! anybody is told that there is none. However many names are asked for, few are read at once, and a name that is nobody's is not read
//! again for a while.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;

use super::{
    Cluster,
    etcd::{
        messages::{Done, TxnRequest},
        read,
    },
};
use crate::config::BudgetName;

/// Names that are remembered, read or to be read; beyond, whatever the directory does not know is nobody's.
const NAMES_MAX: usize = 10_000;
/// Names in one reading: etcd takes 128 operations in a transaction.
const BATCH: usize = 100;
/// Between two readings, so that a flood of names is no flood of readings.
const REST: Duration = Duration::from_millis(5);
/// How long a name stays nobody's without another look.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Between two tries to read.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// What is known of a name that the directory does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is no budget of that name, or was none a moment ago.
    NoSuchBudget,
    /// It is being found out.
    Soon,
}

/// Names to be read, and those that were nobody's.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// `None`: to be read. Else when it was nobody's.
    names: Mutex<HashMap<BudgetName, Option<Instant>>>,
    asked: Notify,
}

impl Lookups {
    /// Whether there is a budget of a name that the directory does not know.
    pub(super) fn look_up(&self, budget: &BudgetName, now: Instant) -> Answer {
        let mut names = self.names.lock();
        match names.get(budget) {
            Some(None) => return Answer::Soon,
            Some(Some(at)) if now.duration_since(*at) < KNOWN_FOR => return Answer::NoSuchBudget,
            Some(Some(_)) => {}
            None if names.len() >= NAMES_MAX => return Answer::NoSuchBudget,
            None => {}
        }
        names.insert(budget.clone(), None);
        drop(names);
        self.asked.notify_one();
        Answer::Soon
    }

    /// Some of the names to be read. Forgets those that nobody asked for of late.
    fn due(&self, now: Instant) -> Vec<BudgetName> {
        let mut names = self.names.lock();
        names.retain(|_, at| at.is_none_or(|at| now.duration_since(at) < KNOWN_FOR));
        let due = names.iter().filter(|(_, at)| at.is_none()).take(BATCH);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// These were read, and are nobody's unless the directory knows them by now.
    fn answered(&self, read: &[BudgetName], now: Instant) {
        let mut names = self.names.lock();
        for name in read {
            names.insert(name.clone(), Some(now));
        }
    }
}

impl Cluster {
    /// Finds out about names that somebody asked for, for good.
    pub(super) async fn look_up_names(self: Arc<Self>) {
        loop {
            let due = self.lookups.due(Instant::now());
            if due.is_empty() {
                self.lookups.asked.notified().await;
                continue;
            }
            match self.read_names(&due).await {
                Ok(is_news) => {
                    self.lookups.answered(&due, Instant::now());
                    if is_news {
                        self.tell_change();
                    }
                    tokio::time::sleep(REST).await;
                }
                Err(status) => {
                    tracing::debug!(error = status.message(), "names of budgets can't be looked up yet");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    /// Reads what is declared under these names into the directory. Whether anything is.
    async fn read_names(&self, names: &[BudgetName]) -> Result<bool, Status> {
        let reads = names.iter().map(|name| read(self.keys.budget(name)));
        let request = TxnRequest { compare: Vec::new(), success: reads.collect(), failure: Vec::new() };
        let mut is_news = false;
        for response in self.etcd.txn(request).await?.responses {
            let Some(Done::Range(range)) = response.done else { continue };
            for kv in range.kvs {
                is_news |= self.take_in(kv);
            }
        }
        Ok(is_news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> BudgetName {
        BudgetName::new("p", &number.to_string()).expect("a name")
    }

    /// Goal: a name that is nobody's is read once and not again for a second, however often it is asked for.
    #[test]
    fn is_read_once_a_second() {
        let (lookups, begin) = (Lookups::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(lookups.look_up(&name(1), at(0)), Answer::Soon);
        assert_eq!(lookups.look_up(&name(1), at(0)), Answer::Soon);
        assert_eq!(lookups.due(at(1)), [name(1)]);
        lookups.answered(&[name(1)], at(2));
        assert_eq!(lookups.due(at(3)), []);
        assert_eq!(lookups.look_up(&name(1), at(1_001)), Answer::NoSuchBudget);
        assert_eq!(lookups.look_up(&name(1), at(1_002)), Answer::Soon, "it may be somebody's by now");
        assert_eq!(lookups.due(at(1_003)), [name(1)]);
    }

    /// Goal: a flood of names takes bounded room, and is read in parts.
    #[test]
    fn is_bounded() {
        let (lookups, now) = (Lookups::default(), Instant::now());
        for number in 0..NAMES_MAX {
            assert_eq!(lookups.look_up(&name(number), now), Answer::Soon);
        }
        assert_eq!(lookups.look_up(&name(NAMES_MAX), now), Answer::NoSuchBudget);
        let due = lookups.due(now);
        assert_eq!(due.len(), BATCH);
        lookups.answered(&due, now);
        assert!(lookups.due(now).iter().all(|name| !due.contains(name)));
        // What nobody asks for again is forgotten.
        lookups.due(now + KNOWN_FOR);
        assert_eq!(lookups.names.lock().len(), NAMES_MAX - BATCH);
    }
}
