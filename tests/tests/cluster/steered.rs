//! Servers and owners, seen and steered by people.

use std::collections::BTreeSet;

use permitd_proto::v1::{
    AcquireRequest, Change, ClusterMember, DrainServerRequest, GetClusterRequest, GetClusterResponse,
    ListChangesRequest, MoveBudgetRequest,
};
use permitd_tests::{
    DAY, Facts, Peer, Permitd, Session, ask, facts, hello, http_get, in_flight, rate, soon, success, until,
};
use tonic::{Code, Status};

use crate::fleet::Fleet;

async fn told(peer: &Peer) -> GetClusterResponse {
    let answer = soon("the cluster", peer.cluster().await.get_cluster(GetClusterRequest {})).await;
    answer.expect("one of several").into_inner()
}

async fn member(peer: &Peer, name: &str) -> ClusterMember {
    let members = told(peer).await.members;
    members.into_iter().find(|member| member.name == name).expect("a member")
}

async fn moved(peer: &Peer, key: &str, server: &str) -> Result<String, Status> {
    let (provider, key, server) = ("p".to_owned(), key.to_owned(), server.to_owned());
    let request = MoveBudgetRequest { provider, key, server };
    let answer = soon("a moved budget", peer.cluster().await.move_budget(request)).await;
    answer.map(|answer| answer.into_inner().owner)
}

async fn drained(peer: &Peer, server: &str, undo: bool) -> Result<(), Status> {
    let request = DrainServerRequest { server: server.to_owned(), undo };
    soon("a drained server", peer.cluster().await.drain_server(request)).await.map(drop)
}

/// What was changed, the newest first, as a server knows it.
async fn changes(peer: &Peer, of: ListChangesRequest) -> Vec<Change> {
    let answer = soon("the trail", peer.admin().await.list_changes(of)).await;
    answer.expect("a trail").into_inner().changes
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Facts {
    facts(&answer.expect_err("refused"))
}

/// Goal: a budget that is moved goes to the unit, with its permits and whoever waits, and stays; everybody says who owns it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_moved() {
    let fleet = Fleet::start(3, 1).await;
    fleet.server(0).set("k", vec![rate("requests", 100, DAY), in_flight(3)]).await;
    fleet.is_known("k").await;
    let owner = fleet.owned("k").await;
    let (to, asked) = ((owner + 1) % 3, fleet.server((owner + 2) % 3));
    let name = fleet.server(to).address.to_string();
    let held = asked.granted(ask("k")).await;
    // One who waits at a server that has nothing to do with the move.
    let (mut waiting, _) = asked.waiting(AcquireRequest { count: 3, ..ask("k") }).await;
    for _ in 0..2 {
        waiting.permit().await;
    }

    assert_eq!(moved(&asked, "k", &name).await.expect("moved"), name);
    for place in 0..3 {
        let state = fleet.server(place).state("k").await;
        assert_eq!((state.owner, state.in_flight), (name.clone(), 3), "by server {place}");
    }
    assert_eq!(asked.level("k", "requests").await, 97, "to the unit");
    assert!(asked.report(success(&held.permit_id)).await.settled);
    waiting.permit().await;
    until("every server to count it", async || member(&asked, &name).await.owned_budgets == 1).await;

    assert_eq!(moved(&asked, "k", "").await.expect("anywhere"), name, "it moves when there is a reason");
}

/// Goal: a permit of a budget that moved is over for its session once it is reported: it is not sent again when the session resumes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reported_elsewhere_is_over() {
    let fleet = Fleet::start(2, 1).await;
    fleet.server(0).set("k", vec![in_flight(3)]).await;
    fleet.is_known("k").await;
    let owner = fleet.owned("k").await;
    let (here, other) = (fleet.server(owner), fleet.server(1 - owner).address.to_string());
    let mut session = Session::open(here.channel().await, hello("goes on")).await;
    session.ask(1, ask("k")).await;
    let permit = session.permit(1).await;
    assert_eq!(moved(&here, "k", &other).await.expect("moved"), other);
    session.settle(&permit).await;
    session.reset().await;

    let mut session = Session::open(here.channel().await, hello("goes on")).await;
    session.barrier().await;
    assert!(session.welcome.resumed && session.granted.is_empty(), "{:?}", session.granted);
}

/// Goal: a drained server owns nothing and takes nothing, and answers all the same; undone, it has again what was moved to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_drained() {
    let fleet = Fleet::start(2, 1).await;
    let (drains, stays) = (fleet.server(0), fleet.server(1));
    let names = [&drains, &stays].map(|server| server.address.to_string());
    for key in ["a", "b", "c", "d"] {
        drains.set(key, vec![rate("requests", 10, DAY)]).await;
        fleet.is_known(key).await;
    }
    moved(&stays, "a", &names[0]).await.expect("moved");
    drains.granted(ask("a")).await;

    // Through the other server: it is passed on.
    drained(&stays, &names[0], false).await.expect("drained");
    for server in [&drains, &stays] {
        until("nothing at the drained server", async || {
            let member = member(server, &names[0]).await;
            member.drained && member.owned_budgets == 0
        })
        .await;
        until("everything at the other", async || member(server, &names[1]).await.owned_budgets == 4).await;
    }
    assert_eq!(drains.state("a").await.owner, names[1]);
    assert_eq!(drains.level("a", "requests").await, 9);
    drains.granted(ask("b")).await;
    drains.set("e", vec![in_flight(1)]).await;
    assert_eq!(drains.state("e").await.owner, names[1], "what is new is the other's, too");

    let last = refused(drained(&drains, &names[1], false).await);
    assert_eq!((last.code, last.reason.as_str()), (Code::FailedPrecondition, "SERVER_DRAINED"));
    let away = refused(moved(&stays, "b", &names[0]).await);
    assert_eq!((away.code, away.reason.as_str()), (Code::FailedPrecondition, "SERVER_DRAINED"));

    drained(&stays, &names[0], true).await.expect("undone");
    until("what was moved to it", async || stays.state("a").await.owner == names[0]).await;
    assert_eq!(stays.level("a", "requests").await, 9);
}

/// Goal: who steered what is in the audit trail of every server: a budget with what is declared of it, a server without any; and what was
/// refused is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_steered_is_remembered() {
    let fleet = Fleet::start(2, 1).await;
    let (one, other) = (fleet.server(0), fleet.server(1));
    let names = [&one, &other].map(|server| server.address.to_string());
    one.set("k", vec![in_flight(1)]).await;
    fleet.is_known("k").await;
    moved(&one, "k", &names[1]).await.expect("moved");
    moved(&other, "k", "nobody").await.expect_err("there is no such server");
    moved(&other, "k", "").await.expect("anywhere");
    drained(&one, &names[1], false).await.expect("drained");
    drained(&other, &names[0], false).await.expect_err("nobody is left");
    drained(&other, &names[1], true).await.expect("undone");

    let wanted =
        [("undrain", &*names[1]), ("drain", &names[1]), ("move", ""), ("move", &names[1]), ("set", "")];
    for server in [&one, &other] {
        until("the whole trail", async || {
            let told = changes(server, ListChangesRequest::default()).await;
            told.iter().map(|change| (&*change.what, &*change.server)).eq(wanted)
        })
        .await;
        let of_budget = ListChangesRequest { key: "k".to_owned(), ..ListChangesRequest::default() };
        let told = changes(server, of_budget).await;
        assert_eq!(told.iter().map(|change| &*change.what).collect::<Vec<_>>(), ["move", "move", "set"]);
        assert!(told.iter().all(|change| change.who == "loopback"));
        assert_eq!(told[0].before, told[0].after, "a budget is moved as it is");
        assert_eq!(told[0].after.as_ref().map(|budget| &*budget.key), Some("k"));
    }
}

/// Goal: what can't be steered is refused with what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused() {
    let fleet = Fleet::start(1, 1).await;
    let server = fleet.server(0);
    server.set("k", vec![in_flight(1)]).await;
    let name = server.address.to_string();
    for answer in [moved(&server, "k", "nobody").await.map(drop), drained(&server, "nobody", false).await] {
        let facts = refused(answer);
        assert_eq!((facts.code, facts.reason.as_str()), (Code::NotFound, "SERVER_UNKNOWN"));
        assert!(facts.message.contains("\"nobody\""), "{}", facts.message);
    }
    assert_eq!(refused(moved(&server, "nobody declared", &name).await).code, Code::NotFound);
    assert_eq!(refused(drained(&server, &name, false).await).reason, "SERVER_DRAINED", "the only one");
    assert_eq!(server.state("k").await.owner, name);

    let alone = Permitd::start("").await;
    alone.set("k", vec![in_flight(1)]).await;
    assert_eq!(alone.state("k").await.owner, "");
    let seen = alone.cluster().await.get_cluster(GetClusterRequest {}).await.map(drop);
    for answer in [seen, moved(&alone, "k", &name).await.map(drop), drained(&alone, &name, false).await] {
        let facts = refused(answer);
        assert_eq!((facts.code, facts.reason.as_str()), (Code::FailedPrecondition, "NOT_CLUSTERED"));
    }
    alone.stop().await;
}

/// Goal: cluster.md has exactly the metrics of clusters that a server serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_those_served() {
    let fleet = Fleet::start(1, 1).await;
    let server = fleet.server(0);
    server.set("k", vec![in_flight(1)]).await;
    let served = http_get(server.http, "/metrics", None).await;
    let of_clusters = |text: &str, before: &str| -> BTreeSet<String> {
        let starts = text.lines().filter_map(|line| line.strip_prefix(before));
        starts
            .filter(|rest| rest.starts_with("permitd_cluster_"))
            .filter_map(|rest| rest.split([' ', '`']).next().map(str::to_owned))
            .collect()
    };
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cluster.md");
    let told = of_clusters(&std::fs::read_to_string(docs).expect("docs"), "| `");
    assert_eq!(told, of_clusters(&served, ""));
    for line in ["permitd_cluster_members 1", "permitd_cluster_leased 1", "permitd_cluster_owned_budgets 1"] {
        assert!(served.lines().any(|served| served == line), "{line} is missing in\n{served}");
    }
}

/// Goal: a budget that was declared at one server a moment ago is found by every other, though nobody has told it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_budget_is_found_at_once() {
    let fleet = Fleet::start(3, 1).await;
    for number in 0..30 {
        let key = format!("k{number}");
        fleet.server(number % 3).set(&key, vec![in_flight(2)]).await;
        fleet.server((number + 1) % 3).granted(ask(&key)).await;
        let mut session = fleet.server((number + 2) % 3).session("").await;
        session.ask(1, ask(&key)).await;
        session.permit(1).await;
    }
    let unknown = fleet.server(0).refused(ask("nobody declared")).await;
    assert_eq!(unknown.code, Code::NotFound);
}

/// Goal: of servers that are all told to drain at once, one goes on taking budgets and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stays() {
    let fleet = Fleet::start(2, 1).await;
    let (one, other) = (fleet.server(0), fleet.server(1));
    one.set("k", vec![rate("requests", 10, DAY)]).await;
    fleet.is_known("k").await;
    let names = [&one, &other].map(|server| server.address.to_string());
    let (first, second) = tokio::join!(drained(&one, &names[0], false), drained(&other, &names[1], false));
    let refused = [first, second].into_iter().filter_map(Result::err).map(|status| facts(&status).reason);
    let refused: Vec<String> = refused.collect();
    assert!(!refused.is_empty() && refused.iter().all(|reason| reason == "SERVER_DRAINED"), "{refused:?}");
    until("a budget that somebody has", async || one.try_granted_now(ask("k")).await.is_ok()).await;
}
