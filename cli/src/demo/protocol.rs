//! What the demo and its client processes say to each other: lines of JSON, orders on stdin, reports on stdout.
//!
//! The end of stdin means that the demo is gone, however it went; a client then ends itself.

use serde::{Deserialize, Serialize};

use super::{measure::Wait, scenario::ClientSpec};

/// To a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// First, and once: who it is.
    Prepare(Box<Assignment>),
    /// Once all clients are ready.
    Go,
    /// The phase is over.
    Stop,
}

/// Who a client is and how it calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) client: ClientSpec,
    /// The provider's address, as a URL.
    pub(crate) provider: String,
    pub(crate) way: Way,
}

/// How a client gets its calls through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Just calls; backs off and tries again when it is refused.
    Backoff,
    /// Asks permitd for a permit first.
    Permits { server: String, budget: String },
}

/// From a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Prepared; waits for [`Order::Go`].
    Ready,
    /// Every now and then.
    Progress(Progress),
    /// Last: all calls are made, or it was stopped.
    Finished {
        /// Where it stood at the end.
        progress: Progress,
        /// The interactive client's waits.
        waits: Vec<Wait>,
    },
    /// Last: it can't go on, and why.
    Failed(String),
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Calls answered.
    pub(crate) done: u64,
    /// Calls wanted and held back: in permitd's queue, or backing off.
    pub(crate) waiting: u64,
    /// Calls sent and not answered.
    pub(crate) in_flight: u64,
    /// Calls refused with 429.
    pub(crate) limited: u64,
}
