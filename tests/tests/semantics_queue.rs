//! SEMANTICS, "Acquire and queue" (1 to 17): each question asked of a server as a caller would.

use std::{collections::HashMap, time::Duration};

use permitd_proto::v1::{
    AcquireRequest, Budget, Limit, Outcome, Permit, Priority, Queue, ReportRequest, Tenant, Usage, Window,
};
use permitd_tests::{
    Call, DAY, Facts, HOUR, Server, Session, ask, budget, estimate, hello, in_flight, rate, report, span,
    tokens, until,
};
use tonic::{Code, Request};

const NOT_IN_TIME: (Code, &str) = (Code::ResourceExhausted, "NOT_IN_TIME");

fn tenant(name: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { tenant: name.to_owned(), ..request }
}

fn model(name: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { model: name.to_owned(), ..request }
}

fn used(permit: &Permit, actual: Usage) -> ReportRequest {
    ReportRequest { actual: Some(actual), ..report(&permit.permit_id, Outcome::Success) }
}

fn charged(permit: &Permit) -> Usage {
    permit.charged.clone().expect("a permit says what it holds")
}

fn hint(facts: &Facts) -> Duration {
    facts.retry_after.unwrap_or_else(|| panic!("a hint when to try again: {facts:?}"))
}

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

/// Goal (2): what was used beyond the estimate is debt, repaid before anything else is granted.
#[tokio::test]
async fn s02_debts_are_repaid_first() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    let permit = server.granted_now(tokens("k", 10)).await;
    assert_eq!(server.level("k", "tokens").await, 90);
    server.report(used(&permit, Usage { tokens: Some(150), ..Usage::default() })).await;
    assert_eq!(server.level("k", "tokens").await, -50);
    let refused = server.refused_now(tokens("k", 10)).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    // 60 of 100 a day are missing.
    let missing = hint(&refused).as_secs_f64() / DAY.as_secs_f64();
    assert!((0.55..=0.65).contains(&missing), "{missing} of a day");
    server.stop().await;
}

/// Goal (3): a full budget grants a request of all that it holds, also after refusals have taught it a cushion.
#[tokio::test]
async fn s03_the_cushion_blocks_nothing_that_fits_alone() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    for _ in 0..3 {
        let permit = server.granted_now(tokens("k", 0)).await;
        let refused = ReportRequest {
            retry_after: span(Duration::ZERO),
            actual: Some(Usage { tokens: Some(0), ..Usage::default() }),
            ..report(&permit.permit_id, Outcome::RateLimited)
        };
        assert!(server.report(refused).await.settled);
    }
    let refused = server.refused(tokens("k", 101)).await;
    assert_eq!(refused.says(), (Code::OutOfRange, "LARGER_THAN_LIMIT"));
    let all = server.granted(tokens("k", 100)).await;
    assert_eq!(charged(&all).tokens, Some(100));
    server.stop().await;
}

/// Goal (4): a new budget starts full; a limit added to a live one starts full less what is in flight.
#[tokio::test]
async fn s04_new_limits_start_full_less_what_is_in_flight() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    assert_eq!(server.level("k", "tokens").await, 100);
    let held = server.granted_now(tokens("k", 30)).await;
    let done = server.granted_now(tokens("k", 20)).await;
    server.settle(&done).await;
    server
        .set(
            "k",
            vec![
                rate("tokens", 100, DAY),
                rate("requests", 10, DAY),
                rate("input_tokens", 100, HOUR * 24 * 7),
                in_flight(3),
            ],
        )
        .await;
    assert_eq!(server.level("k", "tokens").await, 50, "it was there before");
    assert_eq!(server.level("k", "requests").await, 9, "one is in flight");
    assert_eq!(server.level("k", "input_tokens").await, 70, "its input is in flight");
    assert_eq!(server.level("k", "in_flight").await, 2);
    server.settle(&held).await;
    assert_eq!(server.level("k", "in_flight").await, 3);
    server.stop().await;
}

/// Goal (5): the estimate is per permit; permits trickle, each once, to one waiting entry; then the stream ends.
#[tokio::test]
async fn s05_several_permits_trickle() {
    let server = Server::with(vec![in_flight(2), rate("tokens", 100, DAY)]).await;
    let mut call = server.acquire(AcquireRequest { count: 5, ..tokens("k", 10) }).await.expect("begun");
    let mut held = vec![call.permit().await, call.permit().await];
    let state = server.state("k").await;
    assert_eq!((state.waiting, state.in_flight), (1, 2), "one entry for the rest");
    for _ in 0..3 {
        server.settle(&held.remove(0)).await;
        held.push(call.permit().await);
    }
    call.end().await;
    assert_eq!(server.level("k", "tokens").await, 50, "ten for each");
    let mut ids: Vec<String> = held.iter().map(|permit| permit.permit_id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 2);
    server.stop().await;
}

/// Goal (5): 10,000 permits may be asked for at once, and no more.
#[tokio::test]
async fn s05_at_most_ten_thousand() {
    let server = Server::with(vec![in_flight(1)]).await;
    for count in [10_001, u32::MAX] {
        let refused = server.refused(AcquireRequest { count, ..ask("k") }).await;
        assert!(refused.names("count"), "{refused:?}");
    }
    let mut most = server.acquire(AcquireRequest { count: 10_000, ..ask("k") }).await.expect("the most");
    most.permit().await;
    server.stop().await;
}

/// Goal (6, 15): which words say how many tokens, and what each is charged as.
#[tokio::test]
async fn s06_estimates() {
    let server = Server::with(vec![rate("tokens", 1_000_000, DAY)]).await;
    let usage = |tokens, input, output| Usage {
        tokens,
        input_tokens: input,
        output_tokens: output,
        ..Usage::default()
    };
    // tokens, estimate -> input, output, tokens as charged
    let fine = [
        (0, usage(None, None, None), (0, 0, 0)),
        (70, usage(None, None, None), (70, 0, 70)),
        (0, usage(Some(70), None, None), (70, 0, 70)),
        (70, usage(Some(70), None, None), (70, 0, 70)),
        (0, usage(Some(70), Some(50), None), (50, 20, 70)),
        (0, usage(Some(70), None, Some(20)), (50, 20, 70)),
        (0, usage(Some(70), Some(50), Some(20)), (50, 20, 70)),
        (70, usage(None, Some(50), Some(20)), (50, 20, 70)),
        (0, usage(None, Some(50), Some(20)), (50, 20, 70)),
        (0, usage(None, Some(50), None), (50, 0, 50)),
        (0, usage(None, None, Some(20)), (0, 20, 20)),
    ];
    let mut spent = 0;
    for (tokens, estimated, expected) in fine {
        let request = AcquireRequest { tokens, ..estimate("k", estimated.clone()) };
        let charged = charged(&server.granted_now(request).await);
        let seen = (
            charged.input_tokens.unwrap_or(0),
            charged.output_tokens.unwrap_or(0),
            charged.tokens.unwrap_or(0),
        );
        assert_eq!(seen, expected, "{tokens} and {estimated:?}");
        assert_eq!(charged.requests, Some(1), "every permit counts one");
        spent += expected.2;
        assert_eq!(server.level("k", "tokens").await, 1_000_000 - i64::try_from(spent).expect("small"));
    }
    let contradictions = [
        ("tokens", 70, usage(Some(71), None, None)),
        ("tokens", 70, usage(None, Some(50), Some(21))),
        ("tokens", 70, usage(None, Some(71), None)),
        ("estimate.tokens", 0, usage(Some(70), Some(50), Some(21))),
        ("estimate.tokens", 0, usage(Some(70), Some(71), None)),
        ("estimate.tokens", 0, usage(Some(70), None, Some(71))),
        ("estimate.tokens", 0, usage(Some(70), Some(u64::MAX), Some(71))),
    ];
    for (field, tokens, estimated) in contradictions {
        let refused = server.refused(AcquireRequest { tokens, ..estimate("k", estimated.clone()) }).await;
        assert_eq!(refused.code, Code::InvalidArgument, "{tokens} and {estimated:?}");
        assert!(refused.message.contains(field), "{refused:?}");
    }
    server.stop().await;
}

/// Goal (6): what a report leaves out was used as charged; what it says is settled, either way.
#[tokio::test]
async fn s06_reports() {
    let limits = || {
        vec![
            rate("tokens", 1_000, DAY),
            rate("input_tokens", 1_000, DAY),
            rate("output_tokens", 1_000, DAY),
            rate("requests", 1_000, DAY),
            rate("points", 1_000, DAY),
        ]
    };
    let server = Server::start().await;
    let held = || Usage {
        input_tokens: Some(100),
        output_tokens: Some(50),
        other: [("points".to_owned(), 10)].into(),
        ..Usage::default()
    };
    let none = Usage::default;
    // actual -> tokens, input, output, requests, points left
    let cases = [
        (none(), [850, 900, 950, 999, 990]),
        (Usage { output_tokens: Some(5), ..none() }, [895, 900, 995, 999, 990]),
        (Usage { input_tokens: Some(200), ..none() }, [750, 800, 950, 999, 990]),
        (Usage { input_tokens: Some(0), output_tokens: Some(0), ..none() }, [1_000, 1_000, 1_000, 999, 990]),
        (Usage { tokens: Some(160), input_tokens: Some(100), ..none() }, [840, 900, 940, 999, 990]),
        (Usage { requests: Some(3), ..none() }, [850, 900, 950, 997, 990]),
        (Usage { other: [("points".to_owned(), 25)].into(), ..none() }, [850, 900, 950, 999, 975]),
    ];
    for (at, (actual, expected)) in cases.into_iter().enumerate() {
        let key = format!("k{at}");
        server.set(&key, limits()).await;
        let permit = server.granted_now(estimate(&key, held())).await;
        assert!(server.report(used(&permit, actual.clone())).await.settled);
        for (unit, left) in
            ["tokens", "input_tokens", "output_tokens", "requests", "points"].into_iter().zip(expected)
        {
            assert_eq!(server.level(&key, unit).await, left, "{unit} after {actual:?}");
        }
    }
    server.stop().await;
}

/// Goal (7): an unknown output is max_output_tokens at first, then what this tenant and model used, and never more than max_output_tokens.
#[tokio::test]
async fn s07_unknown_outputs() {
    let server = Server::with(vec![rate("output_tokens", 1_000_000, DAY)]).await;
    let open = |most| {
        let asked = Usage { input_tokens: Some(10), max_output_tokens: most, ..Usage::default() };
        tenant("t", model("m", estimate("k", asked)))
    };
    let output = async |request| charged(&server.granted_now(request).await).output_tokens.unwrap_or(0);
    assert_eq!(output(open(Some(500))).await, 500, "no history");
    assert_eq!(output(open(None)).await, 0, "nothing known at all");
    for _ in 0..50 {
        let permit = server.granted_now(open(Some(500))).await;
        let actual = Usage { input_tokens: Some(10), output_tokens: Some(100), ..Usage::default() };
        assert!(server.report(used(&permit, actual)).await.settled);
    }
    let learned = output(open(Some(500))).await;
    assert!((50..=200).contains(&learned), "{learned}, where 100 was always used");
    assert!((50..=200).contains(&output(open(None)).await), "the same without a bound");
    assert_eq!(output(open(Some(7))).await, 7, "never more than the caller's bound");
    assert_eq!(output(model("other", open(Some(500)))).await, 500, "of this model alone");
    assert_eq!(output(tenant("other", open(Some(500)))).await, 500, "of this tenant alone");
    server.stop().await;
}

/// Goal (8): max_wait absent is the budget's default, which is no cap; 0 is now or never; negative makes no sense.
#[tokio::test]
async fn s08_how_long_to_wait() {
    let server = Server::start().await;
    let impatient = Queue { max_wait: span(Duration::ZERO), ..Queue::default() };
    server.declare(Budget { queue: Some(impatient), ..budget("k", vec![in_flight(1)]) }).await;
    let held = server.granted_now(ask("k")).await;
    assert_eq!(server.refused(ask("k")).await.says(), NOT_IN_TIME, "the default");
    assert_eq!(server.refused_now(ask("k")).await.says(), NOT_IN_TIME, "asked for");
    let patient = AcquireRequest { max_wait: span(HOUR), ..ask("k") };
    let (mut call, _) = server.waiting(patient).await;
    server.settle(&held).await;
    call.permit().await;
    for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, 0), (-1, 5)] {
        let max_wait = Some(prost_types::Duration { seconds, nanos });
        let refused = server.refused(AcquireRequest { max_wait, ..ask("k") }).await;
        assert!(refused.names("max_wait"), "{seconds} s {nanos} ns: {refused:?}");
    }
    server.stop().await;
}

/// Goal (8): without a default, requests wait as long as it takes; the caller's own deadline counts as well as max_wait.
#[tokio::test]
async fn s08_the_callers_deadline_counts() {
    let server = Server::with(vec![rate("requests", 1, DAY)]).await;
    server.granted_now(ask("k")).await;
    let (waiting, _) = server.waiting(ask("k")).await;
    drop(waiting);
    let mut hurried = Request::new(ask("k"));
    hurried.set_timeout(HOUR);
    assert_eq!(server.refused(hurried).await.says(), NOT_IN_TIME, "a day is more than an hour");
    let mut shorter = Request::new(AcquireRequest { max_wait: span(DAY * 30), ..ask("k") });
    shorter.set_timeout(HOUR);
    assert_eq!(server.refused(shorter).await.says(), NOT_IN_TIME, "the shorter one counts");
    server.stop().await;
}

/// Goal (9): what can't be in time even alone is refused at once, with the time at which it could be.
#[tokio::test]
async fn s09_not_in_time_even_alone() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 100)).await;
    for max_wait in [Duration::ZERO, HOUR] {
        let refused = server.refused(AcquireRequest { max_wait: span(max_wait), ..tokens("k", 50) }).await;
        assert_eq!(refused.says(), NOT_IN_TIME);
        let days = hint(&refused).as_secs_f64() / DAY.as_secs_f64();
        assert!((0.49..=0.51).contains(&days), "half the budget comes back in half a day, not in {days}");
        assert_eq!(refused.limit, "tokens/1d");
    }
    assert_eq!(server.state("k").await.waiting, 0);
    server.stop().await;
}

/// Goal (9): where only in_flight is full, the hint is the earliest expiry.
#[tokio::test]
async fn s09_the_earliest_expiry() {
    let server = Server::start().await;
    let ttl = |ttl| Budget { permit_ttl: span(ttl), ..budget("k", vec![in_flight(2)]) };
    server.declare(ttl(HOUR)).await;
    server.granted_now(ask("k")).await;
    server.declare(ttl(HOUR / 2)).await;
    server.granted_now(ask("k")).await;
    let refused = server.refused_now(ask("k")).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    assert_eq!(refused.limit, "in_flight");
    let hint = hint(&refused);
    assert!(hint <= HOUR / 2 && hint > HOUR / 3, "the second permit ends first, in half an hour: {hint:?}");
    server.stop().await;
}

/// Goal (9): a request whose time runs out leaves the queue, with a hint, and takes nothing.
#[tokio::test]
async fn s09_time_runs_out_while_waiting() {
    let server = Server::with(vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    let held = server.granted_now(tokens("k", 10)).await;
    let (mut call, _) = server
        .waiting(AcquireRequest { max_wait: span(Duration::from_millis(200)), ..tokens("k", 10) })
        .await;
    let refused = call.refusal().await;
    assert_eq!(refused.says(), NOT_IN_TIME, "DEADLINE_EXCEEDED is left to the client's own deadline");
    hint(&refused);
    assert_eq!(server.state("k").await.waiting, 0);
    assert_eq!(server.level("k", "tokens").await, 90);
    server.settle(&held).await;
    assert_eq!(server.state("k").await.in_flight, 0, "nobody was granted anything");
    server.stop().await;
}

fn assert_impossible(refused: &Facts, limit: &str) {
    assert_eq!(refused.says(), (Code::OutOfRange, "LARGER_THAN_LIMIT"), "{refused:?}");
    assert_eq!(refused.retry_after, None, "no wait helps");
    assert_eq!(refused.limit, limit);
    assert!(refused.message.contains(limit), "{refused:?} names the limit to people");
}

/// Goal (10): what can never be granted is refused at once and for good, with the limit named, however long the queue.
#[tokio::test]
async fn s10_impossible_is_not_not_yet() {
    let opus = Limit { models: "opus-*".to_owned(), ..rate("tokens", 50, HOUR) };
    let burst = Limit { burst: 20, ..rate("points", 100, HOUR) };
    let server = Server::with(vec![rate("tokens", 100, DAY), opus, burst]).await;
    let points = Usage { other: [("points".to_owned(), 21)].into(), ..Usage::default() };
    let cases = [
        (tokens("k", 101), "tokens/1d"),
        (tokens("k", u64::MAX), "tokens/1d"),
        (model("opus-4", tokens("k", 51)), "tokens/1h model=opus-*"),
        (estimate("k", points), "points/1h"),
    ];
    for (request, limit) in cases {
        assert_impossible(&server.refused(request.clone()).await, limit);
        assert_impossible(&server.refused_now(request).await, limit);
    }
    server.granted_now(model("sonnet", tokens("k", 51))).await;
    let (_waiting, _) = server.waiting(tokens("k", 100)).await;
    assert_impossible(&server.refused(tokens("k", 101)).await, "tokens/1d");
    server.stop().await;
}

/// Goal (10): a waiting request that a change makes impossible is told so at once; what still fits goes on waiting.
#[tokio::test]
async fn s10_impossible_by_a_change() {
    let server = Server::with(vec![rate("tokens", 100, DAY)]).await;
    server.granted_now(tokens("k", 100)).await;
    let (mut large, _) = server.waiting(tokens("k", 80)).await;
    let (_small, _) = server.waiting(tokens("k", 40)).await;
    server.set("k", vec![rate("tokens", 50, DAY)]).await;
    assert_impossible(&large.refusal().await, "tokens/1d");
    assert_eq!(server.state("k").await.waiting, 1);
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

/// Goal (13): OVERFLOW_REJECT refuses what gives no max_wait as if it had given 0; who gives one waits.
#[tokio::test]
async fn s13_overflow_reject() {
    let server = Server::start().await;
    let queue = Queue {
        overflow: permitd_proto::v1::Overflow::Reject.into(),
        max_wait: span(HOUR),
        ..Queue::default()
    };
    server.declare(Budget { queue: Some(queue), ..budget("k", vec![in_flight(1)]) }).await;
    let held = server.granted(ask("k")).await;
    let refused = server.refused(ask("k")).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    hint(&refused);
    let (mut call, _) = server.waiting(AcquireRequest { max_wait: span(HOUR), ..ask("k") }).await;
    server.settle(&held).await;
    call.permit().await;
    server.stop().await;
}

/// Goal (13, 12): a full queue refuses, the budget's as well as a tenant's; 0 means the budget's; nobody who waits is hurt.
#[tokio::test]
async fn s13_full_queues() {
    let server = Server::start().await;
    let small = Tenant { max_waiting: 1, ..Tenant::default() };
    let tenants = [("small".to_owned(), small), ("zero".to_owned(), Tenant::default())];
    let queue = Queue { max_waiting: 4, ..Queue::default() };
    let declared = Budget { queue: Some(queue), tenants: tenants.into(), ..budget("k", vec![in_flight(1)]) };
    server.declare(declared).await;
    let mut held = server.granted_now(ask("k")).await;
    let mut calls: Vec<Call> = vec![server.waiting(tenant("small", ask("k"))).await.0];
    let refused = server.refused(tenant("small", ask("k"))).await;
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.reason.ends_with("QUEUE_FULL"), "{refused:?}");
    for _ in 0..3 {
        calls.push(server.waiting(tenant("zero", ask("k"))).await.0);
    }
    for name in ["zero", "another"] {
        let refused = server.refused(tenant(name, ask("k"))).await;
        assert_eq!(refused.says(), (Code::ResourceExhausted, "QUEUE_FULL"));
    }
    let mut granted = HashMap::new();
    for at in 0..calls.len() {
        server.settle(&held).await;
        // In fair order, whichever that is: each of them has one.
        held = permitd_tests::soon("a grant", next_of(&mut calls, &mut granted)).await;
        assert_eq!(granted.len(), at + 1);
    }
    server.stop().await;
}

/// The next permit of any of these calls.
async fn next_of(calls: &mut [Call], granted: &mut HashMap<usize, ()>) -> Permit {
    let waiting = calls.iter_mut().enumerate().filter(|(at, _)| !granted.contains_key(at));
    let each = waiting.map(|(at, call)| Box::pin(async move { (at, call.permit().await) }));
    let ((at, permit), ..) = futures_util::future::select_all(each).await;
    granted.insert(at, ());
    permit
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

/// Goal (15): a permit says what it holds, in every unit, whether a limit counts it or not.
#[tokio::test]
async fn s15_what_a_permit_holds() {
    let server = Server::with(vec![rate("usd_micros", 1_000, DAY)]).await;
    let asked = Usage {
        requests: Some(2),
        input_tokens: Some(30),
        output_tokens: Some(12),
        other: [("usd_micros".to_owned(), 250), ("points".to_owned(), 9)].into(),
        ..Usage::default()
    };
    let permit = server.granted_now(estimate("k", asked)).await;
    let held = charged(&permit);
    assert_eq!((held.requests, held.input_tokens, held.output_tokens), (Some(2), Some(30), Some(12)));
    assert_eq!(held.tokens, Some(42));
    assert_eq!(held.other.get("usd_micros"), Some(&250));
    assert_eq!((permit.provider.as_str(), permit.key.as_str()), ("p", "k"));
    assert_eq!(server.level("k", "usd_micros").await, 750);
    server.stop().await;
}

/// Goal (16): within any quantum, no more than its part of the amount; the default quantum is a second.
#[tokio::test]
async fn s16_quantised_windows() {
    let server = Server::start().await;
    let quantised =
        |quantum| Limit { window: Window::Quantised.into(), quantum, ..rate("requests", 240, DAY) };
    server.set("k", vec![quantised(span(HOUR))]).await;
    for _ in 0..10 {
        server.granted_now(ask("k")).await;
    }
    let refused = server.refused_now(ask("k")).await;
    assert_eq!(refused.says(), NOT_IN_TIME);
    assert!(hint(&refused) <= HOUR, "a quantum later");

    let by_default = Limit { window: Window::Quantised.into(), ..rate("requests", 86_400, DAY) };
    server.set("second", vec![by_default]).await;
    server.granted_now(ask("second")).await;
    let refused = server.refused_now(ask("second")).await;
    assert!(hint(&refused) <= Duration::from_secs(1), "{refused:?}");
    server.granted(ask("second")).await;
    server.stop().await;
}

/// Goal (16): a fixed window's phase is optional; with one, quota comes back at its edges, without one, never sooner than a window later.
#[tokio::test]
async fn s16_fixed_windows() {
    let server = Server::start().await;
    let now = std::time::SystemTime::now();
    let edge = now + Duration::from_secs(600);
    let known = Limit { window: Window::Fixed.into(), phase: Some(edge.into()), ..rate("requests", 2, HOUR) };
    let unknown = Limit { phase: None, ..known.clone() };
    server.set("known", vec![known.clone()]).await;
    server.set("unknown", vec![unknown]).await;
    // A phase in the past says the same.
    let past = Limit { phase: Some((edge - HOUR * 5).into()), ..known };
    server.set("past", vec![past]).await;
    for (key, wait) in [("known", 600), ("past", 600), ("unknown", 3_600)] {
        for _ in 0..2 {
            server.granted_now(ask(key)).await;
        }
        let refused = server.refused_now(ask(key)).await;
        assert_eq!(refused.says(), NOT_IN_TIME);
        let hint = hint(&refused).as_secs_f64();
        // The test may have taken part of it.
        assert!(hint <= f64::from(wait) + 0.1 && hint >= f64::from(wait) - 60.0, "{key}: {hint} s");
    }
    server.stop().await;
}

/// Goal (17): units that no limit counts do not throttle.
#[tokio::test]
async fn s17_undeclared_units() {
    let server = Server::with(vec![rate("requests", 10, DAY)]).await;
    let other = [("points".to_owned(), u64::MAX)].into();
    let asked =
        Usage { input_tokens: Some(u64::MAX), output_tokens: Some(u64::MAX), other, ..Usage::default() };
    for _ in 0..3 {
        server.granted_now(estimate("k", asked.clone())).await;
    }
    assert_eq!(server.level("k", "requests").await, 7);
    server.stop().await;
}
