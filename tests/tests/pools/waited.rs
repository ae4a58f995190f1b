//! Waiting for whichever member is first.

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, DeleteBudgetRequest};
use permitd_tests::{ask, in_flight, soon, span, until};

use crate::{IN_ORDER, pool, start, waiting};

/// Goal: whoever waits is served by the member that has room first, once, and leaves the queues of the others.
#[tokio::test]
async fn served_by_whoever_is_first() {
    for first in 0..3 {
        let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(server.granted_now(ask("any")).await);
        }
        let mut session = server.session("").await;
        session.ask(1, ask("any")).await;
        assert_eq!(session.place(1).await.held_by, "in_flight");
        let (mut call, _) = server.waiting(ask("any")).await;
        assert_eq!(waiting(&server).await, [2; 3]);
        let freed = held.swap_remove(first);
        server.settle(&freed).await;
        assert_eq!(session.permit(1).await.key, freed.key);
        assert_eq!(waiting(&server).await, [1; 3]);
        let next = held.pop().expect("two are left");
        server.settle(&next).await;
        assert_eq!(call.permit().await.key, next.key);
        assert_eq!(waiting(&server).await, [0; 3]);
        server.stop().await;
    }
}

/// Goal: a member that is paused, or that nobody can tell of when, keeps nobody from the others; resumed, it serves those that wait.
#[tokio::test]
async fn members_come_back_to_those_who_wait() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    server.pause("a").await;
    let (b, c) = (server.granted_now(ask("any")).await, server.granted_now(ask("any")).await);
    assert_eq!((b.key.as_str(), c.key.as_str()), ("b", "c"));
    server.report(permitd_tests::report(&b.permit_id, permitd_proto::v1::Outcome::QuotaExhausted)).await;
    let mut session = server.session("").await;
    session.ask(1, ask("any")).await;
    session.ask(2, ask("any")).await;
    session.place(2).await;
    server.resume("a").await;
    assert_eq!(session.permit(1).await.key, "a");
    server.resume("b").await;
    assert_eq!(session.permit(2).await.key, "b", "asked again, since it had not taken the request");
    server.stop().await;
}

/// Goal: a member that is deleted keeps nobody who waits from the others; declared anew, it serves those that still do.
#[tokio::test]
async fn members_go_while_somebody_waits() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    for _ in 0..3 {
        server.granted_now(ask("any")).await;
    }
    let mut session = server.session("").await;
    session.ask(1, ask("any")).await;
    session.place(1).await;
    let (mut call, _) = server.waiting(ask("any")).await;
    let delete = DeleteBudgetRequest { provider: "p".to_owned(), key: "a".to_owned(), etag: String::new() };
    soon("an answer", server.admin().await.delete_budget(delete)).await.expect("deleted");
    assert_eq!([server.state("b").await.waiting, server.state("c").await.waiting], [2, 2]);
    server.set("a", vec![in_flight(2)]).await;
    assert_eq!(session.permit(1).await.key, "a", "asked again");
    assert_eq!(call.permit().await.key, "a");
    assert_eq!(waiting(&server).await, [0; 3]);
    server.stop().await;
}

/// Goal: deadlines, cancels and callers that go leave nothing behind at any member.
#[tokio::test]
async fn ends_leave_nothing_behind() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(server.granted_now(ask("any")).await);
    }
    let mut session = server.session("").await;
    session.ask(1, AcquireRequest { max_wait: span(Duration::from_millis(50)), ..ask("any") }).await;
    let late = session.refusal(1).await;
    assert_eq!(late.reason, "NOT_IN_TIME");
    assert_eq!(waiting(&server).await, [0; 3]);

    session.ask(2, ask("any")).await;
    session.place(2).await;
    session.ask(2, ask("any")).await;
    session.place(2).await;
    assert_eq!(waiting(&server).await, [1; 3], "a repeat has its place told again, and no other");
    session.cancel(2).await;
    assert_eq!(session.refusal(2).await.reason, "CANCELLED");
    assert_eq!(waiting(&server).await, [0; 3]);

    let (call, _) = server.waiting(ask("any")).await;
    assert_eq!(waiting(&server).await, [1; 3]);
    drop(call);
    until("the call to be gone", async || waiting(&server).await == [0; 3]).await;

    session.ask(3, ask("any")).await;
    session.place(3).await;
    session.close();
    drop(session);
    until("the session to be gone", async || waiting(&server).await == [0; 3]).await;
    for (permit, key) in held.iter().zip(["a", "b", "c"]) {
        server.settle(permit).await;
        assert_eq!(server.state(key).await.in_flight, 0, "nothing was charged to {key}");
    }
    server.stop().await;
}

/// Goal: a session that breaks keeps its place at every member, and finds the permit that came meanwhile.
#[tokio::test]
async fn a_broken_session_goes_on() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(server.granted_now(ask("any")).await);
    }
    let mut session = server.session("mine").await;
    session.ask(1, ask("any")).await;
    session.ask(2, ask("any")).await;
    session.place(2).await;
    session.reset().await;
    assert_eq!(waiting(&server).await, [2; 3], "kept for the grace");
    server.settle(&held[1]).await;
    until("a grant at b", async || server.state("b").await.in_flight == 1).await;
    let mut again = server.session("mine").await;
    assert!(again.welcome.resumed);
    let permit = again.permit(1).await;
    assert_eq!(permit.key, "b");
    assert_eq!(again.place(2).await.held_by, "in_flight");
    again.settle(&permit).await;
    assert_eq!(again.permit(2).await.key, "b");
    server.stop().await;
}

/// Goal: a server that stops tells whoever waits, once.
#[tokio::test]
async fn draining_ends_the_waiting() {
    let mut server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    for _ in 0..3 {
        server.granted_now(ask("any")).await;
    }
    let (mut call, _) = server.waiting(ask("any")).await;
    let mut session = server.session("").await;
    session.ask(1, ask("any")).await;
    session.place(1).await;
    server.tell_to_stop();
    assert_eq!(call.refusal().await.reason, "DRAINING");
    assert_eq!(session.refusal(1).await.reason, "DRAINING");
    server.stopped().await;
}

/// Goal: many that wait at all members are served as fast as the members have room together, each once.
#[tokio::test]
async fn all_the_room_of_all_members_is_used() {
    const REQUESTS: u64 = 300;
    let server = start(&pool(["in_flight=2", "in_flight=3", "in_flight=4"], IN_ORDER)).await;
    let mut session = server.session("").await;
    for request_id in 1..=REQUESTS {
        session.ask(request_id, ask("any")).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut live = std::collections::VecDeque::new();
    while seen.len() < usize::try_from(REQUESTS).expect("few") {
        let granted = session.next_granted().await;
        assert!(seen.insert(granted.request_id), "{} was granted twice", granted.request_id);
        live.push_back(granted.permit.expect("a permit"));
        assert!(live.len() <= 9, "more than all members hold");
        if live.len() == 9 {
            let permit = live.pop_front().expect("nine");
            session.settle(&permit).await;
        }
    }
    session.barrier().await;
    let states = [server.state("a").await, server.state("b").await, server.state("c").await];
    assert_eq!(states.iter().map(|state| u64::from(state.in_flight)).sum::<u64>(), live.len() as u64);
    assert_eq!(waiting(&server).await, [0; 3]);
    server.stop().await;
}
