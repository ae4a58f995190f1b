//! Messages that decode and make no sense: each is refused with the field named.

use std::time::Duration;

use permitd_proto::v1::{
    AcquireRequest, Adapt, Budget, Limit, ListBudgetsRequest, ListChangesRequest, Queue, ReportRequest,
    SessionRequest, SetBudgetRequest, Tenant, Usage, WatchBudgetsRequest, Window,
};
use permitd_tests::{
    DAY, Facts, ask, budget, estimate, facts, in_flight, rate, refused_facts, soon, success, tokens,
};
use tonic::Code;

use crate::support::{World, strange_names};

/// Goal: an acquire that makes no sense is refused with the field named, alike by call and by session.
#[tokio::test]
async fn acquires_that_make_no_sense() {
    let world = World::start().await;
    let server = &world.server;
    let max_wait = |seconds, nanos| AcquireRequest {
        max_wait: Some(prost_types::Duration { seconds, nanos }),
        ..ask("k")
    };
    let other = |units: Vec<String>| {
        let other = units.into_iter().map(|unit| (unit, 1)).collect();
        estimate("k", Usage { other, ..Usage::default() })
    };
    let mut cases: Vec<(&str, AcquireRequest)> = vec![
        ("provider", AcquireRequest { provider: String::new(), ..ask("k") }),
        ("count", AcquireRequest { count: u32::MAX, ..ask("k") }),
        ("priority", AcquireRequest { priority: 99, ..ask("k") }),
        ("priority", AcquireRequest { priority: i32::MIN, ..ask("k") }),
        ("max_wait", max_wait(-1, 0)),
        ("max_wait", max_wait(0, -1)),
        ("max_wait", max_wait(0, 1_000_000_000)),
        ("max_wait", max_wait(0, i32::MAX)),
        ("max_wait", max_wait(5, -5)),
        ("max_wait", max_wait(i64::MAX, 0)),
        ("max_wait", max_wait(i64::MIN, i32::MIN)),
        (
            "tokens",
            AcquireRequest { tokens: 1, ..estimate("k", Usage { tokens: Some(2), ..Usage::default() }) },
        ),
        ("estimate.other", other((0..10_000).map(|n| format!("unit-{n}")).collect())),
        ("estimate.other", other(vec![String::new()])),
    ];
    for (_, name) in strange_names() {
        cases.push(("provider", AcquireRequest { provider: name.clone(), ..ask("k") }));
        cases.push(("key", AcquireRequest { key: name.clone(), ..ask("k") }));
        cases.push(("tenant", AcquireRequest { tenant: name.clone(), ..ask("k") }));
        cases.push(("model", AcquireRequest { model: name.clone(), ..ask("k") }));
        cases.push(("estimate.other", other(vec![name])));
    }
    let mut session = server.session("").await;
    for (at, (field, request)) in (1..).zip(cases) {
        let by_call = server.refused(request.clone()).await;
        assert!(
            by_call.code == Code::InvalidArgument && by_call.message.contains(field),
            "{field}: {by_call:?}"
        );
        assert!(by_call.fields.iter().any(|named| named.starts_with(field)), "{field}: {by_call:?}");
        assert!(by_call.message.len() < 1_000, "a refusal is no echo: {} bytes", by_call.message.len());
        session.ask(at, request).await;
        let by_session = session.refusal(at).await;
        assert_eq!((by_session.code, &by_session.message), (by_call.code, &by_call.message));
    }
    world.is_well().await;

    // Absurd, but they make sense.
    let impossible = (Code::OutOfRange, "LARGER_THAN_LIMIT");
    for request in [
        tokens("k", u64::MAX),
        estimate(
            "k",
            Usage { input_tokens: Some(u64::MAX), output_tokens: Some(u64::MAX), ..Usage::default() },
        ),
        estimate("k", Usage { requests: Some(u64::MAX), ..Usage::default() }),
        AcquireRequest { count: 10_000, ..tokens("k", u64::MAX) },
    ] {
        assert_eq!(server.refused(request).await.says(), impossible);
    }
    server.granted_now(tokens("k", 0)).await;
    server.granted_now(max_wait(315_576_000_000, 999_999_999)).await;
    assert_eq!(server.refused(ask("nobody declared")).await.code, Code::NotFound);
    world.end().await;
}

/// Goal: names are looked at one by one, however like the one before in the same message an acquire is.
#[tokio::test]
async fn names_in_one_message() {
    let world = World::start().await;
    let long = "x".repeat(257);
    let with = |tenant: &str, model: &str| AcquireRequest {
        tenant: tenant.to_owned(),
        model: model.to_owned(),
        ..ask("k")
    };
    let of = |key: &str| AcquireRequest { key: key.to_owned(), ..with("web", "m") };
    let asked = [
        (with("web", "m"), None),
        (with("web", "m"), None),
        (with(&long, "m"), Some("tenant")),
        (with(&long, "m"), Some("tenant")),
        (with("web", "m"), None),
        (with("web", "a\nb"), Some("model")),
        (with("web", "a\nb"), Some("model")),
        (of("k"), None),
        (of("nobody declared"), Some("")),
        (of("nobody declared"), Some("")),
        (of("k"), None),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let acquire = (1..).zip(requests).map(|(request_id, request)| AcquireRequest { request_id, ..request });
    let mut session = world.server.session("").await;
    session.send(SessionRequest { acquire: acquire.collect(), ..SessionRequest::default() }).await;
    for (at, expected) in (1..).zip(expected) {
        match expected {
            None => {
                let permit = session.permit(at).await;
                session.settle(&permit).await;
            }
            Some("") => assert_eq!(session.refusal(at).await.code, Code::NotFound),
            Some(field) => assert!(session.refusal(at).await.names(field), "{at}: {field}"),
        }
    }
    drop(session);
    world.end().await;
}

/// Goal: a report that makes no sense is refused with the field named and settles nothing; the permit can still be reported.
#[tokio::test]
async fn reports_that_make_no_sense() {
    let world = World::start().await;
    let server = &world.server;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    let permit = session.permit(1).await;
    let base = || success(&permit.permit_id);
    let wait = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let contradiction = Usage { tokens: Some(1), input_tokens: Some(5), ..Usage::default() };
    let cases: Vec<(&str, ReportRequest)> = vec![
        ("outcome", ReportRequest { outcome: 99, ..base() }),
        ("outcome", ReportRequest { outcome: i32::MIN, ..base() }),
        ("http_status", ReportRequest { http_status: u32::MAX, ..base() }),
        ("retry_after", ReportRequest { retry_after: wait(-1, 0), ..base() }),
        ("retry_after", ReportRequest { retry_after: wait(0, 1_000_000_000), ..base() }),
        ("retry_after", ReportRequest { retry_after: wait(i64::MAX, i32::MAX), ..base() }),
        ("latency", ReportRequest { latency: wait(-1, 0), ..base() }),
        ("body", ReportRequest { body: vec![0; 4_097], ..base() }),
        (
            "headers",
            ReportRequest {
                headers: (0..10_000).map(|n| (format!("x-{n}"), String::new())).collect(),
                ..base()
            },
        ),
        ("headers", ReportRequest { headers: [("x".to_owned(), "y".repeat(1_000_000))].into(), ..base() }),
        ("actual.tokens", ReportRequest { actual: Some(contradiction), ..base() }),
    ];
    for (field, request) in cases {
        let by_call = facts(&server.try_report(request.clone()).await.expect_err(field));
        assert!(by_call.names(field), "{field}: {by_call:?}");
        session.send(SessionRequest { report: vec![request], ..SessionRequest::default() }).await;
        let refused = session.next_refused().await;
        assert_eq!(refused.permit_id, permit.permit_id);
        assert!(refused_facts(&refused).names(field), "{field}: {refused:?}");
    }
    for headers in [[("retry-after", "\0\0\0")], [("x\ny", "z")], [("", "")]] {
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let forged = ReportRequest { headers, ..success("forged") };
        assert!(!server.report(forged).await.settled);
    }
    session.settle(&permit).await;
    world.end().await;
}

/// Goal: a budget that makes no sense is refused with the field named, and nothing of it is in force.
#[tokio::test]
async fn budgets_that_make_no_sense() {
    let world = World::start().await;
    let server = &world.server;
    let per = |seconds, nanos| Limit {
        per: Some(prost_types::Duration { seconds, nanos }),
        ..rate("requests", 1, DAY)
    };
    let with = |limit: Limit| budget("new", vec![in_flight(1), limit]);
    let requests = || rate("requests", 10, DAY);
    let mut cases: Vec<(&str, Budget)> = vec![
        ("budget.provider", Budget { provider: String::new(), ..budget("new", vec![]) }),
        ("budget.limits", budget("new", (1..=10_000).map(|n| rate(&format!("u{n}"), 1, DAY)).collect())),
        ("budget.limits", budget("new", vec![requests(); 10_000])),
        ("budget.limits[1].amount", with(Limit { amount: 0, ..requests() })),
        ("budget.limits[1].unit", with(Limit { unit: String::new(), ..requests() })),
        ("budget.limits[1].per", with(Limit { per: None, ..requests() })),
        ("budget.limits[1].per", with(per(0, 0))),
        ("budget.limits[1].per", with(per(0, 999_999))),
        ("budget.limits[1].per", with(per(-1, 0))),
        ("budget.limits[1].per", with(per(0, -1))),
        ("budget.limits[1].per", with(per(1, 1_000_000_000))),
        ("budget.limits[1].per", with(per(366 * 86_400, 1))),
        ("budget.limits[1].per", with(per(i64::MAX, i32::MAX))),
        ("budget.limits[1].per", with(per(i64::MIN, i32::MIN))),
        (
            "budget.limits[1].per",
            with(Limit { models: "a*".to_owned(), per: permitd_tests::span(DAY), ..in_flight(5) }),
        ),
        ("budget.limits[1].window", with(Limit { window: 99, ..requests() })),
        ("budget.limits[1].adapt", with(Limit { adapt: 99, ..requests() })),
        ("budget.limits[1].adapt", with(Limit { adapt: Adapt::Latency.into(), ..requests() })),
        (
            "budget.limits[1].adapt",
            with(Limit { tenants: "each".to_owned(), adapt: Adapt::Latency.into(), ..in_flight(5) }),
        ),
        (
            "budget.limits[1].quantum",
            with(Limit {
                window: Window::Quantised.into(),
                quantum: permitd_tests::span(DAY * 2),
                ..requests()
            }),
        ),
        (
            "budget.limits[1].quantum",
            with(Limit {
                window: Window::Quantised.into(),
                quantum: permitd_tests::span(Duration::ZERO),
                ..requests()
            }),
        ),
        (
            "budget.limits[1].phase",
            with(Limit {
                window: Window::Fixed.into(),
                phase: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
                ..requests()
            }),
        ),
        ("budget.limits[1].models", with(Limit { models: "x".repeat(257), ..requests() })),
        ("budget.limits[1].tenants", with(Limit { tenants: "a\0".to_owned(), ..requests() })),
        (
            "budget.permit_ttl",
            Budget {
                permit_ttl: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..budget("new", vec![])
            },
        ),
        (
            "budget.permit_ttl",
            Budget {
                permit_ttl: Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 }),
                ..budget("new", vec![])
            },
        ),
        (
            "budget.queue.overflow",
            Budget { queue: Some(Queue { overflow: 99, ..Queue::default() }), ..budget("new", vec![]) },
        ),
        (
            "budget.queue.max_wait",
            Budget {
                queue: Some(Queue {
                    max_wait: Some(prost_types::Duration { seconds: 0, nanos: -1 }),
                    ..Queue::default()
                }),
                ..budget("new", vec![])
            },
        ),
        (
            "budget.tenants",
            Budget {
                tenants: (0..50_000).map(|n| (format!("t{n}"), Tenant::default())).collect(),
                ..budget("new", vec![])
            },
        ),
        (
            "budget.tenants",
            Budget { tenants: [(String::new(), Tenant::default())].into(), ..budget("new", vec![]) },
        ),
    ];
    for (_, name) in strange_names() {
        cases.push(("budget.provider", Budget { provider: name.clone(), ..budget("new", vec![]) }));
        cases.push(("budget.key", budget(&name, vec![])));
        cases.push(("budget.limits[1].unit", with(Limit { unit: name.clone(), ..requests() })));
        cases.push((
            "budget.tenants",
            Budget { tenants: [(name, Tenant::default())].into(), ..budget("new", vec![]) },
        ));
    }
    for (field, budget) in cases {
        let refused: Facts = facts(&server.try_declare(budget).await.expect_err(field));
        let named = refused.fields.iter().any(|named| named.starts_with(field));
        assert!(refused.code == Code::InvalidArgument && named, "{field}: {refused:?}");
        assert!(refused.message.len() < 1_000, "a refusal is no echo: {} bytes", refused.message.len());
    }
    let nothing = SetBudgetRequest::default();
    let refused = facts(&server.admin().await.set_budget(nothing).await.expect_err("no budget"));
    assert!(refused.names("budget"), "{refused:?}");
    assert_eq!(server.refused(ask("new")).await.code, Code::NotFound, "nothing of it is in force");

    // The largest that makes sense works, and its arithmetic does not wrap.
    let largest = vec![
        Limit { burst: u64::MAX, ..rate("tokens", u64::MAX, Duration::from_millis(1)) },
        rate("requests", u64::MAX, DAY * 366),
        Limit { window: Window::Sliding.into(), ..rate("points", u64::MAX, DAY * 366) },
        in_flight(u64::MAX),
    ];
    let weights = Tenant { weight: u32::MAX, max_waiting: u32::MAX, ..Tenant::default() };
    let giant = Budget { tenants: [("giant".to_owned(), weights)].into(), ..budget("new", largest) };
    server.declare(giant).await;
    let mut held = Vec::new();
    for tenant in ["giant", "other"] {
        let asked = Usage {
            tokens: Some(u64::MAX),
            requests: Some(u64::MAX / 2),
            other: [("points".to_owned(), u64::MAX / 2)].into(),
            ..Usage::default()
        };
        // A millisecond later there are as many tokens again.
        held.push(
            server.granted(AcquireRequest { tenant: tenant.to_owned(), ..estimate("new", asked) }).await,
        );
    }
    for permit in held {
        let actual = Usage { tokens: Some(u64::MAX), requests: Some(u64::MAX), ..Usage::default() };
        let said = ReportRequest { actual: Some(actual), ..success(&permit.permit_id) };
        assert!(server.report(said).await.settled);
        server.state("new").await;
    }
    server.refused_now(ask("new")).await;
    world.end().await;
}

/// Goal: questions that make no sense to the administration are refused with the field named.
#[tokio::test]
async fn admin_questions_that_make_no_sense() {
    let world = World::start().await;
    let mut admin = world.server.admin().await;
    for token in ["rubbish".to_owned(), "00".repeat(100_000), "\0".to_owned()] {
        let request = ListBudgetsRequest { page_token: token.clone(), ..ListBudgetsRequest::default() };
        assert!(facts(&admin.list_budgets(request).await.expect_err("rubbish")).names("page_token"));
        let request = ListChangesRequest { page_token: token, ..ListChangesRequest::default() };
        assert!(facts(&admin.list_changes(request).await.expect_err("rubbish")).names("page_token"));
    }
    let request = ListChangesRequest { page_size: u32::MAX, ..ListChangesRequest::default() };
    assert!(facts(&admin.list_changes(request).await.expect_err("too many")).names("page_size"));
    let request = WatchBudgetsRequest { filter: "*".repeat(1_000_000), ..WatchBudgetsRequest::default() };
    let status = match admin.watch_budgets(request).await {
        Err(status) => status,
        Ok(watch) => soon("a refusal", watch.into_inner().message()).await.expect_err("too long"),
    };
    assert!(facts(&status).names("filter"));
    // A glob that would take for ever to match, if it were matched carelessly.
    let filter = "a*".repeat(128) + "b";
    world.server.set(&"a".repeat(250), vec![]).await;
    let request = ListBudgetsRequest { filter, ..ListBudgetsRequest::default() };
    soon("an answer", admin.list_budgets(request)).await.expect("a page");
    world.end().await;
}
