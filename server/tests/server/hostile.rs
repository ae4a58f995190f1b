//! Peers that are wrong, careless or malicious: each gets a fitting answer, and nobody else notices.

use permitd_budget::LimitSpec;
use permitd_proto::v1::{AcquireRequest, Hello, ReportRequest, SessionRequest, Usage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{DAY, Server, acquires, ask, hello, soon, success};

fn budgets() -> Vec<(&'static str, Vec<LimitSpec>)> {
    vec![("k", vec![LimitSpec::rate("tokens", 1_000, DAY), LimitSpec::in_flight(5)])]
}

/// What a stream that begins with these messages ends with.
async fn refusal(server: &Server, messages: Vec<SessionRequest>) -> Status {
    let (sender, outbound) = mpsc::channel(messages.len().max(1));
    for message in messages {
        sender.send(message).await.expect("room");
    }
    let mut client = server.permits().await.max_encoding_message_size(usize::MAX);
    let mut stream = match soon("an answer", client.session(ReceiverStream::new(outbound))).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    loop {
        match soon("the end", stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a refusal, not an end"),
            Err(status) => return status,
        }
    }
}

fn greeting() -> SessionRequest {
    SessionRequest { hello: Some(hello("")), ..SessionRequest::default() }
}

/// Goal: breaches of the protocol end the stream with the status that says which.
#[tokio::test]
async fn protocol_errors_end_the_stream() {
    let server = Server::start(&budgets()).await;
    let reason = |status: &Status| status.get_error_details().error_info().map(|info| info.reason.clone());
    let status = refusal(&server, vec![acquires(vec![ask(1, "k")])]).await;
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("HELLO_MISSING"))
    );
    let status = refusal(&server, vec![greeting(), greeting()]).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let too_many = acquires((0..1_001).map(|id| ask(id, "k")).collect());
    let status = refusal(&server, vec![greeting(), too_many]).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().bad_request().expect("one").field_violations[0].field, "acquire");
    let too_many = SessionRequest { cancel: (0..10_001).collect(), ..SessionRequest::default() };
    assert_eq!(refusal(&server, vec![greeting(), too_many]).await.code(), Code::InvalidArgument);
    let nameless = Hello { tenant: "t".repeat(257), ..hello("") };
    let status = refusal(&server, vec![SessionRequest { hello: Some(nameless), ..Default::default() }]).await;
    assert_eq!(
        status.get_error_details().bad_request().expect("one").field_violations[0].field,
        "hello.tenant"
    );
    server.stop().await;
}

/// Goal: a bad item gets its own refusal with the field named, and the stream goes on.
#[tokio::test]
async fn bad_items_do_not_end_the_stream() {
    let server = Server::start(&budgets()).await;
    let mut session = server.session("").await;
    let usage = |amount| Some(Usage { tokens: Some(amount), ..Usage::default() });
    let bad = vec![
        ("provider", AcquireRequest { provider: "p".repeat(257), ..ask(1, "k") }),
        ("provider", AcquireRequest { provider: "a/b".to_owned(), ..ask(2, "k") }),
        ("key", AcquireRequest { key: "k".repeat(257), ..ask(3, "k") }),
        ("tenant", AcquireRequest { tenant: "\n".to_owned(), ..ask(4, "k") }),
        ("count", AcquireRequest { count: u32::MAX, ..ask(5, "k") }),
        (
            "max_wait",
            AcquireRequest { max_wait: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..ask(6, "k") },
        ),
        ("tokens", AcquireRequest { tokens: 4, estimate: usage(5), ..ask(7, "k") }),
    ];
    session.send(acquires(bad.iter().map(|(_, request)| request.clone()).collect())).await;
    for (field, request) in &bad {
        let refused = session.refused().await;
        assert_eq!(refused.request_id, request.request_id);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::InvalidArgument as u32, "INVALID_ARGUMENT")
        );
        assert!(refused.message.starts_with(&format!("{field}: ")), "{} names {field}", refused.message);
    }
    session.send(acquires(vec![AcquireRequest { tokens: u64::MAX, ..ask(8, "k") }])).await;
    assert_eq!(session.refused().await.reason, "LARGER_THAN_LIMIT");
    let report = ReportRequest { body: vec![0; 5_000], ..success("x") };
    session.send(SessionRequest { report: vec![report], ..Default::default() }).await;
    let refused = session.refused().await;
    assert_eq!((refused.permit_id.as_str(), refused.code), ("x", Code::InvalidArgument as u32));
    session.ask(9, "k").await;
    session.permit(9).await;
    server.stop().await;
}

/// Goal: absurd actual usage saturates; the permit is settled and the server goes on.
#[tokio::test]
async fn absurd_usage_settles() {
    let server = Server::start(&budgets()).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let permit_id = session.permit(1).await.permit_id;
    let actual = Usage { tokens: Some(u64::MAX), requests: Some(u64::MAX), ..Usage::default() };
    let report = ReportRequest { actual: Some(actual), ..success(&permit_id) };
    session.send(SessionRequest { report: vec![report], ..Default::default() }).await;
    assert!(session.reported().await.settled);
    session.send(acquires(vec![AcquireRequest { tokens: 1, ..ask(2, "k") }])).await;
    session.nothing_granted().await;
    server.stop().await;
}

/// Goal: what one session may have waiting is bounded, item by item.
#[tokio::test]
async fn waiting_is_bounded() {
    let server = Server::start_with(&[("k", vec![LimitSpec::in_flight(1)])], |config| {
        config.server.bounds.waiting_per_session = 10;
        config.server.bounds.sessions = 1;
    })
    .await;
    let mut session = server.session("").await;
    session.send(acquires((0..12).map(|id| ask(id, "k")).collect())).await;
    session.permit(0).await;
    let refused = session.refused().await;
    assert_eq!((refused.request_id, refused.reason.as_str()), (11, "SESSION_FULL"));
    assert_eq!(refused.code, Code::ResourceExhausted as u32);
    let status = refusal(&server, vec![greeting()]).await;
    assert_eq!(status.get_error_details().error_info().expect("one").reason, "TOO_MANY_SESSIONS");
    server.stop().await;
}

/// Goal: a message of 20 MB is refused, and others go on as before.
#[tokio::test]
async fn huge_messages_are_refused() {
    let server = Server::start(&budgets()).await;
    let huge = ReportRequest { body: vec![7; 20_000_000], ..success("x") };
    let mut client = server.permits().await.max_encoding_message_size(usize::MAX);
    let status = client.report(huge.clone()).await.expect_err("too large");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let status =
        refusal(&server, vec![greeting(), SessionRequest { report: vec![huge], ..Default::default() }]).await;
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    server.session("").await.ask(1, "k").await;
    server.stop().await;
}

/// Goal: bytes that are no HTTP/2 get nothing, and end nothing but their own connection.
#[tokio::test]
async fn random_bytes() {
    let server = Server::start(&budgets()).await;
    let mut session = server.session("").await;
    for seed in 1..=20_u64 {
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        let mut state = seed;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(4_096)
        .collect();
        // The server may hang up before all of it is written.
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("a hang-up", stream.read_to_end(&mut answer)).await;
    }
    session.ask(1, "k").await;
    session.permit(1).await;
    server.stop().await;
}

/// Goal: a client that sends thousands and reads nothing in between still gets every answer, in messages that it can take.
#[tokio::test]
async fn a_flood_is_answered() {
    const MESSAGES: u64 = 20;
    let server = Server::start(&[("k", vec![LimitSpec::rate("requests", 1_000_000, DAY)])]).await;
    let mut session = server.session("").await;
    for message in 0..MESSAGES {
        session.send(acquires((0..1_000).map(|id| ask(message * 1_000 + id, "k")).collect())).await;
    }
    for request_id in 0..MESSAGES * 1_000 {
        session.permit(request_id).await;
    }
    server.stop().await;
}
