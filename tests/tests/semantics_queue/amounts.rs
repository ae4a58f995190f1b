//! How much a permit takes: estimates, settling, cushion, windows (2 to 7, 15 to 17).

use std::time::Duration;

use permitd_proto::v1::{AcquireRequest, Limit, Outcome, Permit, ReportRequest, Usage, Window};
use permitd_tests::{DAY, HOUR, Server, ask, estimate, in_flight, rate, report, span, tokens};
use tonic::Code;

use crate::support::{NOT_IN_TIME, charged, hint, model, tenant};

fn used(permit: &Permit, actual: Usage) -> ReportRequest {
    ReportRequest { actual: Some(actual), ..report(&permit.permit_id, Outcome::Success) }
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

/// Goal (3): after refusals have taught a cushion, a request of all that a limit holds is still granted, and one of more still impossible.
#[tokio::test]
async fn s03_the_cushion_blocks_nothing_that_fits_alone() {
    let server = Server::with(vec![rate("tokens", 100, Duration::from_secs(1))]).await;
    for _ in 0..3 {
        let permit = server.granted(tokens("k", 10)).await;
        let refused = ReportRequest {
            retry_after: span(Duration::ZERO),
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
