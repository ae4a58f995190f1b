//! Bytes that are no HTTP/2, no gRPC or no protobuf.

use std::iter;

use permitd_proto::v1::{
    AcquireRequest, SessionRequest, SessionResponse, permit_service_client::PermitServiceClient,
};
use permitd_tests::{
    METHODS, Permitd, acquires, ask, call_with_bytes, hello, raise_open_files, soon, stream_of_bytes, success,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, metadata::MetadataValue};

use crate::support::{World, noise};

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

/// Goal: a session's message of nothing but what nobody knows, however much of it, is no end of the session.
#[tokio::test]
async fn messages_that_nobody_knows() {
    let world = World::start().await;
    let cancels = SessionRequest { cancel: vec![1; 1_000], ..SessionRequest::default() };
    let hello = SessionRequest { hello: Some(hello("")), ..SessionRequest::default() };
    let asked = acquires(vec![AcquireRequest { request_id: 7, ..ask("polite") }]);
    // In a group of field 15.
    let unknown = [&[0x7b][..], &cancels.encode_to_vec(), &[0x7c]].concat();
    let messages = vec![hello.encode_to_vec(), unknown, asked.encode_to_vec()];
    let answers = stream_of_bytes(world.server.channel().await, METHODS[2], messages).await;
    let answers = answers.expect("a polite end").into_iter();
    let answers = answers.map(|answer| SessionResponse::decode(&*answer).expect("a message"));
    let granted: Vec<_> = answers.flat_map(|answer| answer.granted).collect();
    assert_eq!(granted.iter().map(|granted| granted.request_id).collect::<Vec<_>>(), [7]);
    let permit = granted.into_iter().find_map(|granted| granted.permit).expect("a permit");
    world.server.settle(&permit).await;
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
