//! Sessions that break: nothing is lost, nothing is doubled, and callers do not notice.

use std::{
    future::{Future, IntoFuture, poll_fn},
    pin::Pin,
    task::Poll,
};

use permitd_client::{Client, OutagePolicy, Report};
use permitd_proto::v1::{Outcome as WireOutcome, Refused};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::Status;

use crate::fake::{FakeServer, Item, closed_port, soon, until};

type Acquiring = permitd_client::Acquiring;

/// Asks for `n` permits and has them on their way.
async fn asking(client: &Client, n: usize) -> Vec<Acquiring> {
    let mut acquiring: Vec<_> = (0..n).map(|_| client.acquire("a").into_future()).collect();
    for future in &mut acquiring {
        poll_fn(|context| {
            assert!(Pin::new(&mut *future).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    acquiring
}

/// A broken stream is resumed with the same id; what has no answer is sent again under the same ids, and a grant that is known already is
/// not taken for a new one.
#[tokio::test]
async fn a_broken_session_is_resumed() {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let mut acquiring = asking(&client, 3).await;
    let asked = [session.acquire().await, session.acquire().await, session.acquire().await];
    session.grant(asked[0].request_id, "held").await;
    session.grant(asked[1].request_id, "reported").await;
    let reported = soon(acquiring.remove(1)).await.expect("it was granted");
    let held = soon(acquiring.remove(0)).await.expect("it was granted");
    let reporting = reported.report(Report::success());
    session.report().await;
    let hello = session.hello.clone();
    session.end(Status::internal("broken")).await;

    let mut session = server.welcomed(true).await;
    assert_eq!(session.hello.session_id, hello.session_id);
    session.grant(asked[0].request_id, "held").await;
    session.grant(asked[1].request_id, "reported").await;
    let report = session.report().await;
    assert_eq!((report.permit_id.as_str(), report.outcome()), ("reported", WireOutcome::Success));
    assert_eq!(session.acquire().await.request_id, asked[2].request_id);
    session.settle(&report).await;
    session.grant(asked[2].request_id, "third").await;
    assert!(soon(reporting).await.expect("it was answered").settled);
    let third = soon(acquiring.remove(0)).await.expect("it was granted");
    assert_eq!(third.permit_id(), "third");

    // Had the repeated grants been taken for new ones, they would have been given back before this.
    held.cancel();
    assert_eq!(session.report().await.permit_id, "held");
    drop(third);
}

/// A server that has forgotten the session is asked for everything again.
#[tokio::test]
async fn a_forgotten_session_is_asked_again() {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let acquiring = asking(&client, 2).await;
    let asked = [session.acquire().await.request_id, session.acquire().await.request_id];
    let address = server.kill();
    let mut server = FakeServer::start_at(address);
    let mut session = server.welcomed(false).await;
    assert_eq!([session.acquire().await.request_id, session.acquire().await.request_id], asked);
    session.grant(asked[0], "p1").await;
    session.grant(asked[1], "p2").await;
    for acquiring in acquiring {
        soon(acquiring).await.expect("it was granted").cancel();
    }
}

/// A cancel that was on its way when the stream broke is said again.
#[tokio::test]
async fn a_lost_cancel_is_said_again() {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let acquiring = asking(&client, 1).await;
    let asked = session.acquire().await;
    drop(acquiring);
    assert_eq!(session.item().await, Some(Item::Cancel(asked.request_id)));
    session.end(Status::internal("broken")).await;
    let mut session = server.welcomed(true).await;
    assert_eq!(session.item().await, Some(Item::Cancel(asked.request_id)));
}

/// A server that ends the stream as unavailable is left for the next one, without an error for anybody.
#[tokio::test]
async fn an_unavailable_server_is_left_for_another() {
    let (mut first, mut second) = (FakeServer::start(), FakeServer::start());
    let endpoints = [first.endpoint(), second.endpoint()];
    let client = Client::builder().endpoints(endpoints).connect_lazy().expect("good settings");
    let mut session = first.welcomed(false).await;
    let mut acquiring = asking(&client, 1).await;
    let asked = session.acquire().await;
    session.end(Status::unavailable("DRAINING")).await;

    let mut session = second.welcomed(false).await;
    assert_eq!(session.acquire().await.request_id, asked.request_id);
    session.grant(asked.request_id, "p1").await;
    soon(acquiring.remove(0)).await.expect("it was granted").cancel();
}

/// A request that a draining server hands back is taken to the next one; a report is still answered by the old.
#[tokio::test]
async fn a_draining_server_is_left_for_another() {
    let (mut first, mut second) = (FakeServer::start(), FakeServer::start());
    let endpoints = [first.endpoint(), second.endpoint()];
    let client = Client::builder().endpoints(endpoints).connect_lazy().expect("good settings");
    let mut session = first.welcomed(false).await;
    let mut acquiring = asking(&client, 2).await;
    let asked = [session.acquire().await, session.acquire().await];
    session.grant(asked[0].request_id, "p1").await;
    let reporting = soon(acquiring.remove(0)).await.expect("it was granted").report(Report::success());
    let report = session.report().await;
    let reason = "DRAINING".to_owned();
    session.refuse(Refused { request_id: asked[1].request_id, code: 14, reason, ..Refused::default() }).await;
    session.settle(&report).await;
    assert!(soon(reporting).await.expect("it was answered").settled);

    let mut session = second.welcomed(false).await;
    assert_eq!(session.acquire().await.request_id, asked[1].request_id);
    session.grant(asked[1].request_id, "p2").await;
    soon(acquiring.remove(0)).await.expect("it was granted").cancel();
}

/// An endpoint where nobody listens does not keep a client from the others.
#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let mut server = FakeServer::start();
    let endpoints = [format!("http://{}", closed_port()), server.endpoint()];
    let connecting = tokio::spawn(Client::connect(endpoints));
    let _session = server.welcomed(false).await;
    assert!(soon(connecting).await.expect("no panic").expect("it connects").is_connected());
}

/// Something that is not permitd is called so, at once and by its address, however long outages are waited out.
#[tokio::test]
async fn what_is_not_permitd_is_called_so() {
    let patient = || Client::builder().outage_after(std::time::Duration::from_secs(3_600));

    let http1 = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = http1.local_addr().expect("an address");
    let web = tokio::spawn(async move {
        while let Ok((mut socket, _)) = http1.accept().await {
            let page = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // A client that has hung up already does not matter.
            drop(socket.write_all(page).await);
            drop(socket.shutdown().await);
            drop(socket.read_to_end(&mut Vec::new()).await);
        }
    });
    let error =
        soon(patient().endpoint(format!("http://{address}")).connect()).await.expect_err("not permitd");
    assert!(error.is_unavailable(), "{error}");
    let text = error.to_string();
    assert!(text.contains("not a permitd server") && text.contains(&address.to_string()), "{text}");
    web.abort();

    let empty = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = empty.local_addr().expect("an address");
    let routes = tonic::service::Routes::default();
    let grpc = tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(empty)),
    );
    let error =
        soon(patient().endpoint(format!("http://{address}")).connect()).await.expect_err("not permitd");
    assert!(error.to_string().contains("not a permitd server"), "{error}");
    grpc.abort();
}

/// A server that welcomes and breaks, again and again, is not given up.
#[tokio::test]
async fn a_flapping_server_is_not_given_up() {
    let mut server = FakeServer::start();
    let client = Client::builder()
        .endpoint(server.endpoint())
        .outage_policy(OutagePolicy::FailOpen)
        .connect_lazy()
        .expect("good settings");
    for _ in 0..4 {
        let session = server.welcomed(false).await;
        session.end(Status::internal("broken")).await;
    }
    let _session = server.welcomed(false).await;
    until(|| client.is_connected()).await;
}
