//! Tenants that are held to a part of every limit, or guaranteed one (12).

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, Budget, Limit, LimitState, Priority, SetBudgetRequest, Tenant};
use permitd_tests::{DAY, Server, ask, budget, facts, in_flight, rate, tokens, until};
use tonic::Code;

use crate::support::{NOT_IN_TIME, tenant};

/// A budget of which `nightly` may have so many per cent.
fn capped(max_percent: u32) -> Budget {
    let nightly = Tenant { max_percent, ..Tenant::default() };
    Budget {
        tenants: [("nightly".to_owned(), nightly)].into(),
        ..budget("k", vec![rate("input_tokens", 100, DAY), in_flight(8)])
    }
}

/// What is shown of `nightly`'s own limits.
async fn parts(server: &Server) -> Vec<LimitState> {
    let mut limits = server.state("k").await.limits;
    limits.retain(|limit| limit.configured.as_ref().is_some_and(|limit| limit.tenants == "nightly"));
    limits
}

/// Goal (12): a tenant gets its part and no more though the rest is idle, is told what holds it, and holds up nobody.
#[tokio::test]
async fn s12_a_part_is_all_that_a_tenant_gets() {
    let server = Server::start().await;
    server.declare(capped(50)).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(server.granted_now(tenant("nightly", ask("k"))).await);
    }
    let (mut stuck, place) = server.waiting(tenant("nightly", ask("k"))).await;
    assert_eq!(place.held_by, "in_flight tenant=nightly");
    for _ in 0..4 {
        server.granted_now(tenant("web", ask("k"))).await;
    }
    let state = parts(&server).await;
    let seen: Vec<_> = state.iter().map(|limit| (limit.effective_amount, &*limit.source)).collect();
    assert_eq!(seen, [(50, "admin"), (4, "admin")], "shown as what it is");
    server.settle(&held[0]).await;
    stuck.permit().await;
    server.stop().await;
}

/// Goal (12): a part can be changed live, both ways; what can never fit into it is refused with its name.
#[tokio::test]
async fn s12_parts_change_live() {
    let server = Server::start().await;
    server.declare(capped(40)).await;
    let large = tenant("nightly", tokens("k", 41));
    let refused = server.refused(large.clone()).await;
    assert_eq!((refused.code, &*refused.reason), (Code::OutOfRange, "LARGER_THAN_LIMIT"), "{refused:?}");
    assert!(refused.message.contains("input_tokens/1d tenant=nightly"), "{refused:?}");
    server.granted_now(tenant("web", tokens("k", 41))).await;
    server.declare(capped(50)).await;
    server.granted_now(large.clone()).await;
    let refused = server.refused_now(tenant("nightly", tokens("k", 12))).await;
    assert_eq!((refused.code, &*refused.reason), NOT_IN_TIME, "{refused:?}");
    server.declare(capped(0)).await;
    assert!(parts(&server).await.is_empty());
    server.granted_now(tenant("nightly", tokens("k", 12))).await;
    until("nobody waits", async || server.state("k").await.waiting == 0).await;
    server.stop().await;
}

/// Goal (12): a guaranteed part goes before classes and weights, once its tenant asks; until then, others have it.
#[tokio::test]
async fn s12_a_guarantee_goes_first() {
    let server = Server::start().await;
    let web = Tenant { min_percent: 50, ..Tenant::default() };
    let declared = Budget { tenants: [("web".to_owned(), web)].into(), ..budget("k", vec![in_flight(4)]) };
    server.declare(declared).await;
    let interactive =
        || AcquireRequest { priority: Priority::Interactive.into(), ..tenant("other", ask("k")) };
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(server.granted_now(interactive()).await);
    }
    let (mut first, _) = server.waiting(interactive()).await;
    let batch = || AcquireRequest { priority: Priority::Batch.into(), ..tenant("web", ask("k")) };
    let (mut one, _) = server.waiting(batch()).await;
    let (mut two, _) = server.waiting(batch()).await;
    let (_three, _) = server.waiting(batch()).await;
    server.settle(&held[0]).await;
    one.permit().await;
    server.settle(&held[1]).await;
    two.permit().await;
    // It has its half now, and waits for its turn like everybody: of two more slots it gets one at most.
    server.settle(&held[2]).await;
    server.settle(&held[3]).await;
    first.permit().await;
    server.stop().await;
}

/// Goal: parts that make no sense are refused with their field.
#[tokio::test]
async fn s12_parts_make_sense() {
    let server = Server::start().await;
    let own = Limit { tenants: "nightly".to_owned(), ..rate("requests", 5, DAY) };
    let shared = rate("requests", 9, DAY);
    let many = (0..70).map(|number| rate("requests", 9, Duration::from_secs(60 + number))).collect();
    let cases = [
        (capped(101), "budget.tenants[nightly].max_percent", "at most 100"),
        (
            Budget { limits: vec![shared, own], ..capped(30) },
            "budget.tenants[nightly].max_percent",
            "limits[1]",
        ),
        (Budget { limits: many, ..capped(30) }, "budget.tenants", "at most 128"),
        (
            Budget {
                tenants: [("each".to_owned(), Tenant { max_percent: 3, ..Tenant::default() })].into(),
                ..capped(0)
            },
            "budget.tenants[each].max_percent",
            "another name",
        ),
    ];
    let guaranteed = |percents: &[u32]| {
        let tenants = percents.iter().enumerate();
        let tenants = tenants
            .map(|(at, percent)| (format!("t{at}"), Tenant { min_percent: *percent, ..Tenant::default() }));
        Budget { tenants: tenants.collect(), ..capped(0) }
    };
    let nightly = Tenant { max_percent: 30, min_percent: 31, ..Tenant::default() };
    let guarantees = [
        (guaranteed(&[91]), "budget.tenants[t0].min_percent", "at most 90"),
        (guaranteed(&[50, 41]), "budget.tenants[t1].min_percent", "at most 90"),
        (
            Budget { tenants: [("nightly".to_owned(), nightly)].into(), ..capped(0) },
            "budget.tenants[nightly].min_percent",
            "at most",
        ),
    ];
    for (declared, field, says) in cases.into_iter().chain(guarantees) {
        let request = SetBudgetRequest { budget: Some(declared), ..Default::default() };
        let refused = server.admin().await.set_budget(request).await.expect_err(field);
        let refused = facts(&refused);
        assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
        assert!(refused.names(field) && refused.message.contains(says), "{field}: {refused:?}");
    }
    server.stop().await;
}
