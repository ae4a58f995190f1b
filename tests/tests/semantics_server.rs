//! SEMANTICS, "Server" (41 to 44), as far as a server without a store goes: the way out, the bounds, and what machines ask.

use std::time::{Duration, Instant};

use permitd_proto::v1::{
    AcquireRequest, Budget, DeleteBudgetRequest, Limit, ListBudgetsRequest, ReportRequest, SessionRequest,
};
use permitd_tests::{
    DAY, METHODS, Permitd, Server, Session, acquires, ask, budget, call_with_bytes, facts, hello, http_get,
    in_flight, rate, soon, success, until,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_stream::iter;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 3] =
    ["permitd.v1.PermitService", "permitd.v1.AdminService", "permitd.v1.ClusterService"];

/// What the server promises to whoever stops it (41), and some room for a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(13);

const CONFIG: &str = r#"
[server]
drain = "9s"
[budgets."p/k"]
limits = ["in_flight=1"]
"#;

async fn health_of(server: &Server, service: &str) -> Result<ServingStatus, Code> {
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = soon("health", health.check(request)).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

async fn watched(watch: &mut tonic::Streaming<HealthCheckResponse>) -> ServingStatus {
    soon("news of health", watch.message()).await.expect("no error").expect("no end").status()
}

/// Goal (41): health says so first, to those who watch too; whoever waits is told with a hint; nobody new is let in; reports are taken.
#[tokio::test]
async fn s41_draining() {
    let mut server = Server::start_with(|config| config.server.drain = Duration::from_secs(9)).await;
    server.set("k", vec![in_flight(2), rate("tokens", 100, DAY)]).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for service in [""].into_iter().chain(SERVICES) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = health.watch(request).await.expect("a watch").into_inner();
        assert_eq!(watched(&mut watch).await, ServingStatus::Serving);
        watches.push(watch);
    }
    let unary = server.granted_now(ask("k")).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    let held = session.permit(1).await;
    session.ask(2, ask("k")).await;
    session.place(2).await;
    let (mut waiting, _) = server.waiting(ask("k")).await;
    let (_unread, _) = server.waiting(ask("k")).await;

    server.tell_to_stop();
    for watch in &mut watches {
        assert_eq!(watched(watch).await, ServingStatus::NotServing);
    }
    for told in [session.refusal(2).await, waiting.refusal().await] {
        assert_eq!(told.code, Code::Unavailable);
        assert!(told.retry_after.is_some(), "a hint: {told:?}");
    }
    let late = server.refused(ask("k")).await;
    assert_eq!(late.code, Code::Unavailable);
    assert!(late.retry_after.is_some());
    session.ask(3, ask("k")).await;
    assert_eq!(session.refusal(3).await.code, Code::Unavailable);
    assert!(http_get(server.http, "/readyz", None).await.starts_with("HTTP/1.1 503"));
    assert!(http_get(server.http, "/healthz", None).await.starts_with("HTTP/1.1 200"), "alive all the same");
    server.settle(&unary).await;
    session.settle(&held).await;
    // All settled: it need not wait for its 9 seconds.
    session.close();
    server.stopped().await;
}

/// Goal (41): SIGTERM ends the process well and in time, whoever is left: sessions with permits, watches, silent connections, clients
/// that keep asking.
#[tokio::test]
async fn s41_the_process_ends_in_time() {
    let server = Permitd::start(CONFIG).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    session.permit(1).await;
    session.ask(2, ask("k")).await;
    session.place(2).await;
    let _idle = server.session("").await;
    let (_waiting, _) = server.waiting(ask("k")).await;
    let mut health = HealthClient::new(server.channel().await);
    let _watch = health.watch(HealthCheckRequest::default()).await.expect("a watch");
    let _watch = server.admin().await.watch_budgets(permitd_proto::v1::WatchBudgetsRequest::default()).await;
    let _silent = TcpStream::connect(server.address).await.expect("it listens");
    let _silent = TcpStream::connect(server.http).await.expect("it listens");
    let mut permits = server.permits().await;
    let asking = tokio::spawn(async move {
        while permits.acquire(ask("k")).await.is_err_and(|status| status.code() == Code::Unavailable) {
            tokio::task::yield_now().await;
        }
    });
    let began = Instant::now();
    server.terminate();
    let status = timeout(GONE_WITHIN, server.exit()).await.expect("gone in time");
    println!("gone after {:?} with sessions open", began.elapsed());
    assert_eq!(status.code(), Some(0));
    asking.abort();
}

/// Goal (41): with nothing to wait for, it ends at once.
#[tokio::test]
async fn s41_an_idle_process_ends_well() {
    let server = Permitd::start(CONFIG).await;
    let permit = server.granted_now(ask("k")).await;
    server.settle(&permit).await;
    assert!(http_get(server.http, "/readyz", None).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}

/// Goal (42): a budget takes 100,000 who wait, a session 10,000; the next one is refused by name, and nobody who waits is hurt.
#[tokio::test]
async fn s42_who_may_wait() {
    let server = Server::with(vec![in_flight(1)]).await;
    let held = server.granted_now(ask("k")).await;
    let quiet = permitd_proto::v1::Hello { progress: false, ..hello("") };
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let mut session = Session::open(server.channel().await, quiet.clone()).await;
        for message in 0..10 {
            let ids = message * 1_000..(message + 1) * 1_000;
            session
                .send(acquires(ids.map(|request_id| AcquireRequest { request_id, ..ask("k") }).collect()))
                .await;
        }
        session.barrier().await;
        assert!(session.refused.is_empty(), "{:?}", session.refused.front());
        session.ask(10_000, ask("k")).await;
        assert_eq!(session.refusal(10_000).await.code, Code::ResourceExhausted, "the session's own bound");
        sessions.push(session);
    }
    assert_eq!(server.state("k").await.waiting, 100_000);
    let full = server.refused(ask("k")).await;
    assert_eq!(full.says(), (Code::ResourceExhausted, "QUEUE_FULL"));
    // The first who asked is the first to be served.
    server.settle(&held).await;
    sessions[0].permit(0).await;
    server.stop().await;
}

/// Goal (42): 1,000 acquires and 10,000 cancels a message are taken, one more ends the stream with the field named.
#[tokio::test]
async fn s42_items_in_a_message() {
    let server = Server::with(vec![]).await;
    let asks =
        |count| acquires((0..count).map(|request_id| AcquireRequest { request_id, ..ask("k") }).collect());
    let cancels = |count| SessionRequest { cancel: (0..count).collect(), ..SessionRequest::default() };
    for (field, most, more) in
        [("acquire", asks(1_000), asks(1_001)), ("cancel", cancels(10_000), cancels(10_001))]
    {
        let mut session = server.session("").await;
        session.send(most).await;
        session.barrier().await;
        session.send(more).await;
        let refused = facts(&session.end().await.expect_err("too many"));
        assert!(refused.names(field), "{refused:?}");
    }
    server.stop().await;
}

/// Goal (42): names have up to 256 bytes, wherever they are.
#[tokio::test]
async fn s42_names() {
    let server = Server::start().await;
    let name = |bytes: usize| "é".repeat(bytes / 2) + &"x".repeat(bytes % 2);
    let long = Budget {
        provider: name(256),
        limits: vec![Limit { models: name(256), tenants: name(256), ..rate(&name(256), 10, DAY) }],
        tenants: [(name(256), permitd_proto::v1::Tenant::default())].into(),
        ..budget(&name(256), vec![])
    };
    server.declare(long).await;
    let request =
        AcquireRequest { provider: name(256), tenant: name(256), model: name(256), ..ask(&name(256)) };
    server.granted_now(request.clone()).await;
    for (field, request) in [
        ("provider", AcquireRequest { provider: name(257), ..request.clone() }),
        ("key", AcquireRequest { key: name(257), ..request.clone() }),
        ("tenant", AcquireRequest { tenant: name(257), ..request.clone() }),
        ("model", AcquireRequest { model: name(257), ..request.clone() }),
    ] {
        let refused = server.refused(request).await;
        assert!(refused.names(field), "{field}: {refused:?}");
    }
    server.stop().await;
}

/// Goal (42): a message of nearly 4 MiB is taken, one of 20 MB is refused, on calls and on sessions, and the connection lives on.
#[tokio::test]
async fn s42_message_sizes() {
    let server = Server::with(vec![in_flight(5)]).await;
    let sized = |bytes| ReportRequest { body: vec![7; bytes], ..success("x") };
    let channel = server.channel().await;
    let mut client = permitd_proto::v1::permit_service_client::PermitServiceClient::new(channel.clone())
        .max_encoding_message_size(usize::MAX);
    let fits = client.report(sized(4 * 1_024 * 1_024 - 100)).await.expect_err("longer than a body may be");
    assert!(facts(&fits).names("body"), "it was read: {fits:?}");
    let refusals = [Code::ResourceExhausted, Code::OutOfRange, Code::InvalidArgument];
    let refused = client.report(sized(20_000_000)).await.expect_err("too large");
    assert!(refusals.contains(&refused.code()) && !refused.message().is_empty(), "{refused:?}");
    let mut session = Session::open(channel.clone(), hello("")).await;
    session.send(SessionRequest { report: vec![sized(20_000_000)], ..SessionRequest::default() }).await;
    let refused = session.end().await.expect_err("too large");
    assert!(refusals.contains(&refused.code()) && !refused.message().is_empty(), "{refused:?}");
    assert!(!client.report(success("x")).await.expect("the connection lives on").into_inner().settled);
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (42): bounds are configurable, and what is beyond them is refused by name.
#[tokio::test]
async fn s42_bounds_are_configurable() {
    let server = Server::start_with(|config| {
        let bounds = &mut config.server.bounds;
        (bounds.sessions, bounds.waiting_per_session, bounds.acquires_per_message) = (2, 3, 5);
        (bounds.budgets, bounds.watches, bounds.message_bytes) = (2, 1, 65_536);
    })
    .await;
    server.set("k", vec![in_flight(1)]).await;
    server.set("l", vec![in_flight(1)]).await;
    let full = facts(&server.try_declare(budget("m", vec![])).await.expect_err("two budgets"));
    assert_eq!(full.code, Code::ResourceExhausted);
    server.set("l", vec![in_flight(2)]).await;
    let mut session = server.session("").await;
    let asks = |ids: std::ops::Range<u64>| {
        acquires(ids.map(|request_id| AcquireRequest { request_id, ..ask("k") }).collect())
    };
    session.send(asks(0..5)).await;
    session.permit(0).await;
    assert_eq!(session.refusal(4).await.code, Code::ResourceExhausted);
    let second = server.session("").await;
    let greeting = || SessionRequest { hello: Some(hello("")), ..SessionRequest::default() };
    let third = Session::try_open(server.channel().await, greeting()).await.expect_err("two sessions");
    assert_eq!(facts(&third).code, Code::ResourceExhausted);
    session.send(asks(10..16)).await;
    assert_eq!(facts(&session.end().await.expect_err("six acquires")).code, Code::InvalidArgument);
    drop(second);
    let watch =
        async || server.admin().await.watch_budgets(permitd_proto::v1::WatchBudgetsRequest::default()).await;
    let first = watch().await.expect("a watch");
    let status = watch().await.map(drop).expect_err("one watch");
    assert_eq!(facts(&status).code, Code::ResourceExhausted);
    drop(first);
    until("the room of the watch that is gone", async || watch().await.is_ok()).await;
    server.stop().await;
}

/// Goal (43): bytes that do not decode are INTERNAL at worst, on every method; what decodes is judged with a fitting code.
#[tokio::test]
async fn s43_bytes_that_do_not_decode() {
    let server = Server::with(vec![in_flight(1)]).await;
    let channel = server.channel().await;
    // A field that never ends, a wire type that there is not, a length beyond the end, text that is no UTF-8.
    let broken: [&[u8]; 5] =
        [&[0xff; 11], &[0x0f], &[0x0a, 0x7f, b'p'], &[0x0a, 0x02, 0xc3, 0x28], &[0x08; 3]];
    for method in METHODS {
        for bytes in broken {
            let status = call_with_bytes(channel.clone(), method, bytes.to_vec()).await;
            let status = match status {
                Err(status) => status,
                // A field of another type in a message that has no fields to speak of.
                Ok(answer) => panic!("{method} took {bytes:x?}: {answer:?}"),
            };
            assert!(
                matches!(status.code(), Code::Internal | Code::InvalidArgument),
                "{method} with {bytes:x?}: {status:?}"
            );
        }
    }
    let unknown =
        call_with_bytes(channel, "/permitd.v1.PermitService/Nothing", vec![]).await.expect_err("no method");
    assert_eq!(unknown.code(), Code::Unimplemented);
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (43): no refusal that a caller can provoke in the ordinary way is INTERNAL or UNKNOWN, and each says what is wrong.
#[tokio::test]
async fn s43_empty_messages() {
    let server = Server::start().await;
    let channel = server.channel().await;
    for method in METHODS {
        if let Err(status) = call_with_bytes(channel.clone(), method, vec![]).await {
            let refused = facts(&status);
            assert!(
                matches!(refused.code, Code::InvalidArgument | Code::FailedPrecondition),
                "{method} with an empty message: {refused:?}"
            );
        }
    }
    let nameless = DeleteBudgetRequest::default();
    let refused = facts(&server.admin().await.delete_budget(nameless).await.expect_err("no provider"));
    assert!(refused.names("provider"), "{refused:?}");
    server.admin().await.list_budgets(ListBudgetsRequest::default()).await.expect("all of none");
    server.stop().await;
}

/// Goal (44): health answers for the whole and for each service by name, and for nothing else.
#[tokio::test]
async fn s44_health() {
    let server = Server::start().await;
    for service in [""].into_iter().chain(SERVICES) {
        assert_eq!(health_of(&server, service).await, Ok(ServingStatus::Serving), "{service:?}");
    }
    assert_eq!(health_of(&server, "permitd.v1.Nobody").await, Err(Code::NotFound));
    server.stop().await;
}

/// Goal: both versions of reflection list the services and describe every one of them.
#[tokio::test]
async fn reflection() {
    use v1::server_reflection_response::MessageResponse as Answer;
    use v1alpha::server_reflection_response::MessageResponse as AlphaAnswer;

    let server = Server::start().await;
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let describe =
        |name: &str| v1::server_reflection_request::MessageRequest::FileContainingSymbol(name.to_owned());
    let asked = [list, describe(SERVICES[0]), describe(SERVICES[1]), describe(SERVICES[2])];
    let asked = asked
        .map(|request| v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(iter(asked)).await.expect("a stream").into_inner();
    let mut next =
        async || soon("v1", answers.message()).await.expect("no error").expect("no end").message_response;
    let Some(Answer::ListServicesResponse(services)) = next().await else { panic!("a list") };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(SERVICES.iter().all(|service| names.iter().any(|name| name == service)), "{names:?}");
    for service in SERVICES {
        assert!(matches!(next().await, Some(Answer::FileDescriptorResponse(_))), "{service}");
    }

    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let describe = |name: &str| {
        v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(name.to_owned())
    };
    let asked = [list, describe(SERVICES[0]), describe(SERVICES[1]), describe(SERVICES[2])];
    let asked = asked.map(|request| v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    });
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(iter(asked)).await.expect("a stream").into_inner();
    let mut next = async || {
        soon("v1alpha", answers.message()).await.expect("no error").expect("no end").message_response
    };
    assert!(matches!(next().await, Some(AlphaAnswer::ListServicesResponse(_))));
    for service in SERVICES {
        assert!(matches!(next().await, Some(AlphaAnswer::FileDescriptorResponse(_))), "{service}");
    }
    server.stop().await;
}

/// Goal (44): http answers what machines ask, and the metrics tell what was done.
#[tokio::test]
async fn s44_http() {
    let server = Server::with(vec![rate("requests", 2, DAY)]).await;
    server.granted_now(ask("k")).await;
    server.granted_now(ask("k")).await;
    server.refused_now(ask("k")).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(http_get(server.http, path, None).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(http_get(server.http, "/nothing", None).await.starts_with("HTTP/1.1 404"));
    let metrics = http_get(server.http, "/metrics", None).await;
    let granted = metrics
        .lines()
        .find(|line| line.contains("grants") && line.contains("\"k\"") && !line.starts_with('#'));
    assert!(granted.is_some_and(|line| line.ends_with(" 2")), "{granted:?}");
    assert!(metrics.lines().any(|line| line.contains("NOT_IN_TIME") && line.ends_with(" 1")), "{metrics}");
    server.stop().await;
}
