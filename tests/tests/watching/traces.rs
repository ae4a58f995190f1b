//! Spans of acquires, and the exemplars that lead to them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use permitd_proto::v1::AcquireRequest;
use permitd_tests::{Server, ask, hello, http_get, in_flight, rate};
use tonic::Request;

use crate::collector::{Collector, texts};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn context(sampled: bool) -> String {
    format!("00-{TRACE}-{PARENT}-{:02}", u8::from(sampled))
}

async fn started(sample_one_in: u32) -> (Server, Collector) {
    let (collector, address) = Collector::start().await;
    let server = Server::start_with(|config| {
        config.server.telemetry.otlp = Some(format!("http://{address}"));
        config.server.telemetry.sample_one_in = sample_one_in;
    })
    .await;
    (server, collector)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    texts(&span.attributes)
}

fn status(span: &Span) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, |status| status.code())
}

/// Goal: a call's context and a session item's own are what their spans hang below; the caller's decision counts.
#[tokio::test]
async fn spans_hang_below_their_callers() {
    let (server, collector) = started(0).await;
    server.set("k", vec![rate("requests", 60, permitd_tests::HOUR)]).await;
    let mut call =
        Request::new(AcquireRequest { tenant: "web".to_owned(), model: "m".to_owned(), ..ask("k") });
    call.metadata_mut().insert("traceparent", context(true).parse().expect("ASCII"));
    server.acquire(call).await.expect("taken").permit().await;
    let mut session = server.session("traced").await;
    session.ask(1, AcquireRequest { traceparent: context(true), ..ask("k") }).await;
    session.permit(1).await;
    for (request_id, traceparent) in [(2, context(false)), (3, String::new()), (4, "nonsense".to_owned())] {
        session.ask(request_id, AcquireRequest { traceparent, ..ask("k") }).await;
        session.permit(request_id).await;
    }
    drop(session);
    server.stop().await;
    let spans = collector.spans().await;
    assert_eq!(spans.len(), 2, "only what is to be sampled: {spans:#?}");
    for span in &spans {
        assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!((span.name.as_str(), status(span)), ("permitd.acquire", StatusCode::Ok));
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
    assert_ne!(spans[0].span_id, spans[1].span_id);
    let unary = attributes(&spans[0]);
    let said = ["budget", "tenant", "model", "priority", "outcome", "permits", "queue_time"];
    let said = said.map(|name| unary[&format!("permitd.{name}")].as_str());
    assert_eq!(said, ["p/k", "web", "m", "standard", "granted", "1", "0"]);
    assert_eq!(collector.sender().await["service.name"], "permitd");
}

/// Goal: a span has the time in the queue and the limit that bound; so do refusals and what was taken back.
#[tokio::test]
async fn spans_tell_what_bound() {
    let (server, collector) = started(1).await;
    server.set("k", vec![in_flight(1), rate("requests", 60, permitd_tests::HOUR)]).await;
    // Exemplars are kept for whoever scrapes: of what happens from then on.
    http_get(server.http, "/metrics", None).await;
    let held = server.granted_now(ask("k")).await;
    let (mut call, _) = server.waiting(ask("k")).await;
    let mut session = server.session("traced").await;
    session.ask(1, ask("k")).await;
    session.place(1).await;
    session.cancel(1).await;
    session.refusal(1).await;
    server.refused_now(ask("k")).await;
    server.settle(&held).await;
    call.permit().await;
    drop((call, session));
    let metrics = http_get(server.http, "/metrics", None).await;
    server.stop().await;

    let spans = collector.spans().await;
    let ends: Vec<_> = spans.iter().map(|span| (attributes(span), status(span))).collect();
    let outcomes: Vec<&str> = ends.iter().map(|(said, _)| said["permitd.outcome"].as_str()).collect();
    assert_eq!(outcomes, ["granted", "granted", "cancelled", "refused"]);
    let (waited, _) = &ends[1];
    assert_eq!(
        (waited["permitd.held_by"].as_str(), waited["permitd.limit"].as_str()),
        ("in_flight", "in_flight")
    );
    assert!(waited["permitd.queue_time"].parse::<f64>().expect("a number") > 0.0);
    assert_eq!(ends[2].1, StatusCode::Unset);
    let (refused, code) = &ends[3];
    assert_eq!(
        (refused["permitd.reason"].as_str(), refused["permitd.limit"].as_str()),
        ("NOT_IN_TIME", "in_flight")
    );
    assert_eq!(*code, StatusCode::Error);

    // The histogram of waits leads to the traces of those who were granted something.
    let traced = |span: &Span| metrics.contains(&format!("# {{trace_id=\"{}\"}}", hex(&span.trace_id)));
    assert!(traced(&spans[1]), "no exemplar for the one that waited:\n{metrics}");
    assert!(!traced(&spans[3]), "who got nothing did not wait for a grant");
}

/// Goal: a collector that is not there costs nobody a permit, nor the server its orderly end.
#[tokio::test]
async fn nobody_collects() {
    let server = Server::start_with(|config| {
        config.server.telemetry.otlp = Some("http://127.0.0.1:1".to_owned());
        config.server.telemetry.sample_one_in = 1;
    })
    .await;
    server.set("k", vec![in_flight(1_000)]).await;
    let mut session = permitd_tests::Session::open(server.channel().await, hello("s")).await;
    for request_id in 1..=1_000 {
        session.ask(request_id, ask("k")).await;
    }
    for request_id in 1..=1_000 {
        session.permit(request_id).await;
    }
    drop(session);
    server.stop().await;
}
