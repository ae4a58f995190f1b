//! What has no server yet goes to the one that owns its budget, is this server's own, or is refused.

use std::mem;

use permitd_budget::{Reason, Refusal, Time};
use permitd_proto::v1::{AcquireRequest, Hello, ReportRequest, SessionRequest};

use super::{Away, Pending, elsewhere, no_owner, unknown_budget};
use crate::{
    cluster::{Cluster, Errand, NEWS_MAX, PATIENCE, Route, peers::Peer},
    config::BudgetName,
    session::{
        core::{Core, permit_unknown},
        upstream::Upstream,
    },
    shared::Shared,
    status::Fault,
};

/// What turns out to be this server's own.
#[derive(Default)]
pub(super) struct Here {
    pub(super) asks: Vec<AcquireRequest>,
    pub(super) reports: Vec<ReportRequest>,
    pub(super) extends: Vec<String>,
}

/// Where something goes.
enum Way {
    Here,
    There(Peer),
    /// Nowhere at this moment.
    None,
    /// There is no such budget any more.
    Gone,
}

impl Core {
    pub(super) fn send_asks(
        &mut self,
        shared: &Shared,
        cluster: &Cluster,
        away: &mut Away,
        here: &mut Here,
        now: Time,
    ) {
        let mut due: Vec<u64> =
            away.asks.iter().filter(|(_, ask)| ask.at.is_none()).map(|(request_id, _)| *request_id).collect();
        // In the order in which they came, as far as ids tell.
        due.sort_unstable();
        for request_id in due {
            let Some(ask) = away.asks.get_mut(&request_id) else { continue };
            let fault = match self.way(cluster, &ask.what.budget) {
                Ok(Way::Here) => {
                    here.asks.push(ask.what.again(now));
                    away.asks.remove(&request_id);
                    continue;
                }
                Ok(Way::There(peer)) => {
                    let acquire = vec![ask.what.again(now)];
                    ask.goes_to(&peer.name, now);
                    if let Some(owners) = &mut self.owners
                        && let Some(owner) = owners.news(cluster, &ask.what.budget, &peer.name, now)
                    {
                        self.out.owner(&owner);
                    }
                    self.send(cluster, away, &peer, SessionRequest { acquire, ..SessionRequest::default() });
                    continue;
                }
                Ok(Way::None) if ask.what.is_over(now) => Fault::from(Refusal::new(Reason::NotInTime)),
                Ok(Way::None) if now.since(ask.since) > PATIENCE => no_owner(&ask.what.budget),
                Ok(Way::None | Way::Gone) => {
                    if let Some(owners) = &mut self.owners
                        && cluster.lacks_lease()
                        && let Some(nobody) = owners.unknown(&ask.what.budget, now)
                    {
                        self.out.owner(&nobody);
                    }
                    away.is_stuck = true;
                    continue;
                }
                Err(fault) => fault,
            };
            away.asks.remove(&request_id);
            self.refuse_away(shared, request_id, fault);
        }
    }

    pub(super) fn send_reports(
        &mut self,
        shared: &Shared,
        cluster: &Cluster,
        away: &mut Away,
        here: &mut Here,
        now: Time,
    ) {
        let due = away.reports.iter().filter(|(_, report)| report.at.is_none());
        let due: Vec<String> = due.map(|(permit_id, _)| permit_id.clone()).collect();
        for permit_id in due {
            let Some(report) = away.reports.get_mut(&permit_id) else { continue };
            let way = self.errand(cluster, report.what.0, report.since, now);
            match way {
                Ok(Way::There(peer)) => {
                    report.goes_to(&peer.name, now);
                    let report = vec![report.what.1.clone()];
                    self.send(cluster, away, &peer, SessionRequest { report, ..SessionRequest::default() });
                    continue;
                }
                Ok(Way::None) => {
                    away.is_stuck = true;
                    continue;
                }
                _ => {}
            }
            let Some(Pending { what: (_, report), .. }) = away.reports.remove(&permit_id) else { continue };
            match way {
                Ok(Way::Here) => here.reports.push(report),
                Err(fault) => self.refuse_errand(shared, permit_id, fault),
                Ok(_) => match shared.read_report(None, &report, now) {
                    Ok(report) => self.answer_unknown(shared, &permit_id, &report),
                    Err(fault) => self.refuse_errand(shared, permit_id, fault),
                },
            }
        }
    }

    pub(super) fn send_extends(
        &mut self,
        shared: &Shared,
        cluster: &Cluster,
        away: &mut Away,
        here: &mut Here,
        now: Time,
    ) {
        for pending in mem::take(&mut away.extends) {
            let (id, permit_id) = &pending.what;
            match self.errand(cluster, *id, pending.since, now) {
                Ok(Way::Here) => here.extends.push(permit_id.clone()),
                Ok(Way::There(peer)) => {
                    let extend = vec![permit_id.clone()];
                    self.send(cluster, away, &peer, SessionRequest { extend, ..SessionRequest::default() });
                }
                Ok(Way::None) => {
                    away.is_stuck = true;
                    away.extends.push(pending);
                }
                Ok(Way::Gone) => self.refuse_errand(shared, permit_id.clone(), permit_unknown()),
                Err(fault) => self.refuse_errand(shared, permit_id.clone(), fault),
            }
        }
    }

    fn send(&self, cluster: &Cluster, away: &mut Away, peer: &Peer, request: SessionRequest) {
        let upstream = away.upstreams.entry(peer.name.clone());
        upstream.or_insert_with(|| self.upstream(cluster, peer)).send(request);
    }

    fn refuse_errand(&mut self, shared: &Shared, permit_id: String, fault: Fault) {
        shared.metrics.refused(fault.reason());
        self.out.refused(&fault.into_refused_permit(permit_id));
    }

    /// Where a report or an extension goes.
    fn errand(&self, cluster: &Cluster, id: u32, since: Time, now: Time) -> Result<Way, Fault> {
        let Some(budget) = cluster.name_of(id) else {
            // One that is new may have to be told of yet.
            return Ok(if now.since(since) > NEWS_MAX { Way::Gone } else { Way::None });
        };
        match self.way(cluster, &budget)? {
            Way::None if now.since(since) > PATIENCE => Err(no_owner(&budget)),
            way => Ok(way),
        }
    }

    fn way(&self, cluster: &Cluster, budget: &BudgetName) -> Result<Way, Fault> {
        let is_passed = self.caller.is_passed();
        Ok(match cluster.route(budget, Errand::Use, is_passed) {
            Route::Here => Way::Here,
            // One hop is all there is.
            Route::There(_) if is_passed => return Err(elsewhere(budget)),
            Route::There(peer) => Way::There(peer),
            Route::Wait => Way::None,
            Route::Nowhere => return Err(unknown_budget(budget)),
        })
    }

    pub(super) fn upstream(&self, cluster: &Cluster, peer: &Peer) -> Upstream {
        let hello = Hello {
            session_id: self.session_id.clone(),
            client: "permitd".to_owned(),
            progress: self.progress,
            ..Hello::default()
        };
        Upstream::open(cluster, peer, &self.caller, hello, self.inbox.clone())
    }
}
