//! What a session asks of budgets that other servers own: kept until it is answered, so that it can be asked again of whoever owns the
//! budget next. What is answered is the other server's to remember, under the same session and the same ids.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    time::Duration,
};

use permitd_budget::{Reason, Refusal, Time};
use permitd_proto::v1::{
    AcquireRequest, Hello, Outcome, Refused, ReportRequest, SessionRequest, SessionResponse,
};
use tonic::Code;

use super::{
    core::{Core, permit_unknown},
    upstream::{Arrived, Upstream},
};
use crate::{
    cluster::{Cluster, Errand, PATIENCE, RETRY_EVERY, Route, peers::Peer},
    config::BudgetName,
    shared::Shared,
    status::{DRAINING_HINT, ELSEWHERE, Fault},
    wire::{decode, encode, items},
};

/// Reports and extensions of one session that other servers have not answered. Further ones are refused until some are.
const ERRANDS_MAX: usize = 20_000;

/// How long etcd may take to tell of a new budget.
const NEWS_MAX: Duration = Duration::from_secs(1);

/// A request for permits.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) budget: BudgetName,
    /// As it came, with its tenant and with how many permits are still to come.
    pub(crate) request: AcquireRequest,
    pub(crate) asked: Time,
}

/// Something under way.
#[derive(Debug)]
struct Pending<T> {
    what: T,
    /// The server that has it.
    at: Option<String>,
    /// Since when it was sent there.
    sent: Time,
    /// Since when no server has it for longer than a moment.
    since: Time,
}

/// Everything under way.
#[derive(Debug, Default)]
pub(super) struct Away {
    asks: HashMap<u64, Pending<Ask>>,
    /// By permit_id, with the budget's id.
    reports: HashMap<String, Pending<(u32, ReportRequest)>>,
    /// Permits to extend, with the ids of their budgets: forgotten when they are sent, since nobody answers that all is well.
    extends: Vec<Pending<(u32, String)>>,
    upstreams: BTreeMap<String, Upstream>,
    /// Whether something has no server, and so is looked at again with time.
    is_stuck: bool,
    /// Before then, or before something has changed since `changes`, another look is no use.
    retry_at: Time,
    changes: u64,
}

/// What turns out to be this server's own.
#[derive(Default)]
struct Here {
    asks: Vec<AcquireRequest>,
    reports: Vec<ReportRequest>,
    extends: Vec<String>,
}

impl<T> Pending<T> {
    fn new(what: T, now: Time) -> Self {
        Self { what, at: None, sent: Time::ZERO, since: now }
    }

    fn goes_to(&mut self, server: &str, now: Time) {
        (self.at, self.sent) = (Some(server.to_owned()), now);
    }

    fn comes_back(&mut self, now: Time) {
        self.at = None;
        // A server that had it for a moment only never really had it.
        if now.since(self.sent) > PATIENCE / 2 {
            self.since = now;
        }
    }
}

impl Ask {
    /// As it is asked now: what it has waited is no part of what it may wait any more.
    fn again(&self, now: Time) -> AcquireRequest {
        let left = |wait: prost_types::Duration| {
            let wait = decode::duration("max_wait", &wait).unwrap_or(Duration::ZERO);
            encode::duration(wait.saturating_sub(now.since(self.asked)))
        };
        AcquireRequest { max_wait: self.request.max_wait.map(left), ..self.request.clone() }
    }

    /// Whether it waits no longer.
    fn is_over(&self, now: Time) -> bool {
        let wait = self.request.max_wait.as_ref().and_then(|wait| decode::duration("max_wait", wait).ok());
        // One that can't wait at all waits for a server all the same, and for nothing else.
        wait.is_some_and(|wait| !wait.is_zero() && now.since(self.asked) > wait)
    }
}

impl Away {
    /// Requests and reports that are not answered.
    pub(super) fn len(&self) -> usize {
        self.asks.len() + self.reports.len() + self.extends.len()
    }

    pub(super) fn asks(&self) -> usize {
        self.asks.len()
    }

    /// When there is something to look at again.
    pub(super) fn next_tick(&self, now: Time) -> Option<Time> {
        self.is_stuck.then(|| now + RETRY_EVERY)
    }

    /// The same request once more. False if it is not under way.
    pub(super) fn repeat(&self, request_id: u64, now: Time) -> bool {
        let Some(ask) = self.asks.get(&request_id) else { return false };
        if let Some(upstream) = ask.at.as_ref().and_then(|at| self.upstreams.get(at)) {
            let acquire = vec![ask.what.again(now)];
            upstream.send(SessionRequest { acquire, ..SessionRequest::default() });
        }
        true
    }
}

impl Core {
    /// Sees to a request for a budget that is not here.
    pub(super) fn pass_on(&mut self, shared: &Shared, ask: Ask) {
        let Some(cluster) = &shared.cluster else { return };
        let inbox = &self.inbox;
        let away = self.away.get_or_insert_with(|| {
            cluster.look(inbox);
            Box::default()
        });
        away.asks.insert(ask.request.request_id, Pending::new(ask, shared.clock.now()));
        away.is_stuck = true;
    }

    /// Sees to a report on a permit of a budget that is not here. False if there is no such budget.
    pub(super) fn pass_report(
        &mut self,
        shared: &Shared,
        id: u32,
        request: ReportRequest,
    ) -> Result<bool, Fault> {
        if !self.is_elsewhere(shared, id)? {
            return Ok(false);
        }
        let away = self.away.get_or_insert_default();
        away.reports.insert(request.permit_id.clone(), Pending::new((id, request), shared.clock.now()));
        away.is_stuck = true;
        Ok(true)
    }

    /// As [`Core::pass_report`], for a permit to extend.
    pub(super) fn pass_extend(&mut self, shared: &Shared, id: u32, permit_id: &str) -> Result<bool, Fault> {
        if !self.is_elsewhere(shared, id)? {
            return Ok(false);
        }
        let away = self.away.get_or_insert_default();
        away.extends.push(Pending::new((id, permit_id.to_owned()), shared.clock.now()));
        away.is_stuck = true;
        Ok(true)
    }

    /// Whether a budget of that id is another server's, and there is room for another errand there.
    fn is_elsewhere(&mut self, shared: &Shared, id: u32) -> Result<bool, Fault> {
        let Some(cluster) = &shared.cluster else { return Ok(false) };
        // If it were here by that id, it would have been found: another one has the name now.
        let name = cluster.name_of(id);
        if name.is_some_and(|name| shared.registry.is_seated(&name)) && shared.registry.by_id(id).is_none() {
            return Ok(false);
        }
        if self.away.is_none() {
            cluster.look(&self.inbox);
        }
        if self.away.as_ref().is_some_and(|away| away.reports.len() + away.extends.len() >= ERRANDS_MAX) {
            let message =
                format!("{ERRANDS_MAX} reports of this session are not answered; report more slowly");
            return Err(Fault::exhausted("SESSION_FULL", "reports per session", message));
        }
        Ok(true)
    }

    /// Takes a request back, wherever it is. A server that does not know it pays no heed.
    pub(super) fn cancel_away(&mut self, shared: &Shared, request_id: u64) {
        let Some(away) = &mut self.away else { return };
        match away.asks.get(&request_id).map(|ask| ask.at.is_none()) {
            Some(true) => {
                away.asks.remove(&request_id);
                self.refuse_away(shared, request_id, Fault::from(Refusal::new(Reason::Cancelled)));
            }
            _ => {
                for upstream in away.upstreams.values() {
                    upstream.send(SessionRequest { cancel: vec![request_id], ..SessionRequest::default() });
                }
            }
        }
    }

    /// Takes in what other servers answered, and asks what has no server yet.
    pub(super) fn turn_away(&mut self, shared: &Shared) {
        let (Some(mut away), Some(cluster)) = (self.away.take(), &shared.cluster) else { return };
        let now = shared.clock.now();
        self.hear(&mut away, cluster, now);
        if shared.is_draining() {
            for request_id in mem::take(&mut away.asks).into_keys() {
                self.refuse_away(shared, request_id, Fault::draining());
            }
        }
        let mut here = Here::default();
        let changes = cluster.changes();
        if away.is_stuck && (now >= away.retry_at || changes != away.changes) {
            (away.is_stuck, away.changes) = (false, changes);
            self.send_asks(shared, cluster, &mut away, &mut here, now);
            // Whoever extends a permit and then reports it does so in that order.
            self.send_extends(shared, cluster, &mut away, &mut here, now);
            self.send_reports(shared, cluster, &mut away, &mut here, now);
        }
        self.away = Some(away);
        let asks: Vec<_> = here.asks.iter().map(items::Acquire::from).collect();
        if !asks.is_empty() {
            self.acquire_all(shared, &asks);
        }
        for permit_id in here.extends {
            self.extend(shared, &permit_id);
        }
        let reports: Vec<_> = here.reports.iter().map(items::Report::from).collect();
        if !reports.is_empty() {
            self.report_all(shared, &reports);
        }
    }

    /// After a resume: every server says again what this session has there, and hears again what it has not answered.
    pub(super) fn reopen(&mut self, shared: &Shared) {
        let (Some(mut away), Some(cluster)) = (self.away.take(), &shared.cluster) else { return };
        let now = shared.clock.now();
        let peers = cluster.others();
        for name in mem::take(&mut away.upstreams).into_keys() {
            if let Some(peer) = peers.iter().find(|peer| peer.name == name) {
                let upstream = self.upstream(cluster, peer);
                away.upstreams.insert(name, upstream);
            }
        }
        away.comes_back(now, |_| true);
        self.away = Some(away);
    }

    /// Nobody comes back: whatever waits elsewhere ends, and what was granted there and never sent goes back.
    pub(super) fn bury_away(&mut self, unsent: &[String]) {
        let Some(away) = self.away.take() else { return };
        let Away { asks, upstreams, .. } = *away;
        for (name, upstream) in upstreams {
            let mut unsent: Vec<String> = unsent.to_vec();
            while let Some(arrived) = upstream.next() {
                let Arrived::Message(message) = arrived else { break };
                unsent.extend(
                    message.granted.into_iter().filter_map(|granted| Some(granted.permit?.permit_id)),
                );
            }
            let cancelled = |permit_id| ReportRequest {
                permit_id,
                outcome: Outcome::Cancelled.into(),
                ..ReportRequest::default()
            };
            let there = asks.iter().filter(|(_, ask)| ask.at.as_ref() == Some(&name));
            upstream.send(SessionRequest {
                cancel: there.map(|(request_id, _)| *request_id).collect(),
                report: unsent.into_iter().map(cancelled).collect(),
                ..SessionRequest::default()
            });
            upstream.finish();
        }
    }

    fn hear(&mut self, away: &mut Away, cluster: &Cluster, now: Time) {
        let mut ended = Vec::new();
        let Away { asks, reports, upstreams, is_stuck, retry_at, .. } = away;
        for (name, upstream) in &*upstreams {
            // It is a server no longer, though its connection may stand.
            if !cluster.has_member(name) {
                ended.push(name.clone());
            }
            while !self.out.is_full() {
                match upstream.next() {
                    Some(Arrived::Message(message)) => {
                        let came_back = self.heard(cluster, asks, reports, message, now);
                        *is_stuck |= came_back;
                        if came_back {
                            *retry_at = now + RETRY_EVERY;
                        }
                    }
                    Some(Arrived::Ended) => ended.push(name.clone()),
                    None => break,
                }
            }
        }
        for name in &ended {
            away.upstreams.remove(name);
        }
        if !ended.is_empty() {
            away.retry_at = now + RETRY_EVERY;
            away.comes_back(now, |at| ended.iter().any(|name| name == at));
        }
    }

    /// Takes in a message. Whether something in it has to be asked elsewhere.
    fn heard(
        &mut self,
        cluster: &Cluster,
        asks: &mut HashMap<u64, Pending<Ask>>,
        reports: &mut HashMap<String, Pending<(u32, ReportRequest)>>,
        message: SessionResponse,
        now: Time,
    ) -> bool {
        let mut is_stuck = false;
        for queued in &message.queued {
            self.out.queued(queued);
        }
        for granted in &message.granted {
            if let Some(ask) = asks.get_mut(&granted.request_id) {
                if let Some(permit) = &granted.permit {
                    cluster.learn(&permit.permit_id, &ask.what.budget);
                }
                ask.what.request.count = ask.what.request.count.saturating_sub(1);
                if ask.what.request.count == 0 {
                    asks.remove(&granted.request_id);
                }
            }
            self.out.passed_grant(granted);
        }
        for refused in message.refused {
            let may_go_elsewhere = is_elsewhere(&refused);
            if may_go_elsewhere && let Some(ask) = asks.get_mut(&refused.request_id) {
                ask.comes_back(now);
                is_stuck = true;
            } else if may_go_elsewhere && let Some(report) = reports.get_mut(&refused.permit_id) {
                report.comes_back(now);
                is_stuck = true;
            } else {
                asks.remove(&refused.request_id);
                reports.remove(&refused.permit_id);
                self.out.refused(&refused);
            }
        }
        for reported in &message.reported {
            reports.remove(&reported.permit_id);
            self.out.passed_report(reported);
        }
        for share in &message.shares {
            self.out.share(share);
        }
        is_stuck
    }

    fn send_asks(&mut self, shared: &Shared, cluster: &Cluster, away: &mut Away, here: &mut Here, now: Time) {
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
                    self.send(cluster, away, &peer, SessionRequest { acquire, ..SessionRequest::default() });
                    continue;
                }
                Ok(Way::None) if ask.what.is_over(now) => Fault::from(Refusal::new(Reason::NotInTime)),
                Ok(Way::None) if now.since(ask.since) > PATIENCE => no_owner(&ask.what.budget),
                Ok(Way::None | Way::Gone) => {
                    away.is_stuck = true;
                    continue;
                }
                Err(fault) => fault,
            };
            away.asks.remove(&request_id);
            self.refuse_away(shared, request_id, fault);
        }
    }

    fn send_reports(
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

    fn send_extends(
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

    fn upstream(&self, cluster: &Cluster, peer: &Peer) -> Upstream {
        let hello = Hello {
            session_id: self.session_id.clone(),
            client: "permitd".to_owned(),
            progress: self.progress,
            ..Hello::default()
        };
        Upstream::open(cluster, peer, &self.caller, hello, self.inbox.clone())
    }

    fn refuse_away(&mut self, shared: &Shared, request_id: u64, fault: Fault) {
        shared.metrics.refused(fault.reason());
        self.out.refused(&fault.into_refused_request(request_id));
    }
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

impl Away {
    /// Whatever those servers had is to be asked again.
    fn comes_back(&mut self, now: Time, of: impl Fn(&str) -> bool) {
        let was_there = |at: &Option<String>| at.as_deref().is_some_and(&of);
        for ask in self.asks.values_mut().filter(|ask| was_there(&ask.at)) {
            ask.comes_back(now);
        }
        for report in self.reports.values_mut().filter(|report| was_there(&report.at)) {
            report.comes_back(now);
        }
        self.is_stuck = true;
    }
}

/// Whether another server may grant what this one did not.
pub(crate) fn may_go_elsewhere(reason: &str) -> bool {
    [ELSEWHERE, Reason::Moved.name(), Reason::Draining.name()].contains(&reason)
}

fn is_elsewhere(refused: &Refused) -> bool {
    may_go_elsewhere(&refused.reason)
}

/// The budget is another server's, says one that was asked for another.
pub(crate) fn elsewhere(budget: &BudgetName) -> Fault {
    Fault::from(crate::registry::RegistryError::Elsewhere { name: budget.clone() })
}

/// Nobody declared the budget.
pub(crate) fn unknown_budget(budget: &BudgetName) -> Fault {
    Fault::from(crate::registry::RegistryError::Unknown { name: budget.clone() })
}

/// No server has answered for the budget for [`PATIENCE`].
pub(crate) fn no_owner(budget: &BudgetName) -> Fault {
    let message = format!(
        "no server of the cluster answers for {budget} at this moment; ask again, and see whether etcd and the other servers run"
    );
    Fault::new(Code::Unavailable, "OWNER_UNAVAILABLE", message).after(DRAINING_HINT)
}
