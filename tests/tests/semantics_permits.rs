//! SEMANTICS, "Permits and settling" (18 to 22): what a permit holds until it ends, and what is left when it has.

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Outcome, Permit, ReportRequest, Usage};
use permitd_tests::{DAY, HOUR, Server, ask, budget, in_flight, rate, report, span, success, tokens, until};
use tonic::Code;

const SHORTEST: Duration = Duration::from_secs(1);

fn used(permit: &Permit, tokens: u64) -> ReportRequest {
    let actual = Usage { tokens: Some(tokens), ..Usage::default() };
    ReportRequest { actual: Some(actual), ..success(&permit.permit_id) }
}

/// A budget whose permits are short-lived.
async fn short_lived(limits: Vec<Limit>) -> Server {
    let server = Server::start().await;
    server.declare(Budget { permit_ttl: span(SHORTEST), ..budget("k", limits) }).await;
    server
}

async fn expired(server: &Server) {
    until("the permits to expire", async || server.state("k").await.in_flight == 0).await;
}

/// Goal (18): an expired permit gives its slot to whoever waits and keeps its charge; a late report settles nothing.
#[tokio::test]
async fn s18_expiry() {
    let server = short_lived(vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    let lost = server.granted_now(tokens("k", 30)).await;
    assert_eq!(lost.ttl, span(SHORTEST));
    // Nobody reports, and nobody asks again: the slot comes back by itself.
    let next = server.granted(tokens("k", 10)).await;
    assert_eq!(server.level("k", "tokens").await, 60, "both are charged");
    let late = server.report(used(&lost, 5)).await;
    assert!(!late.settled, "too late");
    assert_eq!(server.level("k", "tokens").await, 60, "a late report changes nothing");
    assert_eq!(server.report(used(&lost, 5)).await, late, "a repeat is answered alike");
    server.settle(&next).await;
    server.stop().await;
}

/// Goal (18, 19): a late report of a permit that this service issued still teaches: a refusal freezes.
#[tokio::test]
async fn s18_late_reports_teach() {
    let server = short_lived(vec![rate("tokens", 100, DAY)]).await;
    let lost = server.granted_now(tokens("k", 1)).await;
    expired(&server).await;
    let late = ReportRequest { retry_after: span(HOUR), ..report(&lost.permit_id, Outcome::RateLimited) };
    assert!(!server.report(late).await.settled);
    assert!(server.limit("k", "tokens", "").await.frozen_until.is_some());
    server.stop().await;
}

/// Goal: a permit that is extended lives on; one that is not does not. Extending what is gone is refused by name.
#[tokio::test]
async fn s18_extending() {
    let server = short_lived(vec![in_flight(2)]).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    session.ask(2, ask("k")).await;
    let kept = session.permit(1).await;
    let lost = session.permit(2).await;
    until("the other permit to expire", async || {
        session.extend(&kept.permit_id).await;
        server.state("k").await.in_flight < 2
    })
    .await;
    assert!(!session.report(success(&lost.permit_id)).await.settled);
    session.settle(&kept).await;
    session.refused.clear();
    session.extend(&lost.permit_id).await;
    let refused = session.next_refused().await;
    assert_eq!((refused.permit_id.as_str(), refused.code), (lost.permit_id.as_str(), Code::NotFound as u32));
    server.stop().await;
}

/// Goal (19): a repeated report answers as the first did, and one that contradicts it changes nothing.
#[tokio::test]
async fn s19_repeats_and_contradictions() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    let permit = server.granted_now(tokens("k", 30)).await;
    let first = server.report(used(&permit, 10)).await;
    assert!(first.settled);
    assert_eq!(server.level("k", "tokens").await, 90);
    let contradictions = [
        used(&permit, 10),
        used(&permit, 99),
        report(&permit.permit_id, Outcome::Cancelled),
        ReportRequest { retry_after: span(HOUR), ..report(&permit.permit_id, Outcome::RateLimited) },
        report(&permit.permit_id, Outcome::QuotaExhausted),
        report(&permit.permit_id, Outcome::Overloaded),
    ];
    let mut session = server.session("").await;
    for contradiction in contradictions {
        assert_eq!(server.report(contradiction.clone()).await, first);
        assert_eq!(session.report(contradiction).await, first, "by a session as well");
        let limit = server.limit("k", "tokens", "").await;
        assert_eq!((limit.level, limit.frozen_until), (90, None));
    }
    let state = server.state("k").await;
    assert_eq!((state.in_flight, state.rate_limited_total), (0, 0));
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (19): a repeat of a refusal is answered as the first was, also after the freeze was lifted by time.
#[tokio::test]
async fn s19_repeats_of_refusals() {
    let server = Server::with(vec![rate("tokens", 100, SHORTEST)]).await;
    let permit = server.granted_now(tokens("k", 1)).await;
    let refused = ReportRequest {
        retry_after: span(Duration::from_millis(300)),
        ..report(&permit.permit_id, Outcome::RateLimited)
    };
    let first = server.report(refused.clone()).await;
    assert!(first.settled && first.retry);
    // Granted again: the freeze is over.
    server.granted(tokens("k", 1)).await;
    let again = server.report(refused).await;
    assert_eq!((again.settled, again.retry, again.outcome), (true, true, first.outcome));
    assert!(server.limit("k", "tokens", "").await.frozen_until.is_none(), "it froze nothing once more");
    server.stop().await;
}

/// Goal (19): ids that this service did not issue answer settled = false and have no effect whatever they say.
#[tokio::test]
async fn s19_forged_ids() {
    let server = Server::with(vec![rate("tokens", 100, DAY), in_flight(5)]).await;
    let other = Server::with(vec![rate("tokens", 100, DAY)]).await;
    let permit = server.granted_now(tokens("k", 30)).await;
    let foreign = other.granted_now(tokens("k", 30)).await;
    let mut forged: Vec<String> = vec![
        String::new(),
        "x".to_owned(),
        "0".repeat(10_000),
        "permit".to_owned(),
        foreign.permit_id.clone(),
    ];
    forged.push(format!("{} ", permit.permit_id));
    forged.push(permit.permit_id[1..].to_owned());
    for at in 0..permit.permit_id.len() {
        let mut bytes = permit.permit_id.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(bytes).expect("ASCII");
        if text != permit.permit_id {
            forged.push(text);
        }
    }
    let mut session = server.session("").await;
    for id in forged {
        for outcome in [Outcome::Success, Outcome::RateLimited, Outcome::QuotaExhausted, Outcome::Overloaded]
        {
            let forgery = ReportRequest { retry_after: span(HOUR), ..report(&id, outcome) };
            match server.try_report(forgery.clone()).await {
                Ok(answer) => assert!(!answer.settled, "{id:?}"),
                Err(status) => {
                    // Longer than any id of the service: the field makes no sense.
                    assert!(id.is_empty() || id.len() > 256, "{status:?} for {id:?}");
                    assert_eq!(status.code(), Code::InvalidArgument);
                    continue;
                }
            }
            assert!(!session.report(forgery).await.settled, "{id:?}");
        }
    }
    let limit = server.limit("k", "tokens", "").await;
    assert_eq!((limit.level, limit.frozen_until), (70, None));
    server.granted_now(ask("k")).await;
    server.settle(&permit).await;
    server.stop().await;
    other.stop().await;
}

/// Goal (20): absurd actuals saturate, debt is at most one window's amount, and the budget recovers from there.
#[tokio::test]
async fn s20_absurd_actuals() {
    let server = Server::start().await;
    let sliding = Limit { window: permitd_proto::v1::Window::Sliding.into(), ..rate("tokens", 100, DAY) };
    let burst = Limit { burst: 10, ..rate("tokens", 100, DAY) };
    for (key, limit) in [("bucket", rate("tokens", 100, DAY)), ("burst", burst), ("sliding", sliding)] {
        server.set(key, vec![limit]).await;
        for absurd in [u64::MAX, i64::MAX.unsigned_abs(), u64::MAX] {
            let permit = server.granted_now(tokens(key, 0)).await;
            let actual = Usage {
                input_tokens: Some(absurd),
                output_tokens: Some(absurd),
                requests: Some(absurd),
                other: [("points".to_owned(), absurd)].into(),
                ..Usage::default()
            };
            let answer = ReportRequest { actual: Some(actual), ..success(&permit.permit_id) };
            assert!(server.report(answer).await.settled);
            let level = server.level(key, "tokens").await;
            assert!((-100..0).contains(&level), "at most one window's amount of debt, not {level} ({key})");
            // A permit that needs nothing has to wait for a debt too, so the next round needs a new budget.
            server.set(key, vec![]).await;
            server.set(key, vec![rate("tokens", 100, DAY)]).await;
        }
        let state = server.state(key).await;
        assert_eq!(state.in_flight, 0);
    }
    server.stop().await;
}

/// Goal (21): a permit's life is 1 s to 24 h; 0 and absent mean the provider's profile.
#[tokio::test]
async fn s21_lives() {
    let server = Server::start().await;
    let with = |permit_ttl| Budget { permit_ttl, ..budget("k", vec![]) };
    for wrong in
        [Duration::from_nanos(1), Duration::from_millis(999), DAY + Duration::from_nanos(1), DAY * 400]
    {
        let status = server.try_declare(with(span(wrong))).await.expect_err("out of range");
        assert!(permitd_tests::facts(&status).names("budget.permit_ttl"), "{wrong:?}: {status:?}");
    }
    for right in [SHORTEST, DAY] {
        server.declare(with(span(right))).await;
        let permit = server.granted_now(ask("k")).await;
        assert_eq!(permit.ttl, span(right));
    }
    for by_profile in [None, span(Duration::ZERO)] {
        server.declare(with(by_profile)).await;
        let permit = server.granted_now(ask("k")).await;
        let ttl = Duration::try_from(permit.ttl.expect("a life")).expect("not negative");
        assert!((SHORTEST..=DAY).contains(&ttl));
        let expires = std::time::SystemTime::try_from(permit.expires_at.expect("an end")).expect("in range");
        let left = expires.duration_since(std::time::SystemTime::now()).expect("in the future");
        let tolerance = Duration::from_secs(1);
        assert!(left <= ttl + tolerance && left + tolerance * 60 > ttl, "{left:?} of {ttl:?}");
    }
    server.stop().await;
}

/// Goal (21): in_flight of a budget counts all unreported permits, with or without such a limit.
#[tokio::test]
async fn s21_all_that_is_in_flight() {
    let server = Server::start().await;
    for limits in [vec![], vec![rate("requests", 100, DAY)], vec![in_flight(10)]] {
        server.set("k", limits).await;
        let before = server.state("k").await.in_flight;
        let one = server.granted_now(ask("k")).await;
        let mut call = server.acquire(AcquireRequest { count: 3, ..ask("k") }).await.expect("begun");
        let mut more = Vec::new();
        for _ in 0..3 {
            more.push(call.permit().await);
        }
        assert_eq!(server.state("k").await.in_flight, before + 4);
        server.settle(&one).await;
        server.give_back(&more[0]).await;
        assert_eq!(server.state("k").await.in_flight, before + 2);
        server.settle(&more[1]).await;
        server.settle(&more[2]).await;
        assert_eq!(server.state("k").await.in_flight, before);
    }
    server.stop().await;
}

/// Goal (22): a limit is who it is by unit, window, models and tenants; a change keeps its part full, and its debt as it is.
#[tokio::test]
async fn s22_changes_keep_the_proportion() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 50)).await;
    for (amount, burst, level) in [(200, 0, 100), (10, 0, 5), (100, 0, 50), (100, 40, 20), (1_000, 0, 500)] {
        server.set("k", vec![Limit { burst, ..rate("tokens", amount, DAY) }]).await;
        assert_eq!(server.level("k", "tokens").await, level, "{amount} a day, burst {burst}");
    }
    let permit = server.granted_now(tokens("k", 0)).await;
    server.report(used(&permit, 550)).await;
    assert_eq!(server.level("k", "tokens").await, -50);
    for amount in [2_000, 100, 500] {
        server.set("k", vec![rate("tokens", amount, DAY)]).await;
        assert_eq!(server.level("k", "tokens").await, -50, "a debt stays absolute");
    }
    // Another window is another limit.
    server.set("k", vec![rate("tokens", 500, DAY * 2)]).await;
    assert!(server.level("k", "tokens").await >= 400, "new, and full less what is in flight");
    server.stop().await;
}

/// Goal (22): the same limit twice makes no sense; the same unit for other models, tenants or windows does.
#[tokio::test]
async fn s22_identities() {
    let server = Server::start().await;
    let base = || rate("tokens", 100, DAY);
    let others = [
        base(),
        Limit { models: "a*".to_owned(), ..base() },
        Limit { tenants: "a*".to_owned(), ..base() },
        Limit { tenants: "each".to_owned(), ..base() },
        Limit { models: "a*".to_owned(), tenants: "a*".to_owned(), ..base() },
        rate("tokens", 100, HOUR),
        rate("requests", 100, DAY),
    ];
    server.set("k", others.to_vec()).await;
    for twin in others {
        let twins = vec![twin.clone(), Limit { amount: 5, ..twin }];
        let status = server.try_declare(budget("k", twins)).await.expect_err("twins");
        assert!(permitd_tests::facts(&status).names("budget.limits[1]"), "{status:?}");
    }
    server.stop().await;
}

/// Goal (invariant 6): a cancelled permit gives everything back, and each way of ending counts once.
#[tokio::test]
async fn ends_once() {
    let server = Server::with(vec![rate("tokens", 100, DAY), rate("requests", 100, DAY), in_flight(3)]).await;
    let permit = server.granted_now(tokens("k", 30)).await;
    server.give_back(&permit).await;
    for _ in 0..3 {
        server.report(report(&permit.permit_id, Outcome::Cancelled)).await;
        server.report(success(&permit.permit_id)).await;
    }
    for (unit, level) in [("tokens", 100), ("requests", 100), ("in_flight", 3)] {
        assert_eq!(server.level("k", unit).await, level, "{unit}");
    }
    let failed = server.granted_now(tokens("k", 30)).await;
    assert!(server.report(report(&failed.permit_id, Outcome::Failed)).await.settled);
    assert_eq!(server.level("k", "tokens").await, 70, "sent and failed: charged");
    server.stop().await;
}
