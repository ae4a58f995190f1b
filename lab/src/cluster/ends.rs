//! What callers see when a server ends: by the client library, through the server itself and through others, for budgets that it owns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use permitd_client::{Client, Report};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::field::{Field, PATIENCE};
use crate::bench::{Error, PROVIDER, key_of};

/// Budgets of the server that are asked for all the time.
const WATCHED: usize = 40;
/// Between two requests of one caller.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Grants that show that things go on.
const GO_ON: u64 = 20;
/// How long callers go on when the server is back, while it is given budgets.
const AFTER: Duration = Duration::from_secs(3);

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Without a word: `kill -9`.
    Killed,
    /// It is told to stop, with SIGTERM, and started again.
    Replaced,
}

/// What callers of one kind saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// From asking to the grant, the longest of all.
    pub(super) pause: Duration,
    pub(super) grants: u64,
    /// Requests that were answered by an error.
    pub(super) failed: u64,
}

/// What one end came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// By callers who were at other servers.
    pub(super) through_others: Seen,
    /// By callers who were at the server.
    pub(super) through_it: Seen,
    /// Budgets that it owned.
    pub(super) owned: usize,
}

/// Callers of one kind: one client, and one who asks for each budget.
struct Callers {
    callers: JoinSet<Result<Seen, Error>>,
    /// How far each is.
    grants: Arc<Vec<AtomicU64>>,
    over: Arc<AtomicBool>,
}

/// Ends the server that owns the most, under load, and has another one started in its place.
pub(super) async fn end(field: &mut Field, how: End) -> Result<Ended, Error> {
    let mut owned = field.owned(0).await?;
    let place = (0..owned.len()).max_by_key(|place| owned[*place].len()).ok_or("no server")?;
    let keys = std::mem::take(&mut owned[place]);
    let mut urls: Vec<String> = (0..field.servers.len()).map(|place| field.url(place)).collect();
    urls.rotate_left(place);
    let through_it = Callers::begin(urls.clone(), &keys)?;
    urls.rotate_left(1);
    let through_others = Callers::begin(urls, &keys)?;
    for callers in [&through_it, &through_others] {
        callers.go_on().await?;
    }
    match how {
        End::Killed => field.servers[place].kill()?,
        End::Replaced => {
            // It waits for the process, and callers have to go on meanwhile.
            let server = &mut field.servers[place];
            tokio::task::block_in_place(|| server.stop())?;
        }
    }
    for callers in [&through_it, &through_others] {
        callers.go_on().await?;
    }
    tokio::task::block_in_place(|| field.restart(place))?;
    if how == End::Replaced {
        sleep(AFTER).await;
    }
    let [through_it, through_others] = [through_it.end().await?, through_others.end().await?];
    Ok(Ended { through_others, through_it, owned: keys.len() })
}

impl Callers {
    fn begin(urls: Vec<String>, keys: &[usize]) -> Result<Self, Error> {
        let client = Client::builder().endpoints(urls).connect_lazy()?;
        let watched = keys.len().min(WATCHED);
        let grants: Arc<Vec<AtomicU64>> = Arc::new((0..watched).map(|_| AtomicU64::new(0)).collect());
        let over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for (number, key) in keys.iter().take(watched).enumerate() {
            let (client, grants, over) = (client.clone(), Arc::clone(&grants), Arc::clone(&over));
            let budget = format!("{PROVIDER}/{}", key_of(*key));
            callers.spawn(async move { call(&client, &budget, &grants[number], &over).await });
        }
        Ok(Self { callers, grants, over })
    }

    /// Waits until every one has been granted some more.
    async fn go_on(&self) -> Result<(), Error> {
        let count = || self.grants.iter().map(|grants| grants.load(Ordering::Relaxed));
        let wanted: Vec<u64> = count().map(|grants| grants + GO_ON).collect();
        let all = async {
            while count().zip(&wanted).any(|(grants, wanted)| grants < *wanted) {
                sleep(ASK_EVERY).await;
            }
        };
        Ok(timeout(PATIENCE, all).await.map_err(|_| format!("no grants within {PATIENCE:?}"))?)
    }

    /// Lets everybody end, and adds up what they saw.
    async fn end(mut self) -> Result<Seen, Error> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        while let Some(ended) = self.callers.join_next().await {
            let Seen { pause, grants, failed } = ended??;
            all.pause = all.pause.max(pause);
            all.grants += grants;
            all.failed += failed;
        }
        Ok(all)
    }
}

/// Asks, and reports at once, until it is over.
async fn call(client: &Client, budget: &str, grants: &AtomicU64, over: &AtomicBool) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match client.acquire(budget).tokens(1_200).await {
            Ok(guard) => {
                seen.pause = seen.pause.max(asked.elapsed());
                seen.grants += 1;
                guard.report_detached(Report::success());
                grants.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                eprintln!("permitd-lab: {budget}: {error}");
                seen.failed += 1;
            }
        }
        sleep(ASK_EVERY).await;
    }
    Ok(seen)
}
