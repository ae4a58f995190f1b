//! What a session asks of budgets that other servers own: kept until it is answered, so that it can be asked again of whoever owns the
//! budget next. What is answered is the other server's to remember, under the same session and the same ids.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    time::Duration,
};

use permitd_budget::{Reason, Refusal, Time};
use permitd_proto::v1::{AcquireRequest, Outcome, ReportRequest, SessionRequest};
use tonic::Code;

mod hearing;
mod sending;

use self::sending::Here;
use super::{
    core::Core,
    upstream::{Arrived, Upstream},
};
use crate::{
    cluster::{PATIENCE, RETRY_EVERY},
    config::BudgetName,
    shared::Shared,
    status::{DRAINING_HINT, ELSEWHERE, Fault},
    wire::{decode, encode, items},
};

/// Reports and extensions of one session that other servers have not answered. Further ones are refused until some are.
const ERRANDS_MAX: usize = 20_000;

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
    /// Whether that server was told that it is taken back.
    is_cancelled: bool,
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

impl<T> Pending<T> {
    fn new(what: T, now: Time) -> Self {
        Self { what, at: None, sent: Time::ZERO, since: now, is_cancelled: false }
    }

    fn goes_to(&mut self, server: &str, now: Time) {
        (self.at, self.sent, self.is_cancelled) = (Some(server.to_owned()), now, false);
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

    /// Whether some server may still be about to begin the session: who began it there meanwhile would be cut off.
    pub(super) fn is_arriving(&self) -> bool {
        self.upstreams.values().any(|upstream| !upstream.is_answered())
    }

    /// The same request once more. False if it is not under way.
    pub(super) fn repeat(&self, request_id: u64, now: Time) -> bool {
        let Some(ask) = self.asks.get(&request_id) else { return false };
        if let Some(upstream) = ask.at.as_ref().and_then(|at| self.upstreams.get(at)) {
            let acquire = vec![ask.what.again(now)];
            upstream.offer(SessionRequest { acquire, ..SessionRequest::default() });
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
        let is_told = match away.asks.get_mut(&request_id) {
            Some(ask) if ask.at.is_none() => {
                away.asks.remove(&request_id);
                return self.refuse_away(shared, request_id, Fault::from(Refusal::new(Reason::Cancelled)));
            }
            Some(ask) => mem::replace(&mut ask.is_cancelled, true),
            // At most, it was granted there just now.
            None => true,
        };
        for upstream in away.upstreams.values() {
            let cancel = SessionRequest { cancel: vec![request_id], ..SessionRequest::default() };
            if is_told { upstream.offer(cancel) } else { upstream.send(cancel) }
        }
    }

    /// Takes in what other servers answered, and asks what has no server yet.
    pub(super) fn turn_away(&mut self, shared: &Shared) {
        let (Some(mut away), Some(cluster)) = (self.away.take(), &shared.cluster) else { return };
        let now = shared.clock.now();
        self.hear(&mut away, cluster, now);
        if shared.settles() {
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
            self.exchange(shared, &[], &asks);
        }
        for permit_id in here.extends {
            self.extend(shared, &permit_id);
        }
        let reports: Vec<_> = here.reports.iter().map(items::Report::from).collect();
        if !reports.is_empty() {
            self.exchange(shared, &reports, &[]);
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

    fn refuse_away(&mut self, shared: &Shared, request_id: u64, fault: Fault) {
        shared.metrics.refused(fault.reason());
        self.out.refused(&fault.into_refused_request(request_id));
    }
}

/// Whether another server may grant what this one did not.
pub(crate) fn may_go_elsewhere(reason: &str) -> bool {
    [ELSEWHERE, Reason::Moved.name(), Reason::Draining.name()].contains(&reason)
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
