//! What goes out next: ids only, in order. What they stand for is looked up when the message is built, so that what was cancelled
//! meanwhile is not sent at all.

use std::collections::VecDeque;

use permitd_proto::v1 as wire;

use crate::guard::PermitId;

/// The server's bounds on one message.
const ACQUIRES_MAX: usize = 1_000;
const CANCELS_MAX: usize = 10_000;
/// Ours, well within the server's bytes.
const REPORTS_MAX: usize = 4_000;
const EXTENDS_MAX: usize = 4_000;

/// Past this the message is full: the server takes 4 MiB, and one more item is at most a tenth of the rest.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    acquires: VecDeque<u64>,
    reports: VecDeque<PermitId>,
    cancels: VecDeque<u64>,
    extends: VecDeque<PermitId>,
}

impl Outbox {
    pub(crate) fn acquire(&mut self, request_id: u64) {
        self.acquires.push_back(request_id);
    }

    pub(crate) fn report(&mut self, permit_id: PermitId) {
        self.reports.push_back(permit_id);
    }

    pub(crate) fn cancel(&mut self, request_id: u64) {
        self.cancels.push_back(request_id);
    }

    pub(crate) fn extend(&mut self, permit_id: PermitId) {
        self.extends.push_back(permit_id);
    }

    pub(crate) fn cancels(&self) -> usize {
        self.cancels.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.acquires.is_empty()
            && self.reports.is_empty()
            && self.cancels.is_empty()
            && self.extends.is_empty()
    }

    /// The next message. `acquire` and `report` say what an id stands for by now, if it still does.
    pub(crate) fn message(
        &mut self,
        mut acquire: impl FnMut(u64) -> Option<wire::AcquireRequest>,
        report: impl Fn(&str) -> Option<wire::ReportRequest>,
        mut cancelled: impl FnMut(u64),
    ) -> wire::SessionRequest {
        let mut message = wire::SessionRequest::default();
        let mut bytes = 0;
        // Reports first: they make room in the budget for what is asked next.
        while message.report.len() < REPORTS_MAX && bytes < MESSAGE_BYTES_MAX {
            let Some(permit_id) = self.reports.pop_front() else { break };
            if let Some(report) = report(&permit_id) {
                bytes += report_bytes(&report);
                message.report.push(report);
            }
        }
        while message.acquire.len() < ACQUIRES_MAX && bytes < MESSAGE_BYTES_MAX {
            let Some(request_id) = self.acquires.pop_front() else { break };
            if let Some(acquire) = acquire(request_id) {
                bytes += acquire_bytes(&acquire);
                message.acquire.push(acquire);
            }
        }
        let cancels = self.cancels.len().min(CANCELS_MAX);
        message.cancel.extend(self.cancels.drain(..cancels).inspect(|request_id| cancelled(*request_id)));
        let extends = self.extends.len().min(EXTENDS_MAX);
        message.extend.extend(self.extends.drain(..extends).map(|permit_id| permit_id.to_string()));
        message
    }
}

/// What is of fixed size in an item, generously.
const FIXED_BYTES: usize = 96;

fn report_bytes(report: &wire::ReportRequest) -> usize {
    let headers: usize = report.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    FIXED_BYTES
        + report.permit_id.len()
        + headers
        + report.body.len()
        + report.actual.as_ref().map_or(0, usage_bytes)
}

fn acquire_bytes(acquire: &wire::AcquireRequest) -> usize {
    let names = acquire.provider.len() + acquire.key.len() + acquire.model.len() + acquire.tenant.len();
    FIXED_BYTES + names + acquire.estimate.as_ref().map_or(0, usage_bytes)
}

fn usage_bytes(usage: &wire::Usage) -> usize {
    FIXED_BYTES + usage.other.keys().map(|unit| unit.len() + 16).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// However much is ready, one message stays within the server's bounds, and everything goes out in the end, in order.
    #[test]
    fn messages_stay_within_the_servers_bounds() {
        let mut outbox = Outbox::default();
        for id in 0..2_500 {
            outbox.acquire(id);
            outbox.report(format!("permit-{id}").into());
        }
        (0..10_500).for_each(|id| outbox.cancel(id));
        let (mut acquires, mut reports, mut cancels, mut messages) = (Vec::new(), 0, 0, 0);
        while !outbox.is_empty() {
            let message = outbox.message(
                |request_id| Some(wire::AcquireRequest { request_id, ..wire::AcquireRequest::default() }),
                |permit_id| {
                    let body = vec![b'x'; crate::BODY_BYTES_MAX];
                    let permit_id = permit_id.to_owned();
                    Some(wire::ReportRequest { permit_id, body, ..wire::ReportRequest::default() })
                },
                |_| {},
            );
            assert!(message.acquire.len() <= 1_000 && message.cancel.len() <= 10_000);
            assert!(message.encoded_len() < 4 * 1024 * 1024);
            acquires.extend(message.acquire.iter().map(|acquire| acquire.request_id));
            reports += message.report.len();
            cancels += message.cancel.len();
            messages += 1;
        }
        assert_eq!(acquires, (0..2_500).collect::<Vec<u64>>());
        assert_eq!((reports, cancels), (2_500, 10_500));
        assert!(messages > 5);
    }

    /// What was cancelled before it was sent never goes out.
    #[test]
    fn what_is_gone_is_not_sent() {
        let mut outbox = Outbox::default();
        outbox.acquire(1);
        outbox.report("p".into());
        let message = outbox.message(|_| None, |_| None, |_| {});
        assert_eq!(message, wire::SessionRequest::default());
    }
}
