//! Limits that are tried out: shadow mode.

use permitd_proto::v1::{Budget, ExplainBudgetRequest};
use permitd_tests::{DAY, Server, ask, budget, facts, http_get, in_flight, rate, tokens, until};
use tonic::Code;

use crate::support::tenant;

fn tried_out(shadow: bool) -> Budget {
    Budget { shadow, ..budget("k", vec![rate("requests", 3, DAY), rate("tokens", 100, DAY)]) }
}

/// Goal: in shadow mode everybody is granted at once, and what the limits would have done is told in the state, in words and in
/// metrics; turned off, the limits are in force with all that was used.
#[tokio::test]
async fn limits_in_shadow_mode_hold_nobody() {
    let server = Server::start().await;
    server.declare(tried_out(true)).await;
    for _ in 0..5 {
        server.granted(tenant("web", ask("k"))).await;
    }
    server.granted(tenant("web", tokens("k", 101))).await;
    let state = server.state("k").await;
    let would = state.shadow.expect("it is in shadow mode");
    assert_eq!((state.waiting, state.granted_total, state.refused_total), (0, 6, 0));
    assert_eq!((would.granted_total, would.waiting, would.in_flight, would.refused_total), (3, 2, 3, 1));
    assert_eq!(would.refused.get("LARGER_THAN_LIMIT"), Some(&1), "{would:?}");
    let level = state.limits[0].level;
    assert_eq!(level, -3, "what was used counts");

    let request = ExplainBudgetRequest { provider: "p".to_owned(), key: "k".to_owned() };
    let told = server.admin().await.explain_budget(request).await.expect("explained").into_inner();
    let text = &told.findings[0].text;
    assert!(text.starts_with("Shadow mode: everybody is granted at once."), "{text}");
    assert!(text.contains("refused 1 request (1 LARGER_THAN_LIMIT); 2 would wait now"), "{text}");
    assert!(told.findings[1].text.starts_with("web: 2 requests would wait, "), "{:?}", told.findings);
    let metrics = http_get(server.http, "/metrics", None).await;
    for line in [
        "permitd_shadow_grants_total{provider=\"p\",key=\"k\"} 3",
        "permitd_shadow_waiting{provider=\"p\",key=\"k\"} 2",
        "permitd_shadow_refusals_total{provider=\"p\",key=\"k\",reason=\"LARGER_THAN_LIMIT\"} 1",
        "permitd_shadow_wait_seconds_count{provider=\"p\",key=\"k\",priority=\"standard\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    server.declare(tried_out(false)).await;
    let (_stuck, place) = server.waiting(tenant("web", ask("k"))).await;
    assert_eq!(place.held_by, "requests/1d");
    assert!(server.state("k").await.shadow.is_none());
    // Turned on again, those who wait go.
    server.declare(tried_out(true)).await;
    until("nobody waits", async || server.state("k").await.waiting == 0).await;
    server.stop().await;
}

/// Goal: slots that calls would hold come back when they are reported, and whoever would have waited for one has it then.
#[tokio::test]
async fn calls_in_shadow_mode_end_when_they_end() {
    let server = Server::start().await;
    server.declare(Budget { shadow: true, ..budget("k", vec![in_flight(1)]) }).await;
    let first = server.granted(ask("k")).await;
    let second = server.granted(ask("k")).await;
    let would = server.state("k").await.shadow.expect("in shadow mode");
    assert_eq!((would.in_flight, would.waiting, would.waited_total), (1, 1, 0));
    server.settle(&first).await;
    let would = server.state("k").await.shadow.expect("in shadow mode");
    assert_eq!((would.in_flight, would.waiting, would.waited_total), (1, 0, 1));
    assert!(would.wait_longest == would.wait_total && would.wait_total.is_some(), "{would:?}");
    server.settle(&second).await;
    let ended = async || server.state("k").await.shadow.is_some_and(|would| would.in_flight == 0);
    until("the second call would have ended", ended).await;
    server.stop().await;
}

/// Goal: shadow mode without limits is refused: there is nothing to try out.
#[tokio::test]
async fn shadow_mode_needs_limits() {
    let server = Server::start().await;
    let refused =
        server.try_declare(Budget { shadow: true, ..budget("k", vec![]) }).await.expect_err("no limits");
    let refused = facts(&refused);
    assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
    assert!(refused.names("budget.shadow") && refused.message.contains("declare some"), "{refused:?}");
    server.stop().await;
}
