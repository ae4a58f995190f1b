//! Limits by the hours: put in force when these begin, entered in the audit trail, and in force again after a sudden end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use permitd_proto::v1::{Budget, ListChangesRequest, Scheduled};
use permitd_tests::{DAY, Folder, Permitd, ask, budget, rate, until};

const DAY_SECONDS: u64 = 86_400;

/// The hour, by the clocks of UTC, that begins so soon.
fn an_hour_from(soon: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + soon;
    let text = |second: u64| {
        let second = second % DAY_SECONDS;
        format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
    };
    format!("{}-{} UTC", text(now.as_secs()), text(now.as_secs() + 3_600))
}

/// A budget whose limit is another one in an hour that begins soon.
fn scheduled(soon: Duration) -> Budget {
    let entry = Scheduled { hours: an_hour_from(soon), limit: Some(rate("requests", 50, DAY)) };
    Budget { schedule: vec![entry], ..budget("k", vec![rate("requests", 100, DAY)]) }
}

/// Goal: a schedule puts its limit in force by itself, in proportion and as a change of its own; after `kill -9` it is in force from the
/// start, and nothing is minted by it.
#[tokio::test]
async fn hours_begin_and_outlast_the_process() {
    let folder = Folder::new();
    let config = format!("[server]\ndata = \"{}\"\n", folder.path("data").display());
    let server = Permitd::start(&config).await;
    server.declare(budget("k", vec![rate("requests", 100, DAY)])).await;
    for _ in 0..10 {
        server.granted(ask("k")).await;
    }
    server.declare(scheduled(Duration::from_secs(3))).await;
    until("the hour has begun", async || server.limit("k", "requests", "").await.effective_amount == 50)
        .await;
    let limit = server.limit("k", "requests", "").await;
    let configured = limit.configured.expect("declared").amount;
    assert_eq!((configured, limit.level, &*limit.source), (50, 45, "admin"), "90 of 100 is 45 of 50");
    let declared = server.state("k").await.budget.expect("declared");
    assert_eq!((declared.limits[0].amount, declared.schedule.len()), (100, 1), "what is declared stays");
    let changes = server.admin().await.list_changes(ListChangesRequest::default()).await.expect("told");
    let change = changes.into_inner().changes.remove(0);
    assert_eq!((&*change.who, &*change.what), ("schedule", "schedule"));
    assert_eq!(change.after.expect("in force").limits[0].amount, 50);

    server.kill().await;
    let server = Permitd::start(&config).await;
    let limit = server.limit("k", "requests", "").await;
    assert_eq!(limit.effective_amount, 50, "in force from the start");
    assert!(limit.level <= 45, "nothing is minted: {limit:?}");
    server.stop().await;
}
