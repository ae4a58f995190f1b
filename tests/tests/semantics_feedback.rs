//! SEMANTICS, "Feedback" (23 to 27), as far as it stands without the providers' profiles: what a report makes of a budget.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use permitd_proto::v1::{AcquireRequest, Adapt, Limit, LimitState, Outcome, Permit, ReportRequest};
use permitd_tests::{DAY, HOUR, Server, ask, in_flight, rate, report, span, tokens, until};
use tonic::Code;

fn model(name: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { model: name.to_owned(), ..request }
}

fn of(models: &str, limit: Limit) -> Limit {
    Limit { models: models.to_owned(), ..limit }
}

/// How long a limit is still frozen.
fn frozen(limit: &LimitState) -> Option<Duration> {
    let until = SystemTime::try_from(limit.frozen_until?).expect("in range");
    until.duration_since(SystemTime::now()).ok()
}

fn refused(permit: &Permit, wait: Option<Duration>) -> ReportRequest {
    let retry_after = wait.and_then(span);
    ReportRequest { retry_after, ..report(&permit.permit_id, Outcome::RateLimited) }
}

/// Goal (23): a refusal for a rate freezes every rate limit that the permit touched, no other model's, and no slots.
#[tokio::test]
async fn s23_freezes_what_was_touched() {
    let limits = vec![
        of("a-*", rate("requests", 100, DAY)),
        of("a-*", rate("tokens", 100, DAY)),
        of("b-*", rate("requests", 100, DAY)),
        in_flight(10),
    ];
    let server = Server::with(limits).await;
    let permit = server.granted_now(model("a-1", tokens("k", 10))).await;
    let answer = server.report(refused(&permit, Some(HOUR))).await;
    assert!(answer.settled && answer.retry);
    assert_eq!(answer.outcome(), Outcome::RateLimited);
    let advised = Duration::try_from(answer.retry_after.expect("for information")).expect("not negative");
    assert!(advised > HOUR - Duration::from_secs(60) && advised <= HOUR * 6 / 5, "{advised:?}");

    for unit in ["requests", "tokens"] {
        let left = frozen(&server.limit("k", unit, "a-*").await).expect("touched, so frozen");
        // Jitter on a given wait only upwards, at most 20 %.
        assert!(left > HOUR - Duration::from_secs(60) && left <= HOUR * 6 / 5, "{unit}: {left:?}");
    }
    assert_eq!(frozen(&server.limit("k", "requests", "b-*").await), None, "not this model's");
    assert_eq!(frozen(&server.limit("k", "in_flight", "").await), None, "no rate");
    assert_eq!(server.state("k").await.rate_limited_total, 1);

    let now = server.refused_now(model("a-2", ask("k"))).await;
    assert_eq!(now.says(), (Code::ResourceExhausted, "NOT_IN_TIME"));
    assert!(now.retry_after.is_some_and(|wait| wait > HOUR - Duration::from_secs(60)), "{now:?}");
    let (_waiting, place) = server.waiting(model("a-2", ask("k"))).await;
    assert_eq!(place.held_by, "frozen");
    server.granted_now(model("b-1", ask("k"))).await;
    server.granted_now(model("c", ask("k"))).await;
    server.stop().await;
}

/// Goal (23): those who waited for a freeze are granted by themselves when it is over, and not before.
#[tokio::test]
async fn s23_thaws() {
    let server = Server::with(vec![rate("requests", 1_000, DAY)]).await;
    let permit = server.granted_now(ask("k")).await;
    let before = SystemTime::now();
    server.report(refused(&permit, Some(Duration::from_millis(400)))).await;
    let (mut call, place) = server.waiting(ask("k")).await;
    assert_eq!(place.held_by, "frozen");
    let granted = call.permit().await;
    assert!(before.elapsed().expect("forwards") >= Duration::from_millis(400), "never sooner than told");
    server.settle(&granted).await;
    server.stop().await;
}

/// Goal (23, 25): what is said explicitly wins over status and headers; without it the status tells.
#[tokio::test]
async fn s23_explicit_wins() {
    let server = Server::start().await;
    let header = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let base = ReportRequest::default;
    let minute = Duration::from_secs(60);
    // what is said -> the class, retry, how long the limit is frozen
    let cases = [
        (ReportRequest { http_status: 200, ..base() }, Outcome::Success, false, None),
        (
            ReportRequest { http_status: 429, headers: header("Retry-After", "60"), ..base() },
            Outcome::RateLimited,
            true,
            Some(minute),
        ),
        (
            ReportRequest { http_status: 429, headers: header("RETRY-AFTER-MS", "60000"), ..base() },
            Outcome::RateLimited,
            true,
            Some(minute),
        ),
        (
            ReportRequest {
                http_status: 429,
                headers: header("retry-after", "60"),
                retry_after: span(HOUR),
                ..base()
            },
            Outcome::RateLimited,
            true,
            Some(HOUR),
        ),
        (
            ReportRequest {
                outcome: Outcome::Success.into(),
                http_status: 429,
                headers: header("retry-after", "60"),
                ..base()
            },
            Outcome::Success,
            false,
            None,
        ),
        (
            ReportRequest {
                outcome: Outcome::RateLimited.into(),
                http_status: 200,
                retry_after: span(minute),
                ..base()
            },
            Outcome::RateLimited,
            true,
            Some(minute),
        ),
        (ReportRequest { http_status: 413, ..base() }, Outcome::TooLarge, false, None),
        (ReportRequest { http_status: 404, ..base() }, Outcome::Failed, false, None),
        (ReportRequest { http_status: 400, ..base() }, Outcome::Failed, false, None),
        (ReportRequest { http_status: 500, ..base() }, Outcome::Failed, true, None),
        (ReportRequest { http_status: 502, ..base() }, Outcome::Failed, true, None),
        (ReportRequest { outcome: Outcome::Failed.into(), ..base() }, Outcome::Failed, true, None),
        (
            ReportRequest { outcome: Outcome::Failed.into(), http_status: 404, ..base() },
            Outcome::Failed,
            false,
            None,
        ),
        (
            ReportRequest { outcome: Outcome::Failed.into(), http_status: 503, ..base() },
            Outcome::Failed,
            true,
            None,
        ),
        (ReportRequest { outcome: Outcome::Cancelled.into(), ..base() }, Outcome::Cancelled, false, None),
        (
            ReportRequest { outcome: Outcome::TooLarge.into(), retry_after: span(HOUR), ..base() },
            Outcome::TooLarge,
            false,
            None,
        ),
    ];
    for (at, (said, outcome, retry, wait)) in cases.into_iter().enumerate() {
        let key = format!("k{at}");
        server.set(&key, vec![rate("requests", 100, DAY)]).await;
        let permit = server.granted_now(ask(&key)).await;
        let answer = server.report(ReportRequest { permit_id: permit.permit_id, ..said.clone() }).await;
        assert_eq!((answer.outcome(), answer.retry, answer.settled), (outcome, retry, true), "{said:?}");
        let left = frozen(&server.limit(&key, "requests", "").await);
        match wait {
            None => assert_eq!(left, None, "{said:?}"),
            Some(wait) => {
                let left = left.expect("frozen");
                assert!(left <= wait * 6 / 5 && left > wait - minute / 2, "{left:?} for {said:?}");
            }
        }
    }
    server.stop().await;
}

/// Goal (23): no capacity for anybody holds back the whole budget, every model of it, and lets go by itself.
#[tokio::test]
async fn overloaded_backs_the_whole_budget_off() {
    let server = Server::start().await;
    for (at, http_status) in [529, 503].into_iter().enumerate() {
        let key = format!("k{at}");
        server.set(&key, vec![of("a-*", rate("requests", 100, DAY))]).await;
        let permit = server.granted_now(model("a-1", ask(&key))).await;
        let said = ReportRequest { permit_id: permit.permit_id, http_status, ..ReportRequest::default() };
        let answer = server.report(said).await;
        assert_eq!((answer.outcome(), answer.retry), (Outcome::Overloaded, true));
        let (mut call, place) = server.waiting(model("b-1", ask(&key))).await;
        assert_eq!(place.held_by, "frozen");
        call.permit().await;
    }
    server.stop().await;
}

/// Goal (24): waits are capped at 24 h, and a header that makes no sense counts as absent.
#[tokio::test]
async fn s24_absurd_waits() {
    let server = Server::start().await;
    let header = |value: &str| ReportRequest {
        http_status: 429,
        headers: [("retry-after".to_owned(), value.to_owned())].into(),
        ..ReportRequest::default()
    };
    let told = |seconds| ReportRequest {
        outcome: Outcome::RateLimited.into(),
        retry_after: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..ReportRequest::default()
    };
    let ladder = Duration::from_millis(1_200);
    let cases = [
        (told(48 * 3_600), DAY),
        (told(315_576_000_000), DAY),
        (header("9999999999999999999999999999"), DAY),
        (header("172800"), DAY),
        (header("-5"), ladder),
        (header("soon"), ladder),
        (header("\u{0}"), ladder),
        (header("NaN"), ladder),
        (header("1e400"), ladder),
        (header(""), ladder),
    ];
    for (at, (said, most)) in cases.into_iter().enumerate() {
        let key = format!("k{at}");
        server.set(&key, vec![rate("requests", 100, DAY)]).await;
        let permit = server.granted_now(ask(&key)).await;
        let answer = server.report(ReportRequest { permit_id: permit.permit_id, ..said.clone() }).await;
        assert_eq!(answer.outcome(), Outcome::RateLimited);
        let wait = Duration::try_from(answer.retry_after.expect("told")).expect("not negative");
        // Jitter on a given wait may add 20 %; the ladder's is in it already.
        let most = if most == DAY { most * 6 / 5 } else { most };
        assert!(wait <= most, "{wait:?} for {said:?}");
        assert!(wait > most / 2, "{wait:?} for {said:?}: not taken for no wait at all");
    }
    server.stop().await;
}

/// Goal (26): quota used up is told to those waiting and to all who ask, without a hint, until an administrator resumes.
#[tokio::test]
async fn s26_quota_exhausted() {
    let server = Server::with(vec![in_flight(1)]).await;
    let permit = server.granted_now(ask("k")).await;
    let (mut waiting, _) = server.waiting(ask("k")).await;
    let mut session = server.session("").await;
    session.ask(7, ask("k")).await;
    session.place(7).await;
    let answer = server.report(report(&permit.permit_id, Outcome::QuotaExhausted)).await;
    assert_eq!((answer.outcome(), answer.retry, answer.settled), (Outcome::QuotaExhausted, false, true));
    let exhausted = (Code::ResourceExhausted, "QUOTA_EXHAUSTED");
    for told in [
        waiting.refusal().await,
        session.refusal(7).await,
        server.refused(ask("k")).await,
        server.refused_now(ask("k")).await,
    ] {
        assert_eq!(told.says(), exhausted);
        assert_eq!(told.retry_after, None, "nobody knows when");
    }
    session.ask(8, ask("k")).await;
    assert_eq!(session.refusal(8).await.says(), exhausted);
    assert_eq!(server.state("k").await.waiting, 0);
    server.resume("k").await;
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (26): where the reset is known it is told, and the budget comes back by itself.
#[tokio::test]
async fn s26_quota_that_comes_back() {
    let server = Server::with(vec![rate("requests", 100, DAY)]).await;
    let exhaust = async |wait| {
        let permit = server.granted_now(ask("k")).await;
        let said =
            ReportRequest { retry_after: span(wait), ..report(&permit.permit_id, Outcome::QuotaExhausted) };
        server.report(said).await;
    };
    exhaust(HOUR).await;
    let told = server.refused(ask("k")).await;
    assert_eq!(told.says(), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    let hint = told.retry_after.expect("known");
    assert!(hint <= HOUR * 6 / 5 && hint > HOUR / 2, "{hint:?}");
    server.resume("k").await;
    exhaust(Duration::from_millis(300)).await;
    until("the quota to come back", async || {
        let permit = server.acquire(ask("k")).await;
        permit.is_ok()
    })
    .await;
    server.stop().await;
}

/// Goal (invariant 10): refusals of calls that were in flight together are one event: they climb one rung of the ladder, not fifty.
#[tokio::test]
async fn a_burst_of_refusals_is_one_event() {
    let server = Server::with(vec![rate("requests", 1_000, DAY)]).await;
    let mut permits = Vec::new();
    for _ in 0..50 {
        permits.push(server.granted_now(ask("k")).await);
    }
    for permit in &permits {
        assert!(server.report(refused(permit, None)).await.settled);
    }
    let left = frozen(&server.limit("k", "requests", "").await).unwrap_or_default();
    assert!(left <= Duration::from_millis(1_200), "the first rung is 1 s with 20 % of jitter, not {left:?}");
    server.stop().await;
}

/// Goal: a limit in flight that asks for it follows what reports say that calls took; any other does not.
#[tokio::test]
async fn latency_is_followed_where_it_is_asked_for() {
    let server = Server::start().await;
    server.set("k", vec![Limit { adapt: Adapt::Latency.into(), ..in_flight(100) }]).await;
    server.set("other", vec![in_flight(100)]).await;
    let taught = async |key: &str| {
        let limit = server.limit(key, "in_flight", "").await;
        (limit.effective_amount, limit.learned_from)
    };
    // As many at once as are granted, one after the other.
    let calls = async |key: &str, count: usize, seconds: u64| {
        let mut permits = VecDeque::new();
        for _ in 0..count {
            while (permits.len() as u64) < taught(key).await.0.min(20) {
                permits.push_back(server.granted_now(ask(key)).await);
            }
            let permit: Permit = permits.pop_front().expect("at least one");
            let latency = span(Duration::from_secs(seconds));
            let report = ReportRequest { latency, ..report(&permit.permit_id, Outcome::Success) };
            assert!(server.report(report).await.settled);
        }
        for permit in permits {
            server.settle(&permit).await;
        }
    };
    assert_eq!(taught("k").await, (10, "latency".to_owned()));
    calls("k", 40, 2).await;
    assert_eq!(taught("k").await, (20, "latency".to_owned()));
    calls("k", 60, 9).await;
    assert!(taught("k").await.0 < 15, "{:?}", taught("k").await);
    calls("other", 40, 2).await;
    calls("other", 60, 9).await;
    assert_eq!(taught("other").await, (100, String::new()));
    server.stop().await;
}
