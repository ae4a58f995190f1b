//! What the server tells: budgets as they change, and an explanation of the one that is open, or pools. A connection that breaks is made
//! anew for as long as somebody looks.

use std::{convert::Infallible, time::Duration};

use permitd_proto::v1::{self, admin_service_client::AdminServiceClient};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Status, Streaming};

use super::board::{Name, parts};
use crate::{
    failure::Failure,
    format::wire_span,
    remote::{Connection, Remote},
};

/// News that are not taken yet.
const NEWS: usize = 64;
/// Between two explanations of the open budget, or two looks at pools.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to reach a server.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Something to show.
#[derive(Debug)]
pub(super) enum News {
    /// Everything is told anew from here on.
    Connected,
    Changed(Vec<v1::BudgetState>),
    /// The open budget; `None` if it is gone.
    Explained(Name, Option<Box<v1::ExplainBudgetResponse>>),
    /// All pools, while they are looked at.
    Pools(Vec<v1::Pool>),
    /// Nothing is told until [`News::Connected`].
    Lost(Failure),
}

/// What is asked for, beside all budgets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Looked {
    #[default]
    All,
    Budget(Name),
    Pools,
}

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) remote: Remote,
    /// A glob over `provider/key`.
    pub(super) filter: String,
    pub(super) interval: Duration,
}

/// A watch that has begun.
pub(super) struct Begun {
    admin: AdminServiceClient<Connection>,
    changes: Streaming<v1::WatchBudgetsResponse>,
}

impl Watched {
    /// Begins to watch.
    pub(super) async fn begin(&self) -> Result<Begun, Failure> {
        let mut admin = self.remote.admin().await?;
        let interval = Some(wire_span(self.interval));
        let request = v1::WatchBudgetsRequest { filter: self.filter.clone(), interval };
        let changes = admin.watch_budgets(request).await.map_err(|status| self.remote.failure(&status))?;
        Ok(Begun { admin, changes: changes.into_inner() })
    }

    /// Goes on for as long as the news are taken.
    pub(super) fn follow(self, begun: Begun, looked: watch::Receiver<Looked>) -> mpsc::Receiver<News> {
        let (news, taken) = mpsc::channel(NEWS);
        tokio::spawn(async move {
            let mut begun = Ok(begun);
            loop {
                let lost = match begun {
                    Ok(begun) => self.tell(begun, looked.clone(), &news).await,
                    Err(failure) => failure,
                };
                if news.send(News::Lost(lost)).await.is_err() {
                    return;
                }
                sleep(AGAIN_AFTER).await;
                begun = self.begin().await;
            }
        });
        taken
    }

    /// Tells everything until the connection breaks; says why it did.
    async fn tell(
        &self,
        begun: Begun,
        looked: watch::Receiver<Looked>,
        news: &mpsc::Sender<News>,
    ) -> Failure {
        let Begun { admin, changes } = begun;
        // Nobody takes news any more when the process is about to end.
        let _ = news.send(News::Connected).await;
        let ended = tokio::select! {
            ended = self.tell_changes(changes, news) => ended,
            ended = self.ask(admin, looked, news) => ended,
        };
        match ended {
            Err(failure) => failure,
        }
    }

    async fn tell_changes(
        &self,
        mut changes: Streaming<v1::WatchBudgetsResponse>,
        news: &mpsc::Sender<News>,
    ) -> Result<Infallible, Failure> {
        loop {
            let change = changes.message().await.map_err(|status| self.remote.failure(&status))?;
            let change = change.ok_or_else(|| Failure::new("the server has ended the watch"))?;
            let _ = news.send(News::Changed(change.states)).await;
        }
    }

    /// Asks for what is looked at, at once when that changes and once a second.
    async fn ask(
        &self,
        mut admin: AdminServiceClient<Connection>,
        mut looked: watch::Receiver<Looked>,
        news: &mpsc::Sender<News>,
    ) -> Result<Infallible, Failure> {
        let mut timer = interval(ASK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                changed = looked.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
            let at = looked.borrow_and_update().clone();
            let told = match at {
                Looked::All => continue,
                Looked::Budget(name) => explain(&mut admin, name).await,
                Looked::Pools => self.pools(&mut admin).await.map(News::Pools),
            };
            let _ = news.send(told.map_err(|status| self.remote.failure(&status))?).await;
        }
    }

    /// Those of which the pool or a member is watched.
    async fn pools(&self, admin: &mut AdminServiceClient<Connection>) -> Result<Vec<v1::Pool>, Status> {
        let (mut pools, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListPoolsRequest { page_size: 0, page_token, filter: self.filter.clone() };
            let page = admin.list_pools(request).await?.into_inner();
            pools.extend(page.pools);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(pools);
            }
        }
    }
}

async fn explain(admin: &mut AdminServiceClient<Connection>, name: Name) -> Result<News, Status> {
    let (provider, key) = parts(&name);
    match admin.explain_budget(v1::ExplainBudgetRequest { provider, key }).await {
        Ok(answer) => Ok(News::Explained(name, Some(Box::new(answer.into_inner())))),
        Err(status) if status.code() == Code::NotFound => Ok(News::Explained(name, None)),
        Err(status) => Err(status),
    }
}
