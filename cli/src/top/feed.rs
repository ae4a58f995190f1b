//! What the server tells: budgets as they change, and an explanation of the one that is open. A connection that breaks is made
//! anew for as long as somebody looks.

use std::{convert::Infallible, time::Duration};

use permitd_proto::v1::{self, admin_service_client::AdminServiceClient};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Streaming};

use super::board::{Name, parts};
use crate::{
    failure::Failure,
    format::wire_span,
    remote::{Connection, Remote},
};

/// News that are not taken yet.
const NEWS: usize = 64;
/// Between two explanations of the open budget.
const EXPLAIN_EVERY: Duration = Duration::from_secs(1);
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
    /// Nothing is told until [`News::Connected`].
    Lost(Failure),
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
    pub(super) fn follow(self, begun: Begun, open: watch::Receiver<Option<Name>>) -> mpsc::Receiver<News> {
        let (news, taken) = mpsc::channel(NEWS);
        tokio::spawn(async move {
            let mut begun = Ok(begun);
            loop {
                let lost = match begun {
                    Ok(begun) => self.tell(begun, open.clone(), &news).await,
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
        open: watch::Receiver<Option<Name>>,
        news: &mpsc::Sender<News>,
    ) -> Failure {
        let Begun { admin, changes } = begun;
        // Nobody takes news any more when the process is about to end.
        let _ = news.send(News::Connected).await;
        let ended = tokio::select! {
            ended = self.tell_changes(changes, news) => ended,
            ended = self.explain(admin, open, news) => ended,
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

    async fn explain(
        &self,
        mut admin: AdminServiceClient<Connection>,
        mut open: watch::Receiver<Option<Name>>,
        news: &mpsc::Sender<News>,
    ) -> Result<Infallible, Failure> {
        let mut timer = interval(EXPLAIN_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                changed = open.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
            let Some(name) = open.borrow_and_update().clone() else { continue };
            let (provider, key) = parts(&name);
            let request = v1::ExplainBudgetRequest { provider, key };
            let explained = match admin.explain_budget(request).await {
                Ok(answer) => Some(Box::new(answer.into_inner())),
                Err(status) if status.code() == Code::NotFound => None,
                Err(status) => return Err(self.remote.failure(&status)),
            };
            let _ = news.send(News::Explained(name, explained)).await;
        }
    }
}
