//! Sessions that are careless or malicious.

use permitd_proto::v1::{
    AcquireRequest, Hello, Outcome, ReportRequest, SessionRequest, permit_service_client::PermitServiceClient,
};
use permitd_tests::{DAY, Session, acquires, ask, facts, hello, refused_facts, report, soon, success};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::{World, strange_names};

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
