//! What several servers cost and bear as one: the real binary in processes of their own, on a real etcd. Everything is on one machine,
//! servers, etcd and load, so ratios say more than figures.

mod ends;
mod etcd;
mod field;
mod hop;
mod load;
mod told;

use std::{path::Path, time::Duration};

use tokio::runtime;

pub(crate) use self::field::Field;
use self::{
    ends::{End, Ended},
    hop::Hop,
    load::{Load, Owned, Through},
};
use crate::bench::Error;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// Servers of the cluster.
    pub servers: usize,
    /// Budgets that they share.
    pub budgets: usize,
    /// How often each way gets its turn, and how often a server ends in each way.
    pub rounds: usize,
    /// How long a turn takes.
    pub turn: Duration,
    /// Connections of the load, each with one session.
    pub connections: usize,
}

/// What it came to.
#[derive(Debug)]
pub struct Figures {
    cluster: Cluster,
    hop: Hop,
    throughput: Vec<Through>,
    writes: Vec<Load>,
    killed: Vec<Ended>,
    replaced: Vec<Ended>,
}

impl Cluster {
    /// Runs it. Tells `progress` what it is at.
    ///
    /// # Errors
    /// If there is no etcd, a server can't be started, or something is refused that should not be: no figure is made up.
    pub fn run(self, binary: &Path, mut progress: impl FnMut(&str)) -> Result<Figures, Error> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        progress("starting etcd and servers");
        let mut several = runtime.block_on(Field::start(binary.to_owned(), self.servers, self.budgets))?;
        progress("the hop");
        let hop = runtime.block_on(hop::measure(&several, self.turn * 2))?;
        let (known, learned) = (runtime.block_on(several.owned(0))?, runtime.block_on(several.learned())?);
        let owned = Owned { known: &known, learned: &learned };
        let throughput = {
            let alone = runtime.block_on(Field::start(binary.to_owned(), 1, self.budgets))?;
            load::throughput(&self, &alone, &several, owned, &mut progress)?
        };
        progress("what etcd writes");
        let writes = load::writes(&self, &several, owned)?;
        let mut ends = |how, name: &str| -> Result<Vec<Ended>, Error> {
            let mut ended = Vec::new();
            for round in 1..=self.rounds {
                progress(&format!("a server is {name}, {round} of {}", self.rounds));
                ended.push(runtime.block_on(ends::end(&mut several, how))?);
            }
            Ok(ended)
        };
        let (replaced, killed) = (ends(End::Replaced, "replaced")?, ends(End::Killed, "killed")?);
        Ok(Figures { cluster: self, hop, throughput, writes, killed, replaced })
    }
}
