//! From one process to the next.

use std::time::Duration;

use permitd_budget::Time;
use permitd_proto::v1::{
    Budget, DeleteBudgetRequest, Limit, LimitState, ListChangesRequest, Outcome, ReportRequest, Usage, Window,
};
use permitd_server::{
    Origin,
    clock::{Boot, Reading},
    store::Memory,
};
use permitd_tests::{
    DAY, HOUR, Server, ask, budget, in_flight, rate, report, soon, span, success, tokens, until,
};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

/// Goal: an admin change that was answered is there after a crash: declarations with their etags, pauses, deletions, and the trail.
#[tokio::test]
async fn acknowledged_changes_survive_a_crash() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    let etag = server.set("kept", vec![rate("requests", 60, MINUTE)]).await.etag;
    server.set("paused", vec![in_flight(3)]).await;
    server.pause("paused").await;
    server.set("deleted", vec![in_flight(3)]).await;
    let delete =
        DeleteBudgetRequest { provider: "p".to_owned(), key: "deleted".to_owned(), etag: String::new() };
    soon("a deletion", server.admin().await.delete_budget(delete)).await.expect("deleted");
    let crashed = disk.copy();
    let next = Server::start_on(&crashed).await;
    let kept = next.state("kept").await.budget.expect("a budget");
    assert_eq!((kept.etag, kept.limits.len()), (etag.clone(), 1));
    assert!(next.state("paused").await.paused);
    let missing = next.try_state("deleted").await.expect_err("deleted");
    assert_eq!(missing.code(), Code::NotFound);
    let changes = soon("the trail", next.admin().await.list_changes(ListChangesRequest::default())).await;
    let changes = changes.expect("a trail").into_inner().changes;
    let what: Vec<_> = changes.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(what, ["delete", "set", "pause", "set", "set"]);
    // The etag still guards the budget.
    let conditional = Budget { etag, ..budget("kept", vec![rate("requests", 70, MINUTE)]) };
    next.declare(conditional.clone()).await;
    assert_eq!(next.try_declare(conditional).await.expect_err("changed since").code(), Code::Aborted);
    server.stop().await;
    next.stop().await;
}

/// Goal: an orderly restart keeps what was left, and permits, whose reports settle.
#[tokio::test]
async fn a_restart_keeps_balances_and_permits() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    server.set("k", vec![rate("requests", 50, DAY), rate("tokens", 10_000, DAY), in_flight(3)]).await;
    let held = server.granted(tokens("k", 1_000)).await;
    let done = server.granted(tokens("k", 500)).await;
    server.report(success(&done.permit_id)).await;
    let before = [server.level("k", "requests").await, server.level("k", "tokens").await];
    assert_eq!(before, [48, 8_500]);
    server.stop().await;
    let server = Server::start_on(&disk).await;
    assert_eq!([server.level("k", "requests").await, server.level("k", "tokens").await], before);
    assert_eq!((server.level("k", "in_flight").await, server.state("k").await.in_flight), (2, 1));
    let actual = Usage { tokens: Some(400), ..Usage::default() };
    let answer = server.report(ReportRequest { actual: Some(actual), ..success(&held.permit_id) }).await;
    assert!(answer.settled);
    assert_eq!((server.level("k", "tokens").await, server.level("k", "in_flight").await), (9_100, 3));
    server.stop().await;
}

/// Goal: a crash mints nothing, for any way of counting, and loses at most what was set aside: here a second of a day's quota, which
/// is nothing, or the one permit that was asked for last.
#[tokio::test]
async fn a_crash_mints_nothing() {
    let windows = [Window::Bucket, Window::Sliding, Window::Fixed];
    for window in windows {
        let disk = Memory::default();
        let server = Server::start_on(&disk).await;
        let phase = (window == Window::Fixed).then(prost_types::Timestamp::default);
        let daily = Limit { window: window.into(), phase, ..rate("requests", 20, DAY) };
        server.set("k", vec![daily]).await;
        for _ in 0..12 {
            server.granted(ask("k")).await;
        }
        let next = Server::start_on(&disk.copy()).await;
        let level = next.level("k", "requests").await;
        assert!((6..=8).contains(&level), "{level} left of 8, {window:?}");
        for _ in 0..level {
            next.granted(ask("k")).await;
        }
        next.try_granted_now(ask("k")).await.expect_err("no more than before");
        server.stop().await;
        next.stop().await;
    }
}

/// Goal: a budget that nobody asks for anything is as it was after any number of processes, however each of them ended, and one that
/// nobody ever asked is full.
#[tokio::test]
async fn processes_that_nobody_asks_change_nothing() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    server.set("used", vec![rate("requests", 20, DAY)]).await;
    server.set("new", vec![rate("requests", 20, DAY)]).await;
    for _ in 0..12 {
        server.granted(ask("used")).await;
    }
    server.stop().await;
    let mut disk = disk;
    for orderly in [true, false, true, false] {
        let idle = Server::start_on(&disk).await;
        assert_eq!([idle.level("used", "requests").await, idle.level("new", "requests").await], [8, 20]);
        match orderly {
            true => idle.stop().await,
            false => {
                disk = disk.copy();
                idle.stop().await;
            }
        }
    }
    let last = Server::start_on(&disk).await;
    for (key, left) in [("used", 8), ("new", 20)] {
        for _ in 0..left {
            last.granted(ask(key)).await;
        }
        last.try_granted_now(ask(key)).await.expect_err("no more than was left");
    }
    last.stop().await;
}

/// Goal: permits in flight survive a crash: they hold their slots until they are reported, and those of dead clients expire.
#[tokio::test]
async fn permits_survive_a_crash() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    let short = Budget { permit_ttl: span(Duration::from_secs(3)), ..budget("k", vec![in_flight(4)]) };
    server.declare(short).await;
    let reported = server.granted(ask("k")).await;
    for _ in 0..2 {
        server.granted(ask("k")).await;
    }
    let crashed = Server::start_on(&disk.copy()).await;
    let level = crashed.level("k", "in_flight").await;
    assert!((0..=1).contains(&level), "{level} of 4 free, where 3 are taken");
    assert!(crashed.report(success(&reported.permit_id)).await.settled || level == 0);
    until("the permits of dead clients to expire", async || crashed.level("k", "in_flight").await == 4).await;
    server.stop().await;
    crashed.stop().await;
}

/// Goal: freezes and exhausted quotas survive a crash.
#[tokio::test]
async fn refusals_survive_a_crash() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    server.set("frozen", vec![rate("requests", 60, MINUTE)]).await;
    server.set("exhausted", vec![rate("requests", 60, MINUTE)]).await;
    let (one, other) = (server.granted(ask("frozen")).await, server.granted(ask("exhausted")).await);
    let hour = span(HOUR);
    server.report(ReportRequest { retry_after: hour, ..report(&one.permit_id, Outcome::RateLimited) }).await;
    server.report(report(&other.permit_id, Outcome::QuotaExhausted)).await;
    // The next admin change is written together with everything before it.
    server.set("other", vec![in_flight(1)]).await;
    let next = Server::start_on(&disk.copy()).await;
    assert!(next.limit("frozen", "requests", "").await.frozen_until.is_some());
    assert!(next.state("exhausted").await.exhausted);
    let crashed = disk.copy();
    server.stop().await;
    next.stop().await;
    let next = Server::start_on(&crashed).await;
    next.resume("exhausted").await;
    let last = Server::start_on(&crashed.copy()).await;
    assert!(!last.state("exhausted").await.exhausted, "the answer came after it was written");
    next.stop().await;
    last.stop().await;
}

/// Goal: what the provider taught survives: what its headers told of a limit that nobody declared, and what its refusals left of one
/// that somebody did.
#[tokio::test]
async fn lessons_survive() {
    let disk = Memory::default();
    let server = Server::start_on(&disk).await;
    server.set("found", vec![]).await;
    server.set("lowered", vec![rate("requests", 600, MINUTE)]).await;
    let found = server.granted(ask("found")).await;
    let told = [("x-ratelimit-limit", "9000"), ("x-ratelimit-remaining", "8000")];
    let told = told.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    server.report(ReportRequest { http_status: 200, headers: told, ..success(&found.permit_id) }).await;
    for _ in 0..2 {
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(server.granted(ask("lowered")).await);
        }
        for call in calls {
            let wait = span(Duration::from_millis(1));
            server
                .report(ReportRequest { retry_after: wait, ..report(&call.permit_id, Outcome::RateLimited) })
                .await;
        }
    }
    let taught = async |server: &Server| {
        let tokens = server.limit("found", "requests", "").await;
        let requests = server.limit("lowered", "requests", "").await;
        let of = |limit: LimitState| {
            (limit.source, limit.effective_amount, limit.learned_from, limit.header_amount, limit.cushion)
        };
        (of(tokens), of(requests))
    };
    let before = taught(&server).await;
    assert_eq!((before.0.0.as_str(), before.0.1, before.0.3), ("header", 9_000, 9_000));
    assert!(before.1.1 < 600 && before.1.2 == "refusals", "{before:?}");
    // What is acknowledged next is written together with everything before it.
    server.set("other", vec![in_flight(1)]).await;
    let next = Server::start_on(&disk.copy()).await;
    assert_eq!(taught(&next).await, before);
    server.stop().await;
    next.stop().await;
    let next = Server::start_on(&disk).await;
    assert_eq!(taught(&next).await, before);
    next.stop().await;
}

/// Goal: a clock that is set while nobody runs mints nothing and holds nothing back.
#[tokio::test]
async fn clocks_that_are_set() {
    let begin = Reading::now();
    let boot = Some(Boot { id: [7; 16], up: HOUR });
    let start = |disk: &Memory, wall, up| {
        let reading = Reading { wall, boot: boot.map(|boot| Boot { up, ..boot }), ..Reading::now() };
        Some(Origin { store: Some(Box::new(disk.clone())), reading, reload: None })
    };
    for wall in [begin.wall + 400 * DAY, Time::ZERO + DAY] {
        let disk = Memory::default();
        let server = Server::start_from(start(&disk, begin.wall, HOUR), |_| {}).await;
        server.set("k", vec![rate("requests", 10, DAY), in_flight(10)]).await;
        for _ in 0..6 {
            server.granted(ask("k")).await;
        }
        server.stop().await;
        let server = Server::start_from(start(&disk, wall, HOUR + MINUTE), |_| {}).await;
        assert_eq!(server.level("k", "requests").await, 4, "a minute of a day is nothing");
        assert_eq!(server.level("k", "in_flight").await, 4);
        server.stop().await;
        // Half a day later the machine says so, whatever the date.
        let server = Server::start_from(start(&disk, wall, HOUR + MINUTE + DAY / 2), |_| {}).await;
        assert_eq!(server.level("k", "requests").await, 9);
        assert_eq!(server.level("k", "in_flight").await, 10, "their permits have ended");
        server.stop().await;
    }
}
