//! What is told of pools, and of budgets that are members of some.

use permitd_proto::v1::{ExplainBudgetRequest, ExplainBudgetResponse, ListPoolsRequest};
use permitd_server::shown::member_now;
use permitd_tests::{Peer, ask, http_get, soon, tokens};

use crate::{IN_ORDER, pool, standing, start};

async fn explained(server: &Peer, key: &str) -> ExplainBudgetResponse {
    let request = ExplainBudgetRequest { provider: "p".to_owned(), key: key.to_owned() };
    soon("an answer", server.admin().await.explain_budget(request)).await.expect("there is one").into_inner()
}

/// The members of `p/any`: of which limit least is left, how much of how much, and who is next.
async fn told(server: &Peer) -> Vec<(String, i64, u64, bool)> {
    let members = standing(server).await.members.into_iter();
    let told = members.map(|member| {
        let tightest = member.tightest.expect("it has limits");
        let unit = tightest.configured.expect("it is declared").unit;
        (unit, tightest.level, tightest.effective_amount, member.next)
    });
    told.collect()
}

/// Goal: of each member is told what it could serve, by the limit of which least is left, and which of them is next; that goes by
/// preference and by who can grant.
#[tokio::test]
async fn members_say_what_they_could_serve() {
    let limits = ["in_flight=2\", \"requests=9/1d", "in_flight=1", "requests=5/1d"];
    let server = start(&pool(limits, IN_ORDER)).await;
    let row = |unit: &str, level, amount, next| (unit.to_owned(), level, amount, next);
    assert_eq!(
        told(&server).await,
        [row("in_flight", 2, 2, true), row("in_flight", 1, 1, false), row("requests", 5, 5, false)]
    );
    server.granted_now(ask("any")).await;
    assert_eq!(told(&server).await[0], row("in_flight", 1, 2, true));
    server.granted_now(ask("any")).await;
    assert_eq!(told(&server).await[..2], [row("in_flight", 0, 2, false), row("in_flight", 1, 1, true)]);
    server.granted_now(ask("any")).await;
    assert_eq!(told(&server).await[2], row("requests", 5, 5, true));
    server.pause("c").await;
    assert!(told(&server).await.iter().all(|member| !member.3), "nobody can grant");
    server.stop().await;
}

/// Goal: a budget says which pools it is a member of, and whether they pass it over; one that is in none says nothing of that.
#[tokio::test]
async fn budgets_say_where_they_are_members() {
    let other = "[pools.\"q/some\"]\nmembers = [\"p/b\"]\n[budgets.\"p/d\"]\nlimits = [\"in_flight=1\"]\n";
    let server = start(&format!("{}{other}", pool(["in_flight=1"; 3], IN_ORDER))).await;
    let told = async |key: &str| {
        let told = explained(&server, key).await;
        let finding = told.findings.into_iter().find(|finding| finding.text.contains("member"));
        let pools: Vec<_> = told.pools.iter().map(|pool| format!("{}/{}", pool.provider, pool.key)).collect();
        (pools.join(" "), finding.map(|finding| (finding.text, finding.command)))
    };
    let said = |text: &str, command: &str| Some((text.to_owned(), command.to_owned()));
    let get = "permitd pools get p/any";
    assert_eq!(told("a").await, ("p/any".to_owned(), said("It is a member of the pool p/any.", get)));
    let permit = server.granted_now(ask("any")).await;
    let over = "It is a member of the pool p/any, which passes it over now.";
    assert_eq!(told("a").await.1, said(over, get));
    server.settle(&permit).await;
    let many = "It is a member of the pools p/any and q/some.";
    assert_eq!(told("b").await, ("p/any q/some".to_owned(), said(many, "permitd pools list p/b")));
    assert_eq!(told("d").await, (String::new(), None));
    server.stop().await;
}

/// Goal: a pool is found by its own name and by that of any member.
#[tokio::test]
async fn pools_are_found_by_their_members() {
    let other = "[pools.\"q/some\"]\nmembers = [\"p/b\"]\n";
    let server = start(&format!("{}{other}", pool(["in_flight=1"; 3], IN_ORDER))).await;
    for (filter, found) in
        [("", "any some"), ("p/b", "any some"), ("p/c", "any"), ("q/*", "some"), ("x*", "")]
    {
        let request = ListPoolsRequest { filter: filter.to_owned(), ..ListPoolsRequest::default() };
        let pools =
            soon("pools", server.admin().await.list_pools(request)).await.expect("listed").into_inner().pools;
        let keys: Vec<_> = pools.iter().map(|pool| &*pool.key).collect();
        assert_eq!(keys.join(" "), found, "{filter}");
    }
    server.stop().await;
}

/// Goal: a member with room for which somebody waits is not said to be next: whoever comes would wait behind them.
#[tokio::test]
async fn a_queue_is_told_of() {
    let server = start(&pool(["tokens=10/1d", "in_flight=1", "in_flight=1"], IN_ORDER)).await;
    server.granted_now(tokens("a", 6)).await;
    let next = async || {
        let members = standing(&server).await.members;
        members.into_iter().find(|member| member.next).map(|member| member.key)
    };
    assert_eq!(next().await.as_deref(), Some("a"));
    let (_waits, _) = server.waiting(tokens("a", 6)).await;
    let first = standing(&server).await.members.remove(0);
    assert_eq!((first.passed_over.len(), first.waiting), (0, 1));
    assert_eq!(member_now(&first), "has a queue");
    assert_eq!(next().await.as_deref(), Some("b"));
    server.stop().await;
}

/// Goal: metrics tell which member granted what, who waits, and which members are passed over for what.
#[tokio::test]
async fn metrics_tell_of_pools() {
    let limits = ["in_flight=1", "in_flight=1", "in_flight=1"];
    let server = start(&pool(limits, IN_ORDER)).await;
    let told = async |lines: &[&str]| {
        let text = http_get(server.http, "/metrics", None).await;
        for line in lines {
            assert!(text.lines().any(|told| told == *line), "{line} is not in\n{text}");
        }
    };
    server.pause("c").await;
    let first = server.granted_now(ask("any")).await;
    server.granted_now(ask("any")).await;
    let (mut waits, _) = server.waiting(ask("any")).await;
    told(&[
        "permitd_pool_grants_total{pool=\"p/any\",provider=\"p\",key=\"a\"} 1",
        "permitd_pool_grants_total{pool=\"p/any\",provider=\"p\",key=\"b\"} 1",
        "permitd_pool_grants_total{pool=\"p/any\",provider=\"p\",key=\"c\"} 0",
        "permitd_pool_passed_over_total{pool=\"p/any\",provider=\"p\",key=\"a\"} 2",
        "permitd_pool_passed_over_total{pool=\"p/any\",provider=\"p\",key=\"b\"} 1",
        "permitd_pool_member_passed_over{pool=\"p/any\",provider=\"p\",key=\"a\",reason=\"limit\"} 1",
        "permitd_pool_member_passed_over{pool=\"p/any\",provider=\"p\",key=\"a\",reason=\"paused\"} 0",
        "permitd_pool_member_passed_over{pool=\"p/any\",provider=\"p\",key=\"c\",reason=\"paused\"} 1",
        "permitd_pool_member_passed_over{pool=\"p/any\",provider=\"p\",key=\"c\",reason=\"limit\"} 0",
        "permitd_pool_waiting{pool=\"p/any\"} 1",
    ])
    .await;
    server.settle(&first).await;
    waits.permit().await;
    server.refused_now(ask("any")).await;
    told(&[
        "permitd_pool_grants_total{pool=\"p/any\",provider=\"p\",key=\"a\"} 2",
        "permitd_pool_waiting{pool=\"p/any\"} 0",
        "permitd_pool_refusals_total{pool=\"p/any\",reason=\"NOT_IN_TIME\"} 1",
    ])
    .await;
    server.stop().await;
}
