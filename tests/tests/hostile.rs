//! Peers that are wrong, careless or malicious, against the real process: each gets a fitting answer with the field named, a polite client
//! beside it keeps being served, and nothing panics.

use std::{iter, time::Duration};

use permitd_client::{Client, Report};
use permitd_proto::v1::{
    AcquireRequest, Budget, Hello, Limit, ListBudgetsRequest, ListChangesRequest, Outcome, Queue,
    ReportRequest, SessionRequest, SetBudgetRequest, Tenant, Usage, WatchBudgetsRequest, Window,
    permit_service_client::PermitServiceClient,
};
use permitd_tests::{
    DAY, Facts, METHODS, Permitd, Session, acquires, ask, budget, call_with_bytes, estimate, facts, hello,
    in_flight, raise_open_files, rate, refused_facts, report, soon, success, tokens,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, metadata::MetadataValue};

/// `polite` is for the polite client, `k` for everybody else.
const CONFIG: &str = r#"
[server]
drain = "0s"
[budgets."p/polite"]
limits = ["requests=1M/1s", "in_flight=10"]
[budgets."p/k"]
limits = ["tokens=1000/1d", "requests=1M/1s"]
"#;

/// A server, and a polite client that has to be served whatever the others do.
struct World {
    server: Permitd,
    polite: Client,
}

impl World {
    async fn start() -> Self {
        let server = Permitd::start(CONFIG).await;
        let polite = soon("a session", Client::connect([server.url()])).await.expect("a server");
        Self { server, polite }
    }

    /// The polite client is served, by its old session and by a new connection.
    async fn is_well(&self) {
        let acquiring = iter::repeat_with(|| async {
            let asked = std::future::IntoFuture::into_future(self.polite.acquire("p/polite"));
            let guard = soon("a permit for the polite one", asked).await.expect("no error");
            assert!(soon("an answer", guard.report(Report::success())).await.expect("no error").settled);
        });
        futures_util::future::join_all(acquiring.take(20)).await;
        let mut session = self.server.session("").await;
        session.ask(1, ask("polite")).await;
        let permit = session.permit(1).await;
        session.settle(&permit).await;
    }

    /// Everything is well, and the process has not panicked.
    async fn end(self) {
        self.is_well().await;
        let state = self.server.state("polite").await;
        assert_eq!((state.in_flight, state.waiting), (0, 0));
        soon("the end of the polite one", self.polite.close()).await;
        self.server.stop().await;
    }
}

/// Bytes that look random and are the same each time.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    iter::repeat_with(draw).take(bytes).collect()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An HTTP/2 frame that says that it has this payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, without compression.
fn call_headers(path: &str) -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let mut field = vec![0, u8::try_from(name.len()).expect("short")];
        field.extend(name.bytes());
        field.push(u8::try_from(value.len()).expect("short"));
        field.extend(value.bytes());
        field
    };
    // POST and http stand in HPACK's table.
    let mut block = vec![0x83, 0x86];
    block.extend(literal(":path", path));
    block.extend(literal(":authority", "tests"));
    block.extend(literal("content-type", "application/grpc"));
    block.extend(literal("te", "trailers"));
    block
}

/// Sends the bytes, half-closes, and reads whatever comes until the server hangs up.
async fn send_and_hang_up(server: &Permitd, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    let sending = async {
        // The server may hang up before it has read all.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    };
    soon("the server to hang up", sending).await;
}

/// Goal: bytes that are no HTTP/2, or begin as such and go wrong, end nothing but their own connection.
#[tokio::test]
async fn raw_bytes() {
    let world = World::start().await;
    let opened = |more: &[u8]| [PREFACE, &frame(4, 0, 0, &[]), more].concat();
    let acquire = call_headers(METHODS[0]);
    let headers = |stream, flags| frame(1, flags, stream, &acquire);
    let mut huge_length = frame(0, 0, 1, &[]);
    huge_length[..3].copy_from_slice(&[0xff; 3]);
    let rapid_resets: Vec<u8> = (0..5_000)
        .flat_map(|n| [headers(2 * n + 1, 0x5), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    let continuations: Vec<u8> = iter::once(frame(1, 0, 1, &acquire))
        .chain((0..500).map(|n| frame(9, 0, 1, &noise(n, 1_000))))
        .flatten()
        .collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        (
            "HTTP/1.1 POST",
            b"POST /permitd.v1.PermitService/Acquire HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
                .to_vec(),
        ),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(7, 500)].concat()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("preface alone", PREFACE.to_vec()),
        ("preface and noise", [PREFACE, &noise(1, 10_000)].concat()),
        ("truncated settings", [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1][..]].concat()),
        ("absurd settings", opened(&frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff, 0, 5, 0, 0, 0, 1]))),
        ("frame of 16 MiB", opened(&huge_length)),
        ("data on no stream", opened(&frame(0, 0, 1, b"hello"))),
        ("data on stream 0", opened(&frame(0, 0, 0, b"hello"))),
        ("headers that are noise", opened(&frame(1, 0x5, 1, &noise(2, 200)))),
        ("truncated headers", opened(&headers(1, 0x5)[..30])),
        ("headers on an even stream", opened(&headers(2, 0x5))),
        (
            "unknown frames",
            opened(&(10..=255).flat_map(|kind| frame(kind, 0xff, 0, b"?")).collect::<Vec<u8>>()),
        ),
        ("settings flood", opened(&frame(4, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(2_000))),
        ("ping flood", opened(&frame(6, 0, 0, b"pingpong").repeat(2_000))),
        ("rapid resets", opened(&rapid_resets)),
        ("continuation flood", opened(&continuations)),
        (
            "a message of 4 GiB",
            opened(&[headers(1, 0x4), frame(0, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])].concat()),
        ),
        (
            "a truncated message",
            opened(&[headers(1, 0x4), frame(0, 1, 1, &[0, 0, 0, 0, 9, 1, 2, 3])].concat()),
        ),
        (
            "a compressed message",
            opened(&[headers(1, 0x4), frame(0, 1, 1, &[1, 0, 0, 0, 3, 1, 2, 3])].concat()),
        ),
        ("a call without a body", opened(&headers(1, 0x4))),
        ("window overflow", opened(&frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(3))),
        ("go away", opened(&frame(7, 0, 0, &[0; 8]))),
    ];
    for (name, bytes) in cases {
        println!("{name}");
        send_and_hang_up(&world.server, &bytes).await;
        world.is_well().await;
    }
    for seed in 0..50 {
        send_and_hang_up(&world.server, &noise(seed, 4_096)).await;
    }
    world.end().await;
}

/// Goal: headers without end are refused, and the connection's other calls go on.
#[tokio::test]
async fn huge_headers() {
    let world = World::start().await;
    let channel = world.server.channel().await;
    let mut client = PermitServiceClient::new(channel.clone());
    for (headers, bytes) in [(1, 1_000_000), (1_000, 1_000), (20_000, 0)] {
        let mut request = Request::new(success("x"));
        for n in 0..headers {
            let name = tonic::metadata::MetadataKey::from_bytes(format!("x-{n}").as_bytes()).expect("a name");
            request.metadata_mut().insert(name, "v".repeat(bytes).parse().expect("ASCII"));
        }
        let status = soon("an answer", client.report(request)).await.expect_err("too much");
        println!("{headers} of {bytes}: {status:?}");
        world.is_well().await;
    }
    let mut binary = Request::new(success("x"));
    binary.metadata_mut().insert_bin("x-bin", MetadataValue::from_bytes(&noise(3, 1_000)));
    binary.metadata_mut().insert("grpc-timeout", "nonsense".parse().expect("ASCII"));
    soon("an answer", client.report(binary)).await.expect("nobody reads those");
    world.end().await;
}

/// Goal: invalid protobuf is INTERNAL at worst on every method, from noise as from broken messages, and nothing breaks.
#[tokio::test]
async fn invalid_protobuf() {
    let world = World::start().await;
    let channel = world.server.channel().await;
    let fine =
        [Code::Internal, Code::InvalidArgument, Code::FailedPrecondition, Code::NotFound, Code::OutOfRange];
    for method in METHODS {
        for seed in 0..40 {
            let bytes = noise(seed, usize::try_from(seed * seed).expect("small"));
            if let Err(status) = call_with_bytes(channel.clone(), method, bytes).await {
                assert!(fine.contains(&status.code()), "{method}, seed {seed}: {status:?}");
            }
        }
        // provider = two bytes that are no UTF-8.
        let status =
            call_with_bytes(channel.clone(), method, vec![0x0a, 2, 0xc3, 0x28]).await.expect_err("no text");
        assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{method}: {status:?}");
        // Messages within messages, deeper than any decoder goes.
        let nested = (0..300).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut outer = vec![0x22];
            let mut length = inner.len();
            while length >= 0x80 {
                outer.push(u8::try_from(length & 0x7f).expect("7 bits") | 0x80);
                length >>= 7;
            }
            outer.push(u8::try_from(length).expect("7 bits"));
            outer.extend(inner);
            outer
        });
        let _ = call_with_bytes(channel.clone(), method, nested).await;
    }
    world.end().await;
}

fn strange_names() -> Vec<(&'static str, String)> {
    vec![
        ("NUL", "a\0b".to_owned()),
        ("newline", "a\nb".to_owned()),
        ("escape", "\u{1b}[31m".to_owned()),
        ("C1 control", "a\u{85}b".to_owned()),
        ("257 bytes", "x".repeat(257)),
        ("a megabyte", "x".repeat(1_000_000)),
    ]
}

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

/// Goal: permit ids that nobody issued, however long or strange, settle nothing, extend nothing and teach nothing.
#[tokio::test]
async fn forged_permits() {
    let world = World::start().await;
    let server = &world.server;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    let real = session.permit(1).await.permit_id;
    let mut forged: Vec<String> = strange_names().into_iter().map(|(_, name)| name).collect();
    forged.extend([String::new(), real.to_lowercase(), format!("{real}="), real.repeat(2), "😀".repeat(7)]);
    for id in forged.iter().filter(|id| **id != real) {
        let lie =
            ReportRequest { retry_after: permitd_tests::span(DAY), ..report(id, Outcome::QuotaExhausted) };
        match server.try_report(lie).await {
            Ok(answer) => {
                assert!(!answer.settled);
                assert!(answer.permit_id.len() <= 1_024, "an answer is no echo of a megabyte");
            }
            Err(status) => assert_eq!(facts(&status).code, Code::InvalidArgument),
        }
        session.extend(id).await;
        let refused = session.next_refused().await;
        assert!(
            matches!(refused_facts(&refused).code, Code::NotFound | Code::InvalidArgument),
            "{refused:?}"
        );
    }
    // 10,000 guesses in one message.
    let guesses = (0..10_000).map(|n| report(&format!("{n:028}"), Outcome::QuotaExhausted)).collect();
    session.send(SessionRequest { report: guesses, ..SessionRequest::default() }).await;
    for _ in 0..10_000 {
        assert!(!session.next_reported().await.settled);
    }
    server.granted_now(ask("k")).await;
    assert!(session.report(success(&real)).await.settled);
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
    let weights = Tenant { weight: u32::MAX, max_waiting: u32::MAX };
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

/// Goal: a session message with too many items ends its stream with the field named; its neighbours never notice.
#[tokio::test]
async fn too_many_items() {
    let world = World::start().await;
    let report = |n| ReportRequest { permit_id: format!("{n}"), ..ReportRequest::default() };
    let messages = [
        (
            "acquire",
            acquires((0..1_001).map(|request_id| AcquireRequest { request_id, ..ask("k") }).collect()),
        ),
        ("acquire", acquires(vec![AcquireRequest::default(); 1_000_000])),
        ("cancel", SessionRequest { cancel: vec![0; 10_001], ..SessionRequest::default() }),
        ("cancel", SessionRequest { cancel: vec![0; 3_000_000], ..SessionRequest::default() }),
        (
            "report",
            SessionRequest { report: (0..100_000).map(report).collect(), ..SessionRequest::default() },
        ),
        ("extend", SessionRequest { extend: vec![String::new(); 1_000_000], ..SessionRequest::default() }),
    ];
    for (field, message) in messages {
        let mut session = world.server.session("").await;
        session.send(message).await;
        let refused = facts(&session.end().await.expect_err("too many"));
        assert!(refused.names(field), "{refused:?}");
        world.is_well().await;
    }
    for (field, wrong) in [
        ("hello.session_id", Hello { session_id: "x".repeat(257), ..hello("") }),
        ("hello.tenant", Hello { tenant: "a\0".to_owned(), ..hello("") }),
        ("hello.client", Hello { client: "x".repeat(1_000_000), ..hello("") }),
    ] {
        let first = SessionRequest { hello: Some(wrong), ..SessionRequest::default() };
        let status = Session::try_open(world.server.channel().await, first).await.expect_err(field);
        assert!(facts(&status).names(field), "{status:?}");
    }
    world.end().await;
}

/// Goal: sessions that never read what they are told hold up nobody else, and take no memory without end.
#[tokio::test]
async fn sessions_that_never_read() {
    let world = World::start().await;
    let before = world.server.resident_kib();
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let (sender, outbound) = mpsc::channel(1);
        let mut client = PermitServiceClient::new(world.server.channel().await);
        let opened = soon("a session", async {
            let (answer, _) = tokio::join!(client.session(ReceiverStream::new(outbound)), async {
                let greeting = SessionRequest { hello: Some(hello("")), ..SessionRequest::default() };
                sender.send(greeting).await.expect("room");
            });
            answer
        });
        let answers = opened.await.expect("a stream");
        // As long as the server takes them.
        let asking = tokio::spawn(async move {
            let request = |request_id| AcquireRequest { request_id, ..ask("k") };
            for n in 0..10_000 {
                let message = acquires((n * 1_000..(n + 1) * 1_000).map(request).collect());
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        deaf.push((answers, asking));
    }
    for _ in 0..20 {
        world.is_well().await;
    }
    println!("resident: {before:?} KiB before, {:?} KiB with 5 deaf sessions", world.server.resident_kib());
    if let Some(resident) = world.server.resident_kib() {
        assert!(resident < 2_000_000, "{resident} KiB for 5 sessions that never read");
    }
    for (answers, asking) in deaf {
        asking.abort();
        drop(answers);
    }
    world.end().await;
}

/// Goal: streams that are opened and never say Hello, thousands on one connection, hold up nobody.
#[tokio::test]
async fn sessions_that_never_say_hello() {
    let world = World::start().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        let channel = world.server.channel().await;
        for _ in 0..500 {
            let mut client = PermitServiceClient::new(channel.clone());
            let (sender, outbound) = mpsc::channel::<SessionRequest>(1);
            silent.push((
                sender,
                tokio::spawn(async move { client.session(ReceiverStream::new(outbound)).await }),
            ));
        }
        world.is_well().await;
    }
    for (sender, opening) in silent {
        opening.abort();
        drop(sender);
    }
    world.end().await;
}

/// Goal: a thousand connections opened and left, some with a preface, some with half a call, hold up nobody.
#[tokio::test]
async fn connections_opened_and_left() {
    raise_open_files();
    let world = World::start().await;
    let mut left = Vec::new();
    let half_a_call = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0x4, 1, &call_headers(METHODS[2]))].concat();
    for n in 0..1_000 {
        let mut stream =
            soon("a connection", TcpStream::connect(world.server.address)).await.expect("it listens");
        let begin: &[u8] = match n % 4 {
            0 => &[],
            1 => &PREFACE[..n % PREFACE.len()],
            2 => PREFACE,
            _ => &half_a_call,
        };
        stream.write_all(begin).await.expect("it takes them");
        left.push(stream);
        if n % 250 == 249 {
            world.is_well().await;
        }
    }
    // Half of them go without a word, the others stay.
    for stream in left.drain(..500) {
        stream.set_zero_linger().expect("a socket");
    }
    world.is_well().await;
    world.end().await;
}

/// Goal: the http port is as robust: noise, long paths, many headers, other methods.
#[tokio::test]
async fn the_http_port() {
    let world = World::start().await;
    let requests = [
        noise(5, 4_096),
        b"GET /metrics".to_vec(),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1_000_000)).into_bytes(),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100_000)).into_bytes(),
        b"DELETE /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let mut stream = TcpStream::connect(world.server.http).await.expect("it listens");
        let exchange = async {
            let _ = stream.write_all(&request).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        let answer = soon("the server to hang up", exchange).await;
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut stream = TcpStream::connect(world.server.http).await.expect("it listens");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.end().await;
}
