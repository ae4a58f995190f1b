//! What callers of a cluster see: one service, whichever server they talk to.

use std::time::Duration;

use permitd_proto::v1::Outcome;
use permitd_proto::v1::{
    AcquireRequest, DeleteBudgetRequest, ListBudgetsRequest, ListChangesRequest, SessionRequest,
    WatchBudgetsRequest,
};
use permitd_tests::{Session, acquires, ask, budget, hello, in_flight, report, soon, span, success, until};

use crate::fleet::Fleet;

/// Goal: a budget that one server owns is every server's to use: permits from all of them add up, and any takes any report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_takes_any_call() {
    let fleet = Fleet::start(3, 1).await;
    fleet.server(0).set("k", vec![in_flight(3)]).await;
    fleet.is_known("k").await;
    let mut permits = Vec::new();
    for place in 0..3 {
        permits.push(fleet.server(place).granted(ask("k")).await);
    }
    for place in 0..3 {
        let refused =
            fleet.server(place).refused(AcquireRequest { max_wait: span(Duration::ZERO), ..ask("k") }).await;
        assert_eq!(refused.reason, "NOT_IN_TIME", "all three are out");
        assert_eq!(fleet.server(place).state("k").await.in_flight, 3);
    }
    // Whoever waits at one server gets what comes back at another.
    let (mut waiting, _) = fleet.server(1).waiting(ask("k")).await;
    let answer = fleet.server(2).report(success(&permits[0].permit_id)).await;
    assert!(answer.settled);
    let fourth = waiting.permit().await;
    // The same report again has the same answer, wherever it comes.
    for place in 0..3 {
        assert!(fleet.server(place).report(success(&permits[0].permit_id)).await.settled);
    }
    assert!(fleet.server(0).report(success(&fourth.permit_id)).await.settled);
    assert!(!fleet.server(0).report(success("nobody issued this")).await.settled);
    assert_eq!(fleet.server(1).state("k").await.in_flight, 2);
}

/// Goal: sessions use budgets of several owners as if all were here: grants, places, cancels, reports, extensions and repeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_spans_owners() {
    let fleet = Fleet::start(3, 1).await;
    let keys: Vec<String> = (0..12).map(|number| format!("k{number}")).collect();
    for key in &keys {
        fleet.server(0).set(key, vec![in_flight(1)]).await;
    }
    let mut owners = Vec::new();
    for key in &keys {
        owners.push(fleet.owned(key).await);
        fleet.is_known(key).await;
    }
    owners.sort_unstable();
    owners.dedup();
    assert!(owners.len() > 1, "budgets have several owners");

    let server = fleet.server(1);
    let mut session = Session::open(server.channel().await, hello("one")).await;
    let ask_all = |first: u64| {
        let asked =
            keys.iter().zip(first..).map(|(key, request_id)| AcquireRequest { request_id, ..ask(key) });
        acquires(asked.collect())
    };
    session.send(ask_all(1)).await;
    let mut granted = Vec::new();
    for _ in &keys {
        granted.push(session.next_granted().await);
    }
    granted.sort_by_key(|granted| granted.request_id);
    // A repeat gets the same permit.
    session.send(ask_all(1)).await;
    for _ in &keys {
        let again = session.next_granted().await;
        let first = &granted[again.request_id as usize - 1];
        assert_eq!(
            again.permit.map(|permit| permit.permit_id),
            first.permit.clone().map(|permit| permit.permit_id)
        );
    }
    // Those behind wait; one that is cancelled is told so, the others get what comes back.
    session.send(ask_all(101)).await;
    session.send(SessionRequest { cancel: vec![101], ..SessionRequest::default() }).await;
    assert_eq!(session.refusal(101).await.reason, "CANCELLED");
    let ids: Vec<String> =
        granted.iter().map(|granted| granted.permit.clone().expect("a permit").permit_id).collect();
    session.send(SessionRequest { extend: ids.clone(), ..SessionRequest::default() }).await;
    for id in &ids {
        assert!(session.report(success(id)).await.settled);
    }
    for _ in &keys[1..] {
        let granted = session.next_granted().await;
        assert!((102..=112).contains(&granted.request_id));
    }
    assert!(session.refused.is_empty(), "{:?}", session.refused);
}

/// Goal: a session that breaks goes on at another server: what it was granted of a budget that neither owns is sent again, and who
/// waited keeps the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_moves() {
    let fleet = Fleet::start(3, 1).await;
    fleet.server(0).set("k", vec![in_flight(1)]).await;
    fleet.is_known("k").await;
    let owner = fleet.owned("k").await;
    let (one, other) = ((owner + 1) % 3, (owner + 2) % 3);
    let mut session = Session::open(fleet.server(one).channel().await, hello("mover")).await;
    session.send(acquires(vec![AcquireRequest { request_id: 1, ..ask("k") }])).await;
    let permit = session.permit(1).await;
    session.send(acquires(vec![AcquireRequest { request_id: 2, ..ask("k") }])).await;
    session.barrier().await;
    drop(session);

    let mut session = Session::open(fleet.server(other).channel().await, hello("mover")).await;
    session.send(acquires(vec![AcquireRequest { request_id: 2, ..ask("k") }])).await;
    let again = session.permit(1).await;
    assert_eq!(again.permit_id, permit.permit_id);
    assert!(session.report(success(&permit.permit_id)).await.settled);
    session.permit(2).await;
    assert_eq!(fleet.server(one).state("k").await.in_flight, 1, "one permit for one request");
}

/// Goal: administration through any server, seen through all within a second, and entered in one trail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_is_everywhere() {
    let fleet = Fleet::start(3, 1).await;
    for number in 0..9 {
        fleet.server(number % 3).set(&format!("k{number}"), vec![in_flight(1)]).await;
    }
    let declared = fleet.server(0).declare(budget("k0", vec![in_flight(5)])).await;
    let stale = permitd_proto::v1::Budget { etag: "another".to_owned(), ..budget("k0", vec![in_flight(6)]) };
    let refused = fleet.server(1).try_declare(stale).await.expect_err("another etag");
    assert_eq!(refused.code(), tonic::Code::Aborted);
    fleet.server(2).pause("k0").await;
    for place in 0..3 {
        let server = fleet.server(place);
        let state = server.state("k0").await;
        assert!(state.paused && state.budget.expect("the budget").etag == declared.etag);
        let list = ListBudgetsRequest { page_size: 4, ..ListBudgetsRequest::default() };
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let page =
                server.admin().await.list_budgets(ListBudgetsRequest { page_token, ..list.clone() }).await;
            let page = page.expect("a page").into_inner();
            names.extend(page.states.into_iter().map(|state| state.budget.expect("a budget").key));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, (0..9).map(|number| format!("k{number}")).collect::<Vec<_>>());
        until("the whole trail", async || {
            let changes = server.admin().await.list_changes(ListChangesRequest::default()).await;
            let changes = changes.expect("a trail").into_inner().changes;
            changes.len() == 11 && changes[0].what == "pause"
        })
        .await;
    }
    let server = fleet.server(1);
    let interval = span(Duration::from_millis(100));
    let mut admin = server.admin().await;
    let watched = admin.watch_budgets(WatchBudgetsRequest { interval, ..WatchBudgetsRequest::default() });
    let mut watched = watched.await.expect("a watch").into_inner();
    let first = soon("a snapshot", watched.message()).await.expect("open").expect("a message");
    assert_eq!(first.states.len(), 9);
    let gone = DeleteBudgetRequest { provider: "p".to_owned(), key: "k3".to_owned(), etag: String::new() };
    fleet.server(0).admin().await.delete_budget(gone).await.expect("deleted");
    let next = soon("what changed", watched.message()).await.expect("open").expect("a message");
    let budget = next.states[0].budget.clone().expect("a budget");
    assert_eq!((budget.key.as_str(), budget.etag.as_str()), ("k3", ""), "gone");
    until("the end of the budget everywhere", async || fleet.server(2).try_state("k3").await.is_err()).await;
}

/// Goal: a server that stops gives its budgets away to the unit, with their permits, and nobody has to wait for a lease to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_hands_over() {
    let fleet = Fleet::start(2, 1).await;
    let limits = vec![permitd_tests::rate("requests", 100, permitd_tests::DAY), in_flight(9)];
    fleet.server(0).set("k", limits).await;
    fleet.is_known("k").await;
    let owner = fleet.owned("k").await;
    let (stops, stays) = (fleet.server(owner), fleet.server(1 - owner));
    let mut permits = Vec::new();
    for _ in 0..5 {
        permits.push(stays.granted(ask("k")).await);
    }
    // Somebody waits at the server that stays for what the one that stops owns.
    let many = AcquireRequest { count: 5, ..ask("k") };
    let (mut waiting, _) = stays.waiting(many).await;
    for _ in 0..4 {
        waiting.permit().await;
    }
    stops.terminate();
    until("the other to own the budget", async || fleet.owner("k").await == Some(1 - owner)).await;
    let state = stays.state("k").await;
    assert_eq!((state.in_flight, stays.level("k", "requests").await), (9, 91), "to the unit");
    assert!(stays.report(report(&permits[0].permit_id, Outcome::Cancelled)).await.settled);
    waiting.permit().await;
    assert_eq!(stays.level("k", "requests").await, 91);
    for permit in &permits[1..] {
        assert!(stays.report(success(&permit.permit_id)).await.settled);
    }
}
