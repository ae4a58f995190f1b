//! What a table counts, where no server can show it.

use std::sync::Arc;

use permitd_proto::v1 as wire;
use tokio::{sync::oneshot, time::Instant};

use super::Table;
use crate::{Report, mailbox::Mailbox};

/// A guard that reports after its client was closed is told so: the client has reported for it, and waits for one answer only.
#[tokio::test]
async fn a_permit_is_reported_once() {
    let mut table = Table::new(Arc::new(Mailbox::new()), false);
    let permit = wire::Permit { permit_id: "p1".to_owned(), ..wire::Permit::default() };
    let granted = wire::Granted { request_id: 7, permit: Some(permit) };
    // Nobody waits for it, so that it is reported as cancelled.
    table.granted(granted, Instant::now());
    let (reply, answer) = oneshot::channel();
    table.report("p1".into(), Box::new(Report::success()), Some(reply));
    assert!(answer.await.is_err(), "dropped: the client is closed");
    let answered = wire::ReportResponse { permit_id: "p1".to_owned(), ..wire::ReportResponse::default() };
    table.answered(&answered);
    assert!(!table.is_reporting() && table.has_only_reports());
}
