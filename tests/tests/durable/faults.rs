//! Disks that fail.

use std::time::Duration;

use permitd_server::store::Memory;
use permitd_tests::{DAY, Server, ask, budget, facts, in_flight, rate, until};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

/// Goal: while nothing can be written, grants go on within what was set aside, then stop with the reason; changes are refused; and
/// everything goes on by itself.
#[tokio::test]
async fn grants_end_with_what_was_set_aside_and_come_back() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    server.set("k", vec![rate("requests", 6_000, MINUTE)]).await;
    server.granted(ask("k")).await;
    disk.fail_after(0, false);
    let mut granted = 0;
    let refused = loop {
        match server.try_granted_now(ask("k")).await {
            Ok(_) => granted += 1,
            Err(status) => break status,
        }
        assert!(granted <= 300, "a second of the rate is set aside, not more");
    };
    let facts = facts(&refused);
    assert_eq!((refused.code(), facts.reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(facts.retry_after.is_some());
    assert!(granted >= 50, "{granted}: what is set aside is granted");
    let change = server.try_declare(budget("k", vec![in_flight(1)])).await.expect_err("it would not last");
    assert_eq!(change.code(), Code::Unavailable);
    assert_eq!(server.limit("k", "requests", "").await.effective_amount, 6_000, "nothing was changed");
    disk.mend();
    until("grants to go on", async || server.try_granted_now(ask("k")).await.is_ok()).await;
    server.set("k", vec![in_flight(1)]).await;
    server.stop().await;
}

/// Goal: a disk that is full, as the system has it: the process lives, grants end with what was set aside, metric and log say so, a
/// change is refused, everything goes on by itself once there is room, and what was acknowledged then survives a kill.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk() {
    use permitd_tests::{Folder, Permitd, http_get};

    let folder = Folder::new();
    let config = format!("[server]\ndata = \"{}\"\n", folder.path("data").display());
    let server = Permitd::start(&config).await;
    server.set("k", vec![rate("requests", 6_000, MINUTE)]).await;
    server.granted(ask("k")).await;
    // Less than any write of the store needs.
    server.bound_files(Some(4_096));
    let refused = loop {
        if let Err(status) = server.try_granted_now(ask("k")).await {
            break facts(&status);
        }
    };
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(refused.retry_after.is_some() && refused.message.contains("store"), "{refused:?}");
    let waiting = server.refused(ask("k")).await;
    assert_eq!(waiting.reason, "STORE_UNAVAILABLE", "nobody waits for a disk");
    let change = server.try_declare(budget("k", vec![in_flight(1)])).await.expect_err("it would not last");
    assert_eq!(facts(&change).reason, "STORE_UNAVAILABLE");
    assert!(http_get(server.http, "/metrics", None).await.contains("permitd_store_failing 1"));
    until("the log to say why", async || server.log().contains("the store can't be written")).await;

    server.bound_files(None);
    until("grants to go on", async || server.try_granted_now(ask("k")).await.is_ok()).await;
    assert!(http_get(server.http, "/metrics", None).await.contains("permitd_store_failing 0"));
    server.set("k", vec![in_flight(7)]).await;
    server.kill().await;
    let server = Permitd::start(&config).await;
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 7);
    server.stop().await;
}

/// Goal: whichever write is the first to fail, whether or not it got there: what was answered is on the disk, and the next process
/// grants no more than is left.
#[tokio::test]
async fn faults_at_every_write() {
    for good in 0..14 {
        for reaches in [false, true] {
            let disk = Memory::default();
            let server = Server::start_on(&disk).await;
            disk.fail_after(good, reaches);
            let (mut acknowledged, mut granted) = (None, 0);
            for amount in 20..25 {
                match server.try_declare(budget("k", vec![rate("requests", amount, DAY)])).await {
                    Ok(budget) => acknowledged = Some(budget.limits[0].amount),
                    Err(status) => assert_eq!(status.code(), Code::Unavailable),
                }
                granted += i64::from(server.try_granted_now(ask("k")).await.is_ok());
            }
            let next = Server::start_on(&disk.copy()).await;
            if let Some(least) = acknowledged {
                let limit = next.limit("k", "requests", "").await;
                assert!(limit.effective_amount >= least, "{good} {reaches}: {least} was acknowledged");
                let most = i64::try_from(limit.effective_amount).expect("small") - granted;
                assert!(limit.level <= most, "{good} {reaches}: {} left, {granted} granted", limit.level);
            } else {
                assert_eq!(granted, 0);
            }
            disk.mend();
            server.stop().await;
            next.stop().await;
        }
    }
}
