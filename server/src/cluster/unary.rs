//! Single calls about budgets that may be other servers': each goes to whoever owns the budget, and once more to whoever owns it next if
//! it moves meanwhile. Callers notice nothing but the time that it takes.

use std::{sync::Arc, time::Instant};

use permitd_proto::v1::{AcquireRequest, AcquireResponse, ReportRequest, acquire_response::Event};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use super::{
    Cluster, Errand, PATIENCE, RETRY_EVERY, Route,
    peers::{Peer, on_behalf},
};
use crate::{
    acquire::{AcquireStream, acquire},
    auth::Caller,
    config::BudgetName,
    http::Phase,
    session::away::{elsewhere, may_go_elsewhere, no_owner, unknown_budget},
    shared::{Answered, Shared},
    status::Fault,
};

/// Answers on their way to a caller.
const ANSWERS_MAX: usize = 16;

impl Cluster {
    /// Finds out who answers for a budget; `None`: this server does.
    ///
    /// # Errors
    /// There is no such budget; nobody owns it for [`PATIENCE`]; or another server does, for a call that was passed on once.
    pub(crate) async fn find(
        &self,
        budget: &BudgetName,
        errand: Errand,
        caller: &Caller,
    ) -> Result<Option<Peer>, Fault> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.route(budget, errand, caller.is_passed()) {
                Route::Here => return Ok(None),
                Route::There(_) if caller.is_passed() => return Err(elsewhere(budget)),
                Route::There(peer) => return Ok(Some(peer)),
                Route::Nowhere => return Err(unknown_budget(budget)),
                Route::Wait if Instant::now() > until => return Err(no_owner(budget)),
                Route::Wait => self.change().await,
            }
        }
    }

    /// Makes a call at the budget's owner, whoever that is by the time; `None`: this server is.
    ///
    /// # Errors
    /// As for [`Cluster::find`], and the owner's own.
    pub(crate) async fn at_owner<T, F>(
        &self,
        budget: &BudgetName,
        errand: Errand,
        caller: &Caller,
        call: impl Fn(Peer) -> F,
    ) -> Result<Option<T>, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(peer) = self.find(budget, errand, caller).await? else { return Ok(None) };
            match call(peer).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(status) if is_elsewhere(&status) && Instant::now() < until => {
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(status) => return Err(told(status, budget)),
            }
        }
    }
}

/// Whether another try may find another owner. A server that can't be reached any more says nothing of its own.
fn is_elsewhere(status: &Status) -> bool {
    match status.get_details_error_info() {
        Some(info) => may_go_elsewhere(&info.reason),
        None => matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
    }
}

/// What a caller hears once that is no use any more.
fn told(status: Status, budget: &BudgetName) -> Status {
    let is_silent = is_elsewhere(&status) && status.get_details_error_info().is_none();
    if is_silent { no_owner(budget).into_status() } else { status }
}

/// A permit that is asked for by a call of its own.
pub(crate) fn acquire_anywhere(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    caller: Caller,
    metadata: MetadataMap,
    request: AcquireRequest,
) -> Result<impl Stream<Item = Result<AcquireResponse, Status>> + Send + 'static, Status> {
    if shared.is_draining() {
        return Err(Fault::draining().into_status());
    }
    let budget = BudgetName::new(&request.provider, &request.key).map_err(Fault::from)?;
    caller.check_budget(&budget)?;
    let (answers, stream) = mpsc::channel(ANSWERS_MAX);
    let asking = Acquiring {
        shared: Arc::clone(shared),
        cluster: Arc::clone(cluster),
        caller,
        metadata,
        request,
        budget,
        asked: Instant::now(),
        answers: answers.clone(),
    };
    let mut phase = shared.phase.clone();
    let left = async move { drop(phase.wait_for(|phase| *phase == Phase::HandedOver).await) };
    // On the thread that asks: what is granted here does not travel.
    tokio::spawn(async move {
        tokio::select! {
            () = asking.run() => {}
            // The caller asks elsewhere, where the budgets are.
            () = left => {
                // Nobody may be listening any more.
                let _ = answers.send(Err(Fault::draining().into_status())).await;
            }
            // The caller is gone, and with it what was not answered.
            () = answers.closed() => {}
        }
    });
    Ok(ReceiverStream::new(stream))
}

struct Acquiring {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    caller: Caller,
    metadata: MetadataMap,
    request: AcquireRequest,
    budget: BudgetName,
    asked: Instant,
    answers: mpsc::Sender<Result<AcquireResponse, Status>>,
}

impl Acquiring {
    async fn run(mut self) {
        // Since when no server has had the request for longer than a moment.
        let mut stuck: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            let ended = match self.cluster.find(&self.budget, Errand::Use, &self.caller).await {
                Ok(None) => self.here().await,
                Ok(Some(peer)) => self.there(&peer).await,
                Err(fault) => Err(fault.into_status()),
            };
            let Err(status) = ended else { return };
            stuck = stuck.filter(|_| begun.elapsed() < PATIENCE / 2);
            let is_stuck = stuck.get_or_insert_with(Instant::now).elapsed() > PATIENCE;
            if !is_elsewhere(&status) || self.caller.is_passed() || is_stuck {
                // Nobody may be listening any more.
                let _ = self.answers.send(Err(told(status, &self.budget))).await;
                return;
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn here(&mut self) -> Result<(), Status> {
        let stream: AcquireStream = acquire(&self.shared, &self.caller, &self.metadata, &self.again())?;
        self.forward(stream).await
    }

    async fn there(&mut self, peer: &Peer) -> Result<(), Status> {
        let mut request = on_behalf(&self.caller, self.again());
        if let Some(timeout) = self.metadata.get("grpc-timeout") {
            request.metadata_mut().insert("grpc-timeout", timeout.clone());
        }
        let stream = self.cluster.peers().permits(peer)?.acquire(request).await?.into_inner();
        self.forward(stream).await
    }

    async fn forward(
        &mut self,
        stream: impl Stream<Item = Result<AcquireResponse, Status>>,
    ) -> Result<(), Status> {
        let mut stream = std::pin::pin!(stream);
        let mut is_granted = false;
        while let Some(answer) = stream.next().await {
            let answer = match answer {
                // All of it is here: to ask again, as a broken connection else would, would be for one more.
                Err(_) if is_granted => return Ok(()),
                answer => answer?,
            };
            if matches!(answer.event, Some(Event::Granted(_))) {
                self.request.count = self.request.count.max(1) - 1;
                is_granted = self.request.count == 0;
            }
            if self.answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// As it is asked now: what it has waited is no part of what it may wait any more.
    fn again(&self) -> AcquireRequest {
        let mut request = self.request.clone();
        if let Some(wait) = &mut request.max_wait
            && let Ok(left) = std::time::Duration::try_from(*wait)
        {
            *wait = crate::wire::encode::duration(left.saturating_sub(self.asked.elapsed()));
        }
        if request.tenant.is_empty() {
            request.tenant = self.caller.tenant().to_owned();
        }
        request
    }
}

/// A report that comes by a call of its own.
pub(crate) async fn report_anywhere(
    shared: &Shared,
    cluster: &Cluster,
    caller: &Caller,
    request: ReportRequest,
) -> Result<Answered, Status> {
    let here = || shared.report(caller.holder(), &request).map_err(Fault::into_status);
    let Some((id, _)) = shared.permit_ids.read(&request.permit_id, caller.holder()) else { return here() };
    if !cluster.hears_of(id).await {
        return here();
    }
    let Some(budget) = cluster.name_of(id) else { return here() };
    let owner = cluster.at_owner(&budget, Errand::Use, caller, |peer| {
        let (client, request) = (cluster.peers().permits(&peer), on_behalf(caller, request.clone()));
        async move { client?.report(request).await.map(tonic::Response::into_inner) }
    });
    match owner.await? {
        Some(response) => Ok(Answered { response, ended: None }),
        None => here(),
    }
}
