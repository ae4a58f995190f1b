//! SEMANTICS, "Session" (35 to 39): streams that end politely, streams that break, and what is said twice.

use std::{collections::BTreeSet, time::Duration};

use permitd_proto::v1::{AcquireRequest, Outcome, ReportRequest, SessionRequest};
use permitd_tests::{
    DAY, Peer, Proxy, Server, Session, acquires, ask, facts, hello, in_flight, rate, report, soon, success,
    tokens, until,
};
use tonic::Code;

fn greeting(session_id: &str) -> SessionRequest {
    SessionRequest { hello: Some(hello(session_id)), ..SessionRequest::default() }
}

/// A server whose broken sessions are kept for longer than any test, or for so long.
async fn with_grace(grace: Duration) -> Server {
    let server = Server::start_with(|config| config.server.grace = grace).await;
    server.set("k", vec![in_flight(1), rate("tokens", 1_000, DAY)]).await;
    server
}

const LONG: Duration = Duration::from_secs(600);

/// Goal (35): a half-close is polite: those waiting are still answered, then the stream ends well and the session is forgotten.
#[tokio::test]
async fn s35_half_close_drains() {
    let server = with_grace(LONG).await;
    let held = server.granted_now(ask("k")).await;
    let mut session = server.session("polite").await;
    session.ask(1, ask("k")).await;
    session.place(1).await;
    session.close();
    server.settle(&held).await;
    let permit = session.permit(1).await;
    session.end().await.expect("a polite end");
    server.settle(&permit).await;
    let again = server.session("polite").await;
    assert!(!again.welcome.resumed, "forgotten");
    server.stop().await;
}

/// The ways in which a stream breaks.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The stream alone is reset; its connection lives.
    Reset,
    /// The connection is cut.
    Cut,
}

async fn broken(how: Break, session: Session, proxy: &Proxy) {
    match how {
        Break::Reset => session.reset().await,
        Break::Cut => {
            proxy.cut();
            drop(session);
        }
    }
}

/// Goal (35): a broken stream keeps its places and permits for the grace period, which Welcome tells.
#[tokio::test]
async fn s35_broken_streams_keep_their_places() {
    for how in [Break::Reset, Break::Cut] {
        let server = with_grace(LONG).await;
        let proxy = Proxy::start(server.address).await;
        let held = server.granted_now(ask("k")).await;
        let mut session = Peer::new(proxy.address).session("mine").await;
        assert_eq!(session.welcome.grace, permitd_tests::span(LONG));
        assert!(!session.welcome.resumed);
        session.ask(1, ask("k")).await;
        session.place(1).await;
        let (mut behind, place) = server.waiting(ask("k")).await;
        assert_eq!(place.position, 1);
        broken(how, session, &proxy).await;
        // It is granted while nobody is there.
        server.settle(&held).await;
        until("the grant", async || server.state("k").await.in_flight == 1).await;
        assert_eq!(server.state("k").await.waiting, 1, "the one behind");

        let mut session = Peer::new(proxy.address).session("mine").await;
        assert!(session.welcome.resumed);
        let permit = session.permit(1).await;
        session.settle(&permit).await;
        behind.permit().await;
        server.stop().await;
    }
}

/// Goal (35): when the grace is over, places are left, grants that never went out go back, and the session is forgotten.
#[tokio::test]
async fn s35_the_grace_ends() {
    for how in [Break::Reset, Break::Cut] {
        let server = with_grace(Duration::from_millis(100)).await;
        let proxy = Proxy::start(server.address).await;
        let held = server.granted_now(ask("k")).await;
        let mut session = Peer::new(proxy.address).session("mine").await;
        session.ask(1, tokens("k", 10)).await;
        session.ask(2, tokens("k", 10)).await;
        session.place(2).await;
        broken(how, session, &proxy).await;
        until("their places to be left", async || server.state("k").await.waiting == 0).await;
        server.settle(&held).await;
        assert_eq!(server.level("k", "tokens").await, 1_000, "nothing was granted to nobody");
        server.granted_now(ask("k")).await;
        let session = Peer::new(proxy.address).session("mine").await;
        assert!(!session.welcome.resumed);
        server.stop().await;
    }
}

/// Goal (36): on resume every unreported grant comes again with the same permit_id, and no other.
#[tokio::test]
async fn s36_grants_come_again() {
    for how in [Break::Reset, Break::Cut] {
        let server = with_grace(LONG).await;
        server.set("k", vec![in_flight(10)]).await;
        let proxy = Proxy::start(server.address).await;
        let mut session = Peer::new(proxy.address).session("mine").await;
        let mut ids = Vec::new();
        for id in 1..=5 {
            session.ask(id, ask("k")).await;
            ids.push((id, session.permit(id).await.permit_id));
        }
        let three = AcquireRequest { count: 3, ..ask("k") };
        session.ask(6, three).await;
        for _ in 0..3 {
            ids.push((6, session.permit(6).await.permit_id));
        }
        for (_, reported) in [ids.remove(5), ids.remove(1)] {
            assert!(session.report(success(&reported)).await.settled);
        }
        for _ in 0..3 {
            broken(how, session, &proxy).await;
            session = Peer::new(proxy.address).session("mine").await;
            assert!(session.welcome.resumed);
            let mut again = Vec::new();
            for _ in 0..ids.len() {
                let granted = session.next_granted().await;
                again.push((granted.request_id, granted.permit.expect("a permit").permit_id));
            }
            again.sort_by_key(|(request_id, _)| *request_id);
            let mut sorted = (again.clone(), ids.clone());
            sorted.0.sort();
            sorted.1.sort();
            assert_eq!(sorted.0, sorted.1);
            session.barrier().await;
            assert!(session.granted.is_empty(), "each once");
        }
        assert_eq!(server.state("k").await.in_flight, 6);
        server.stop().await;
    }
}

/// Goal (36, 38): thousands of permits of one request come again each once, after a resume and however often the request is repeated in
/// one message; whoever asks beside it is served meanwhile.
#[tokio::test]
async fn s38_repeats_are_bounded() {
    const PERMITS: u32 = 5_000;
    let server = with_grace(LONG).await;
    server.set("k", vec![in_flight(10_000)]).await;
    let mut session = server.session("mine").await;
    let asked = AcquireRequest { request_id: 1, count: PERMITS, ..ask("k") };
    session.send(acquires(vec![asked.clone()])).await;
    let mut permits = BTreeSet::new();
    for _ in 0..PERMITS {
        permits.insert(session.permit(1).await.permit_id);
    }
    let again = |session: &mut Session| {
        assert_eq!(session.granted.len(), permits.len(), "each once");
        let again = session.granted.drain(..).filter_map(|granted| granted.permit);
        assert_eq!(again.map(|permit| permit.permit_id).collect::<BTreeSet<_>>(), permits);
    };
    session.send(acquires(vec![asked.clone(); 128])).await;
    server.give_back(&server.granted_now(ask("k")).await).await;
    session.barrier().await;
    again(&mut session);
    session.reset().await;
    let first = SessionRequest { hello: Some(hello("mine")), ..acquires(vec![asked; 100]) };
    let mut session = Session::open_with(server.channel().await, first).await;
    assert!(session.welcome.resumed);
    session.barrier().await;
    again(&mut session);
    assert_eq!(server.state("k").await.in_flight, PERMITS);
    server.stop().await;
}

/// Goal (36): a report that was on its way when the stream broke can be sent again, and counts once.
#[tokio::test]
async fn s36_reports_count_once() {
    let server = with_grace(LONG).await;
    let proxy = Proxy::start(server.address).await;
    let mut session = Peer::new(proxy.address).session("mine").await;
    session.ask(1, tokens("k", 100)).await;
    let permit = session.permit(1).await;
    let actual = permitd_proto::v1::Usage { tokens: Some(40), ..Default::default() };
    let said = ReportRequest { actual: Some(actual), ..success(&permit.permit_id) };
    let first = session.report(said.clone()).await;
    proxy.cut();
    let mut session = Peer::new(proxy.address).session("mine").await;
    assert_eq!(session.report(said).await, first);
    assert_eq!(server.level("k", "tokens").await, 960);
    assert!(session.granted.is_empty(), "it is settled");
    server.stop().await;
}

/// Goal (37): with the same session_id on two streams the newest wins, and the old one ends ABORTED.
#[tokio::test]
async fn s37_the_newest_wins() {
    let server = with_grace(LONG).await;
    let mut old = server.session("mine").await;
    old.ask(1, ask("k")).await;
    let permit = old.permit(1).await;
    let mut new = server.session("mine").await;
    assert!(new.welcome.resumed);
    let status = old.end().await.expect_err("taken over");
    assert_eq!(facts(&status).code, Code::Aborted);
    assert_eq!(new.permit(1).await.permit_id, permit.permit_id);
    // The end of the old stream is not the end of the session.
    drop(old);
    new.ask(2, ask("k")).await;
    new.place(2).await;
    new.settle(&permit).await;
    new.permit(2).await;
    server.stop().await;
}

/// Goal (38): a repeated request_id gets the same grant, waiting, granted or reported, and never a second permit.
#[tokio::test]
async fn s38_repeats() {
    let server = with_grace(LONG).await;
    let mut session = server.session("").await;
    let twice = acquires(vec![AcquireRequest { request_id: 1, ..ask("k") }; 2]);
    session.send(twice.clone()).await;
    let permit = session.permit(1).await;
    assert_eq!(session.permit(1).await.permit_id, permit.permit_id, "both in one message");
    session.send(twice.clone()).await;
    for _ in 0..2 {
        assert_eq!(session.permit(1).await.permit_id, permit.permit_id, "while it lives");
    }
    session.ask(2, ask("k")).await;
    session.ask(2, ask("k")).await;
    session.place(2).await;
    assert_eq!(server.state("k").await.waiting, 1, "one place");
    session.settle(&permit).await;
    let second = session.permit(2).await;
    session.send(twice).await;
    session.barrier().await;
    let again: Vec<_> = session.granted.drain(..).collect();
    assert!(
        again.iter().all(|granted| granted.request_id == 1
            && granted.permit.as_ref().is_some_and(|again| again.permit_id == permit.permit_id)),
        "after its report, the same or nothing: {again:?}"
    );
    assert_eq!(server.state("k").await.in_flight, 1);
    session.settle(&second).await;
    server.stop().await;
}

/// Goal (38): a cancelled request that waits is answered CANCELLED and leaves; what is unknown is ignored; a message may take back what
/// it asks for.
#[tokio::test]
async fn s38_cancels() {
    let server = with_grace(LONG).await;
    let held = server.granted_now(ask("k")).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    session.place(1).await;
    session.send(SessionRequest { cancel: vec![99, 1, 1, 0, u64::MAX], ..SessionRequest::default() }).await;
    assert_eq!(session.refusal(1).await.says(), (Code::Cancelled, "CANCELLED"));
    session.barrier().await;
    assert!(session.refused.is_empty(), "answered once, and unknown ones not at all");
    assert_eq!(server.state("k").await.waiting, 0);
    let both =
        SessionRequest { cancel: vec![2], ..acquires(vec![AcquireRequest { request_id: 2, ..ask("k") }]) };
    session.send(both).await;
    assert_eq!(session.refusal(2).await.code, Code::Cancelled);
    server.settle(&held).await;
    assert_eq!(server.state("k").await.in_flight, 0);
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (38): however large a message is, it is handled in the order of a small one: a report in it frees the slot that one of its
/// acquires takes, and what it asks for it may take back.
#[tokio::test]
async fn s38_large_messages_keep_the_order() {
    const LAST: u64 = 1_000;
    let server = with_grace(LONG).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    let held = session.permit(1).await;
    let many = (2..=LAST).map(|request_id| AcquireRequest { request_id, ..ask("k") }).collect();
    let report = vec![success(&held.permit_id)];
    session.send(SessionRequest { report, cancel: (3..=LAST).collect(), ..acquires(many) }).await;
    assert!(session.next_reported().await.settled);
    let next = session.permit(2).await;
    for request_id in 3..=LAST {
        assert_eq!(session.refusal(request_id).await.code, Code::Cancelled, "{request_id}");
    }
    session.settle(&next).await;
    let state = server.state("k").await;
    assert_eq!((state.in_flight, state.waiting), (0, 0));
    server.stop().await;
}

/// Goal (38): in one message for several budgets, what is reported of each frees the slot that is asked of it, whichever of them are reported,
/// asked for, or both, and in whatever order; a permit that is reported twice is settled once.
#[tokio::test]
async fn s38_reports_go_first_at_every_budget() {
    const BUDGETS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let server = with_grace(LONG).await;
    for key in BUDGETS {
        server.set(key, vec![in_flight(1)]).await;
    }
    let mut session = server.session("").await;
    let mut held = Vec::new();
    for (request_id, key) in (1..).zip(["d", "a", "c"]) {
        session.ask(request_id, ask(key)).await;
        held.push(session.permit(request_id).await);
    }
    let [d, a, c] = &held[..] else { panic!("three were granted") };
    let report = [c, a, a, d].map(|permit| success(&permit.permit_id)).to_vec();
    let asked = ["e", "d", "b", "a"];
    let acquire =
        (11..).zip(asked).map(|(request_id, key)| AcquireRequest { request_id, ..ask(key) }).collect();
    session.send(SessionRequest { report, ..acquires(acquire) }).await;
    for _ in 0..4 {
        assert!(session.next_reported().await.settled);
    }
    // Each budget's answers come together, whichever comes first.
    for _ in asked {
        let granted = session.next_granted().await;
        let permit = granted.permit.expect("a permit");
        assert_eq!(permit.key, asked[granted.request_id as usize - 11]);
        assert_eq!(server.state(&permit.key).await.in_flight, 1, "{}", permit.key);
        session.settle(&permit).await;
    }
    for key in BUDGETS {
        let state = server.state(key).await;
        assert_eq!((state.in_flight, state.waiting), (0, 0), "{key}");
    }
    server.stop().await;
}

/// Goal (38): of several permits, a cancel takes back what still waits; what was granted stays with its holder.
#[tokio::test]
async fn s38_cancelling_the_rest() {
    let server = with_grace(LONG).await;
    let mut session = server.session("").await;
    session.ask(1, AcquireRequest { count: 3, ..ask("k") }).await;
    let permit = session.permit(1).await;
    session.cancel(1).await;
    assert_eq!(session.refusal(1).await.says(), (Code::Cancelled, "CANCELLED"));
    let state = server.state("k").await;
    assert_eq!((state.in_flight, state.waiting), (1, 0));
    session.settle(&permit).await;
    session.barrier().await;
    assert!(session.granted.is_empty(), "no more of them");
    server.stop().await;
}

/// Goal (38, invariant 6): whichever of cancel and grant comes first, nothing is lost and nothing is left: the request ends cancelled
/// and the slot is free, or its holder knows of it.
#[tokio::test]
async fn s38_cancels_race_with_grants() {
    let server = with_grace(LONG).await;
    let mut session = server.session("").await;
    for id in 1..=200 {
        let held = server.granted_now(ask("k")).await;
        session.ask(id, ask("k")).await;
        session.place(id).await;
        let (settled, ()) = tokio::join!(server.report(success(&held.permit_id)), session.cancel(id));
        assert!(settled.settled);
        session.barrier().await;
        // By now the cancel was dealt with, and a grant that it came too late for has been sent.
        let state = server.state("k").await;
        if state.in_flight == 0 {
            assert_eq!(session.refusal(id).await.code, Code::Cancelled, "told so, if nothing else");
        } else {
            let permit = session.permit(id).await;
            session.settle(&permit).await;
        }
        session.barrier().await;
        assert!(session.refused.is_empty(), "answered once: {:?}", session.refused);
        let state = server.state("k").await;
        assert_eq!((state.in_flight, state.waiting), (0, 0), "after request {id}");
        session.granted.clear();
        session.queued.clear();
    }
    server.stop().await;
}

/// Goal (39): no Hello first, and a second Hello, end the stream with what is wrong; an empty id gets one that is hard to guess.
#[tokio::test]
async fn s39_hello() {
    let server = with_grace(LONG).await;
    for first in [
        SessionRequest::default(),
        acquires(vec![ask("k")]),
        SessionRequest { report: vec![success("x")], ..SessionRequest::default() },
    ] {
        let status = Session::try_open(server.channel().await, first).await.expect_err("no Hello");
        assert_eq!(facts(&status).code, Code::FailedPrecondition);
    }
    assert_eq!(server.state("k").await.granted_total, 0, "nothing of it was done");
    let mut session = server.session("").await;
    let chosen = session.welcome.session_id.clone();
    assert!(chosen.len() >= 16, "hard to guess: {chosen:?}");
    session.send(greeting("another")).await;
    let status = session.end().await.expect_err("a second Hello");
    assert_eq!(facts(&status).code, Code::InvalidArgument);
    assert_ne!(server.session("").await.welcome.session_id, chosen);
    assert_eq!(server.session("my own").await.welcome.session_id, "my own");
    server.stop().await;
}

/// Goal: the first message may ask for everything at once; items that make no sense are refused one by one and the others served.
#[tokio::test]
async fn items_are_judged_one_by_one() {
    let server = with_grace(LONG).await;
    let request = |request_id, request: AcquireRequest| AcquireRequest { request_id, ..request };
    let first = SessionRequest {
        acquire: vec![
            request(1, AcquireRequest { provider: String::new(), ..ask("k") }),
            request(2, ask("k")),
            request(3, AcquireRequest { count: 10_001, ..ask("k") }),
            request(4, tokens("k", 1_001)),
            request(5, ask("nobody declared")),
        ],
        ..greeting("")
    };
    let mut session = Session::open_with(server.channel().await, first).await;
    let permit = session.permit(2).await;
    for (id, code) in
        [(1, Code::InvalidArgument), (3, Code::InvalidArgument), (4, Code::OutOfRange), (5, Code::NotFound)]
    {
        assert_eq!(session.refusal(id).await.code, code, "request {id}");
    }
    let bad = ReportRequest { body: vec![0; 4_097], ..success(&permit.permit_id) };
    let message = SessionRequest {
        report: vec![bad, report(&permit.permit_id, Outcome::Success)],
        ..SessionRequest::default()
    };
    session.send(message).await;
    assert!(session.next_reported().await.settled);
    let refused = session.next_refused().await;
    assert_eq!(
        (refused.permit_id.as_str(), refused.code),
        (permit.permit_id.as_str(), Code::InvalidArgument as u32)
    );
    session.close();
    soon("the end", session.end()).await.expect("a polite end");
    server.stop().await;
}

/// Goal: without progress asked for, no places are told; with it, they come at once.
#[tokio::test]
async fn places_are_told_to_who_asks() {
    let server = with_grace(LONG).await;
    let _held = server.granted_now(ask("k")).await;
    let quiet = permitd_proto::v1::Hello { progress: false, ..hello("") };
    let mut quiet = Session::open(server.channel().await, quiet).await;
    quiet.ask(1, ask("k")).await;
    quiet.barrier().await;
    assert!(quiet.queued.is_empty());
    let mut curious = server.session("").await;
    curious.ask(1, ask("k")).await;
    assert_eq!(curious.place(1).await.position, 1);
    server.stop().await;
}

/// Goal: who uses a budget by session is told a safe share of it, which all sessions together do not exceed.
#[tokio::test]
async fn local_shares_are_safe() {
    let server = Server::with(vec![rate("requests", 1_000, DAY), in_flight(10)]).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let mut session = server.session("").await;
        session.ask(1, ask("k")).await;
        session.permit(1).await;
        sessions.push(session);
    }
    let mut total = 0;
    for session in sessions.iter_mut().rev() {
        // The newest knows of all; the older ones hear of it later.
        while session.shares.is_empty() {
            session.read().await.expect("a share");
        }
        let share = session.shares.pop_back().expect("just seen");
        assert_eq!((share.provider.as_str(), share.key.as_str()), ("p", "k"));
        assert!(share.valid_for.is_some());
        let requests = share.limits.iter().find(|limit| limit.unit == "requests").expect("all limits");
        assert!(requests.amount <= 1_000 && share.limits.iter().any(|limit| limit.unit == "in_flight"));
        total += requests.amount;
        if total > 1_000 {
            // An older session's share is replaced soon.
            session.shares.clear();
            while session.shares.is_empty() {
                session.read().await.expect("a smaller share");
            }
            let smaller = session.shares.pop_back().expect("just seen");
            let requests_now =
                smaller.limits.iter().find(|limit| limit.unit == "requests").expect("all limits");
            total = total - requests.amount + requests_now.amount;
        }
    }
    assert!(total <= 1_000, "{total} for all three together");
    server.stop().await;
}
