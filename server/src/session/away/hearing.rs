//! What other servers answer: to the client, unless it has to be asked elsewhere.

use std::collections::HashMap;

use permitd_budget::Time;
use permitd_proto::v1::{Refused, ReportRequest, SessionResponse};

use super::{Ask, Away, Pending, may_go_elsewhere};
use crate::{
    cluster::{Cluster, RETRY_EVERY},
    session::{core::Core, shares::passed, upstream::Arrived},
};

impl Core {
    pub(super) fn hear(&mut self, away: &mut Away, cluster: &Cluster, now: Time) {
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
                        let came_back = self.heard(cluster, asks, reports, *message, now);
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
        for share in message.shares {
            self.out.share(&passed(&self.caller, share));
        }
        is_stuck
    }
}

fn is_elsewhere(refused: &Refused) -> bool {
    may_go_elsewhere(&refused.reason)
}
