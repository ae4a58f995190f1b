//! Who comes first: queues, classes, tenants, places (1, 11, 12, 14).

use std::{collections::HashMap, time::Duration};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Outcome, Permit, Priority, ReportRequest, Tenant};
use permitd_tests::{
    DAY, HOUR, Server, Session, ask, budget, hello, in_flight, rate, report, span, tokens, until,
};
use tonic::Code;

use crate::support::{model, tenant};

/// Settles one after the other, and says in which order the calls were granted.
async fn order(server: &Server, holder: Permit, calls: usize, session: &mut Session) -> Vec<u64> {
    let mut order = Vec::with_capacity(calls);
    let mut held = holder;
    while order.len() < calls {
        server.settle(&held).await;
        let granted = session.next_granted().await;
        order.push(granted.request_id);
        held = granted.permit.expect("a permit");
    }
    order
}

/// Goal (1): within a tenant and a set of limits, whoever asked first is served first.
#[tokio::test]
async fn s01_first_in_first_out() {
    let server = Server::with(vec![in_flight(1), rate("tokens", 1_000_000, DAY)]).await;
    let holder = server.granted_now(ask("k")).await;
    let mut session = server.session("").await;
    for id in 1..=20 {
        session.ask(id, tokens("k", id * 7 % 13)).await;
    }
    until("all wait", async || server.state("k").await.waiting == 20).await;
    assert_eq!(order(&server, holder, 20, &mut session).await, (1..=20).collect::<Vec<_>>());
    server.stop().await;
}

/// Goal (1): a request for another model passes, even within one tenant.
#[tokio::test]
async fn s01_another_model_passes() {
    let slow = Limit { models: "slow-*".to_owned(), ..rate("requests", 1, DAY) };
    let server = Server::with(vec![slow, rate("requests", 1_000, DAY)]).await;
    server.granted_now(model("slow-1", ask("k"))).await;
    let (mut stuck, place) = server.waiting(model("slow-2", ask("k"))).await;
    assert_eq!(place.held_by, "requests/1d model=slow-*");
    for _ in 0..3 {
        server.granted_now(model("fast", ask("k"))).await;
    }
    server
        .admin()
        .await
        .delete_budget(permitd_proto::v1::DeleteBudgetRequest {
            provider: "p".to_owned(),
            key: "k".to_owned(),
            etag: String::new(),
        })
        .await
        .expect("deleted");
    assert_eq!(stuck.refusal().await.says(), (Code::NotFound, "BUDGET_DELETED"), "it still waited");
    server.stop().await;
}

/// Goal (11): positions count those who are expected to be served before, in the order of the queue.
#[tokio::test]
async fn s11_positions() {
    let server = Server::with(vec![in_flight(1)]).await;
    let _held = server.granted_now(ask("k")).await;
    let mut session = server.session("").await;
    for id in 1..=3 {
        session.ask(id, ask("k")).await;
        let place = session.place(id).await;
        assert_eq!((u64::from(place.position), place.held_by.as_str()), (id - 1, "in_flight"));
    }
    session.cancel(1).await;
    assert_eq!(session.place(3).await.position, 1, "told when the place changes");
    server.stop().await;
}

/// Goal (11): a light tenant with nothing ahead of it is not behind all that a greedy one has waiting.
#[tokio::test]
async fn s11_positions_follow_the_tags() {
    let server = Server::with(vec![in_flight(1), rate("requests", 1_000, DAY)]).await;
    let _held = server.granted_now(tenant("greedy", ask("k"))).await;
    let mut session = server.session("").await;
    for id in 1..=50 {
        session.ask(id, tenant("greedy", ask("k"))).await;
    }
    session.ask(51, tenant("light", ask("k"))).await;
    let place = session.place(51).await;
    assert!(place.position <= 2, "fair order, not arrival: {}", place.position);
    server.stop().await;
}

/// Goal (11): `held_by` says what binds, as unit and window with globs, `in_flight`, `frozen` or `paused`.
#[tokio::test]
async fn s11_held_by() {
    let server = Server::start().await;
    let held_by = async |limits: Vec<Limit>, first: AcquireRequest, next: AcquireRequest| {
        server.set("k", limits).await;
        server.granted_now(first).await;
        let (_call, place) = server.waiting(next).await;
        let delete = permitd_proto::v1::DeleteBudgetRequest {
            provider: "p".to_owned(),
            key: "k".to_owned(),
            ..Default::default()
        };
        server.admin().await.delete_budget(delete).await.expect("deleted");
        (place.held_by, place.estimated_wait)
    };
    let opus = Limit { models: "claude-opus-*".to_owned(), ..rate("input_tokens", 10, DAY) };
    let each = Limit { tenants: "each".to_owned(), ..rate("requests", 1, HOUR) };
    let web = Limit { tenants: "web-*".to_owned(), ..rate("requests", 1, Duration::from_millis(3_600_500)) };
    let ten = || model("claude-opus-4", tokens("k", 10));
    let cases = [
        (vec![opus], ten(), ten(), "input_tokens/1d model=claude-opus-*"),
        (vec![each], ask("k"), ask("k"), "requests/1h tenant=each"),
        (vec![web], tenant("web-1", ask("k")), tenant("web-2", ask("k")), "requests/3600500ms tenant=web-*"),
        (vec![in_flight(1)], ask("k"), ask("k"), "in_flight"),
        (vec![in_flight(5), rate("requests", 1, DAY)], ask("k"), ask("k"), "requests/1d"),
    ];
    for (limits, first, next, expected) in cases {
        let (seen, wait) = held_by(limits, first, next).await;
        assert_eq!(seen, expected);
        assert_eq!(wait.is_some(), expected != "in_flight", "a wait is told where it is known: {expected}");
    }

    server.set("k", vec![rate("requests", 100, DAY)]).await;
    let permit = server.granted_now(ask("k")).await;
    let limited =
        ReportRequest { retry_after: span(HOUR), ..report(&permit.permit_id, Outcome::RateLimited) };
    server.report(limited).await;
    let (_frozen, place) = server.waiting(ask("k")).await;
    assert_eq!(place.held_by, "frozen");
    server.pause("k").await;
    let (_paused, place) = server.waiting(ask("k")).await;
    assert_eq!((place.held_by.as_str(), place.estimated_wait), ("paused", None));
    server.stop().await;
}

/// The limits under which classes and tenants are judged: a slot alone, and a slot together with a rate.
fn contended() -> [Vec<Limit>; 2] {
    [vec![in_flight(1)], vec![in_flight(1), rate("requests", 1_000_000, DAY)]]
}

/// Goal (12): classes are served 16 : 4 : 1 while all of them wait, and none starves.
#[tokio::test]
async fn s12_classes_weigh() {
    for limits in contended() {
        let server = Server::with(limits.clone()).await;
        let holder = server.granted_now(ask("k")).await;
        let mut session = server.session("").await;
        let classes = [Priority::Batch, Priority::Unspecified, Priority::Interactive];
        for (class, priority) in (0_u64..).zip(classes) {
            let request = AcquireRequest { priority: priority.into(), ..ask("k") };
            for n in 0..60 {
                session.ask(class * 1_000 + n, request.clone()).await;
            }
        }
        until("all wait", async || server.state("k").await.waiting == 180).await;
        let mut served = [0_i32; 3];
        for id in order(&server, holder, 63, &mut session).await {
            served[usize::try_from(id / 1_000).expect("a class")] += 1;
        }
        for (seen, expected) in served.into_iter().zip([3, 12, 48]) {
            assert!((seen - expected).abs() <= 2, "batch, standard, interactive: {served:?} with {limits:?}");
        }
        server.stop().await;
    }
}

/// Goal (12): tenants share by weight, 0 means 1, and who asks more does not get more.
#[tokio::test]
async fn s12_tenants_weigh() {
    for limits in contended() {
        let server = Server::start().await;
        let tenants = [("heavy", 3), ("zero", 0)];
        let tenants = tenants.map(|(name, weight)| (name.to_owned(), Tenant { weight, ..Tenant::default() }));
        server.declare(Budget { tenants: tenants.into(), ..budget("k", limits.clone()) }).await;
        let holder = server.granted_now(ask("k")).await;
        let mut session = server.session("").await;
        let asking = [("heavy", 100), ("zero", 100), ("undeclared", 30)];
        for (number, (name, requests)) in (0_u64..).zip(asking) {
            for n in 0..requests {
                session.ask(number * 1_000 + n, tenant(name, ask("k"))).await;
            }
        }
        until("all wait", async || server.state("k").await.waiting == 230).await;
        let mut served = [0_i32; 3];
        for id in order(&server, holder, 100, &mut session).await {
            served[usize::try_from(id / 1_000).expect("a tenant")] += 1;
        }
        for (seen, expected) in served.into_iter().zip([60, 20, 20]) {
            assert!((seen - expected).abs() <= 2, "3 : 1 : 1, not {served:?} with {limits:?}");
        }
        server.stop().await;
    }
}

/// Goal (12): classes come before tenants: one tenant's batch work does not take the place of another's interactive work.
#[tokio::test]
async fn s12_classes_first() {
    let server = Server::with(vec![in_flight(1), rate("requests", 1_000_000, DAY)]).await;
    let holder = server.granted_now(tenant("other", ask("k"))).await;
    let mut session = server.session("").await;
    for n in 0..64 {
        let one = AcquireRequest { priority: Priority::Batch.into(), ..tenant("nightly", ask("k")) };
        session.ask(n, one).await;
        let other = AcquireRequest { priority: Priority::Interactive.into(), ..tenant("web", ask("k")) };
        session.ask(1_000 + n, other).await;
    }
    until("all wait", async || server.state("k").await.waiting == 128).await;
    let served = order(&server, holder, 51, &mut session).await;
    let batch = served.iter().filter(|id| **id < 1_000).count();
    assert!((2..=5).contains(&batch), "16 : 1, so 3 of 51, not {batch}");
    server.stop().await;
}

/// Goal (14): the tenant is the request's, else the Hello's, else "default".
#[tokio::test]
async fn s14_whose_request_it_is() {
    let server = Server::with(vec![rate("requests", 100, DAY)]).await;
    server.granted_now(ask("k")).await;
    server.granted_now(tenant("mine", ask("k"))).await;
    let greeting = permitd_proto::v1::Hello { tenant: "ours".to_owned(), ..hello("") };
    let mut session = Session::open(server.channel().await, greeting).await;
    session.ask(1, ask("k")).await;
    session.permit(1).await;
    session.ask(2, tenant("mine", ask("k"))).await;
    session.permit(2).await;
    let tenants = server.state("k").await.tenants;
    let granted: HashMap<_, _> =
        tenants.iter().map(|tenant| (tenant.tenant.as_str(), tenant.granted_total)).collect();
    assert_eq!(granted, HashMap::from([("default", 1), ("mine", 2), ("ours", 1)]));
    server.stop().await;
}
