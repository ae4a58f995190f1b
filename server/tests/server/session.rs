//! What a session promises: one permit per request_id, places that outlive a connection, and nothing lost or kept when a cancel
//! or a broken stream meets a grant.

use std::time::Duration;

use permitd_budget::LimitSpec;
use permitd_proto::v1::{AcquireRequest, Hello, SessionRequest};
use tonic::Code;

use crate::support::{self, DAY, Server, Session, acquires, ask, hello, until};

fn one_at_a_time() -> Vec<(&'static str, Vec<LimitSpec>)> {
    vec![("k", vec![LimitSpec::in_flight(1)])]
}

/// Goal: the plain way through: granted, queued behind, granted after a report, half-closed.
#[tokio::test]
async fn grants_and_reports() {
    let server = Server::start(&one_at_a_time()).await;
    let mut session = server.session("").await;
    assert!(!session.resumed);
    assert_eq!(session.id.len(), 32, "chosen by the server");
    session.send(acquires(vec![ask(1, "k"), ask(2, "k")])).await;
    let first = session.permit(1).await;
    assert_eq!((first.provider.as_str(), first.key.as_str()), ("p", "k"));
    assert_eq!(first.charged.as_ref().and_then(|charged| charged.requests), Some(1));
    session.nothing_granted().await;
    assert!(session.report(&first.permit_id).await.settled);
    let second = session.permit(2).await;
    assert_ne!(first.permit_id, second.permit_id);
    session.close();
    session.end().await.expect("a polite end");
    server.stop().await;
}

/// Goal: a repeated request_id gets the same grant, whether its permit lives or was reported, and never a second permit.
#[tokio::test]
async fn repeats_get_the_same_grant() {
    let server = Server::start(&[("k", vec![LimitSpec::rate("requests", 2, DAY)])]).await;
    let mut session = server.session("").await;
    session.send(acquires(vec![ask(7, "k"), ask(7, "k")])).await;
    let first = session.permit(7).await;
    assert_eq!(session.permit(7).await, first);
    assert!(session.report(&first.permit_id).await.settled);
    session.ask(7, "k").await;
    assert_eq!(session.permit(7).await.permit_id, first.permit_id);
    // One of two was taken: another request still gets the other, and then there is none.
    session.ask(8, "k").await;
    session.permit(8).await;
    session.send(acquires(vec![try_only(9)])).await;
    let refused = session.refused().await;
    assert_eq!((refused.request_id, refused.reason.as_str()), (9, "NOT_IN_TIME"));
    session.send(acquires(vec![ask(9, "k")])).await;
    assert_eq!(session.refused().await, refused, "a repeat of a refused one");
    server.stop().await;
}

fn try_only(request_id: u64) -> AcquireRequest {
    AcquireRequest { max_wait: Some(prost_types::Duration::default()), ..ask(request_id, "k") }
}

/// Goal: a broken stream keeps its place and its permits: what was granted is sent again with the same id, what was granted
/// meanwhile is not missed.
#[tokio::test]
async fn resumes_with_places_and_permits() {
    let server = Server::start(&one_at_a_time()).await;
    let mut session = server.session("mine").await;
    session.send(acquires(vec![ask(1, "k"), ask(2, "k")])).await;
    let first = session.permit(1).await;
    let mut rival = server.session("rival").await;
    rival.ask(1, "k").await;
    rival.nothing_granted().await;
    session.break_off();
    // Reported by hand while nobody listens: the place in the queue is granted to the broken session, not to the rival.
    let mut unary = server.permits().await;
    let report = support::success(&first.permit_id);
    assert!(unary.report(report).await.expect("an answer").into_inner().settled);
    rival.nothing_granted().await;
    let mut session = server.session("mine").await;
    assert!(session.resumed);
    let second = session.permit(2).await;
    assert!(session.report(&second.permit_id).await.settled);
    rival.permit(1).await;
    server.stop().await;
}

/// Goal: on a resume, a live grant is sent again with the same permit_id.
#[tokio::test]
async fn unreported_grants_are_sent_again() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(10)])]).await;
    let mut session = server.session("mine").await;
    session.send(acquires(vec![ask(1, "k"), AcquireRequest { count: 3, ..ask(2, "k") }])).await;
    let first = session.permit(1).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(session.permit(2).await.permit_id);
    }
    assert!(session.report(&ids.remove(1)).await.settled);
    session.break_off();
    let mut session = server.session("mine").await;
    assert_eq!(session.permit(1).await.permit_id, first.permit_id);
    assert_eq!(session.permit(2).await.permit_id, ids[0]);
    assert_eq!(session.permit(2).await.permit_id, ids[1]);
    session.nothing_granted().await;
    server.stop().await;
}

/// Goal: the newest stream of a session wins; the old one ends ABORTED, and nothing is lost on the way.
#[tokio::test]
async fn the_newest_stream_wins() {
    let server = Server::start(&one_at_a_time()).await;
    let mut old = server.session("mine").await;
    old.send(acquires(vec![ask(1, "k"), ask(2, "k")])).await;
    let first = old.permit(1).await;
    let mut new = server.session("mine").await;
    assert!(new.resumed);
    assert_eq!(old.failure().await.0, Code::Aborted);
    assert_eq!(new.permit(1).await.permit_id, first.permit_id);
    assert!(new.report(&first.permit_id).await.settled);
    new.permit(2).await;
    server.stop().await;
}

/// Goal: after the grace, places are given up, grants that nobody heard of go back, and the id begins anew.
#[tokio::test]
async fn after_the_grace_everything_goes_back() {
    let server = Server::start_with(&one_at_a_time(), |config| {
        config.server.grace = Duration::from_millis(1);
    })
    .await;
    let mut session = server.session("mine").await;
    session.send(acquires(vec![ask(1, "k"), ask(2, "k")])).await;
    let first = session.permit(1).await;
    let mut rival = server.session("rival").await;
    rival.ask(1, "k").await;
    rival.nothing_granted().await;
    session.break_off();
    let mut watcher = server.session("watcher").await;
    until("the burial", async || {
        let fresh = server.session("mine").await;
        !fresh.resumed
    })
    .await;
    assert!(watcher.report(&first.permit_id).await.settled);
    rival.permit(1).await;
    server.stop().await;
}

/// Goal: a half-close is polite: what waits is still answered, then the stream ends and the session is forgotten.
#[tokio::test]
async fn half_close_drains_and_forgets() {
    let server = Server::start(&one_at_a_time()).await;
    let mut holder = server.session("holder").await;
    holder.ask(1, "k").await;
    let held = holder.permit(1).await;
    let mut session = server.session("mine").await;
    session.ask(5, "k").await;
    session.nothing_granted().await;
    session.close();
    assert!(holder.report(&held.permit_id).await.settled);
    session.permit(5).await;
    session.end().await.expect("a polite end");
    assert!(!server.session("mine").await.resumed);
    server.stop().await;
}

/// Goal: cancels in every state: waiting, granted and unreported, in the same message, repeated, unknown.
#[tokio::test]
async fn cancels_take_nothing() {
    let server = Server::start(&one_at_a_time()).await;
    let mut session = server.session("").await;
    session.send(acquires(vec![ask(1, "k"), ask(2, "k")])).await;
    session.permit(1).await;
    session.cancel(2).await;
    let refused = session.refused().await;
    assert_eq!(
        (refused.request_id, refused.code, refused.reason.as_str()),
        (2, Code::Cancelled as u32, "CANCELLED")
    );
    // Granted and not reported: the cancel raced with the grant.
    session.cancel(1).await;
    assert_eq!(session.refused().await.request_id, 1);
    // Its slot is back.
    session.ask(3, "k").await;
    let third = session.permit(3).await;
    // Asked for and taken back in one message.
    session
        .send(SessionRequest { acquire: vec![ask(4, "k")], cancel: vec![4, 4, 99], ..Default::default() })
        .await;
    assert_eq!(session.refused().await.request_id, 4);
    session.cancel(2).await;
    session.nothing_granted().await;
    assert!(session.report(&third.permit_id).await.settled);
    server.stop().await;
}

/// Goal: cancelling one of several permits' request takes back only what still waits.
#[tokio::test]
async fn cancel_of_many_keeps_what_was_granted() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(2)])]).await;
    let mut session = server.session("").await;
    session.send(acquires(vec![AcquireRequest { count: 5, ..ask(1, "k") }])).await;
    let (first, second) = (session.permit(1).await, session.permit(1).await);
    session.cancel(1).await;
    assert_eq!(session.refused().await.reason, "CANCELLED");
    assert!(session.report(&first.permit_id).await.settled);
    assert!(session.report(&second.permit_id).await.settled);
    session.nothing_granted().await;
    session.ask(2, "k").await;
    session.permit(2).await;
    server.stop().await;
}

/// Goal: hundreds of cancels that race with grants on another connection lose no slot and mint none.
#[tokio::test]
async fn cancels_race_with_grants() {
    const ROUNDS: u64 = 300;
    let server = Server::start(&one_at_a_time()).await;
    let mut holder = server.session("holder").await;
    let mut session = server.session("racer").await;
    for round in 0..ROUNDS {
        holder.ask(round, "k").await;
        let held = holder.permit(round).await;
        session.ask(round, "k").await;
        session.nothing_granted().await;
        // The report grants to the racer while its cancel is on the way.
        let report = SessionRequest { report: vec![support::success(&held.permit_id)], ..Default::default() };
        holder.send(report).await;
        session.cancel(round).await;
        let refused = session.refused().await;
        assert_eq!((refused.request_id, refused.reason.as_str()), (round, "CANCELLED"));
        assert!(holder.reported().await.settled);
        // The grant may have been faster than the cancel; its permit is back all the same.
        session.take_grants();
    }
    holder.ask(ROUNDS, "k").await;
    holder.permit(ROUNDS).await;
    server.stop().await;
}

/// Goal: with progress, the place is told at once and again when it changed; held_by names the limit.
#[tokio::test]
async fn progress_tells_places() {
    let server = Server::start(&one_at_a_time()).await;
    let greeting = Hello { progress: true, ..hello("") };
    let mut session = Session::open(server.permits().await, greeting).await;
    session.send(acquires(vec![ask(1, "k"), ask(2, "k"), ask(3, "k")])).await;
    let first = session.permit(1).await;
    let (second, third) = (session.queued().await, session.queued().await);
    assert_eq!((second.request_id, second.position, second.held_by.as_str()), (2, 0, "in_flight"));
    assert_eq!((third.request_id, third.position), (3, 1));
    assert!(session.report(&first.permit_id).await.settled);
    session.permit(2).await;
    let third = session.queued().await;
    assert_eq!((third.request_id, third.position), (3, 0));
    server.stop().await;
}

/// Goal: a client learns what it may use alone, and that it is less once somebody else uses the budget too.
#[tokio::test]
async fn shares_shrink_with_company() {
    let server =
        Server::start(&[("k", vec![LimitSpec::rate("requests", 60, DAY), LimitSpec::in_flight(5)])]).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let amounts = |share: permitd_proto::v1::LocalShare| -> Vec<u64> {
        share.limits.iter().map(|limit| limit.amount).collect()
    };
    assert_eq!(amounts(session.share().await), [60, 5]);
    let mut other = server.session("").await;
    other.ask(1, "k").await;
    other.permit(1).await;
    assert_eq!(amounts(session.share().await), [30, 2]);
    assert_eq!(amounts(other.share().await), [30, 2], "after the first one shrank");
    server.stop().await;
}
