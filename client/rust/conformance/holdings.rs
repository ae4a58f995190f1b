//! What became of each acquire: it waits, it is held, or it is over.

use std::collections::HashMap;

use parking_lot::Mutex;
use permitd_client::{Error, Guard};
use serde_json::json;
use tokio::task::AbortHandle;

use crate::events::{self, say};

/// See the module.
#[derive(Default)]
pub(crate) struct Holdings(Mutex<HashMap<String, Holding>>);

enum Holding {
    /// Aborting the task drops the future of the acquire.
    Waits(AbortHandle),
    Held(Guard),
}

impl Holdings {
    pub(crate) fn waits(&self, id: String, task: AbortHandle) {
        self.0.lock().insert(id, Holding::Waits(task));
    }

    pub(crate) fn granted(&self, id: &str, guard: Guard) {
        say(&events::granted(id, &guard));
        self.0.lock().insert(id.to_owned(), Holding::Held(guard));
    }

    pub(crate) fn refused(&self, id: &str, error: &Error) {
        say(&events::refused(id, error));
        self.0.lock().remove(id);
    }

    /// The last of several permits was granted.
    pub(crate) fn complete(&self, id: &str) {
        say(&json!({ "event": "complete", "id": id }));
        self.0.lock().remove(id);
    }

    /// Withdraws what waits, and gives back what is held.
    pub(crate) fn cancel(&self, id: &str) {
        match self.0.lock().remove(id) {
            Some(Holding::Waits(task)) => task.abort(),
            Some(Holding::Held(guard)) => guard.cancel(),
            None => return,
        }
        say(&json!({ "event": "cancelled", "id": id }));
    }

    /// Lets a permit go without a report.
    pub(crate) fn let_go(&self, id: &str) {
        drop(self.take(id));
        say(&json!({ "event": "dropped", "id": id }));
    }

    /// The guard, if it is held.
    pub(crate) fn take(&self, id: &str) -> Option<Guard> {
        let mut holdings = self.0.lock();
        match holdings.remove(id)? {
            Holding::Held(guard) => Some(guard),
            waits @ Holding::Waits(_) => {
                holdings.insert(id.to_owned(), waits);
                None
            }
        }
    }

    /// Lets all permits go.
    pub(crate) fn let_all_go(&self) {
        self.0.lock().retain(|_, holding| matches!(holding, Holding::Waits(_)));
    }
}
