//! Owners that are told: asked once a session with them stands, and never needed.

use std::future::IntoFuture;

use permitd_client::{Client, Guard, OutagePolicy, Report};
use permitd_proto::v1::{Owner, SessionResponse};

use crate::fake::{FakeServer, FakeSession, Item, closed_port, soon, until};

/// Tells that the budget `a` is owned there.
async fn tell(session: &mut FakeSession, address: &str) {
    let (provider, key, address) = ("a".to_owned(), "default".to_owned(), address.to_owned());
    let owners = vec![Owner { provider, key, address }];
    session.send(SessionResponse { owners, ..SessionResponse::default() }).await;
}

/// Has one permit granted in that session.
async fn granted(client: &Client, session: &mut FakeSession, permit_id: &str) -> Guard {
    let acquiring = tokio::spawn(client.acquire("a").into_future());
    let asked = session.acquire().await;
    session.grant(asked.request_id, permit_id).await;
    soon(acquiring).await.expect("no panic").expect("granted")
}

/// Reports in that session, where permits may have to be extended before.
async fn settled(guard: Guard, session: &mut FakeSession) {
    let reporting = guard.report(Report::success());
    let report = loop {
        match session.item().await {
            Some(Item::Report(report)) => break report,
            other => assert!(matches!(other, Some(Item::Extend(_))), "{other:?}"),
        }
    };
    session.settle(&report).await;
    soon(reporting).await.expect("settled");
}

/// An owner is asked once a session with it stands. When it is gone, what it was asked and what it granted go on at the client's own server, in the
/// same session, and requests go where they went before.
#[tokio::test]
async fn an_owner_is_asked_while_it_is_there() {
    let (mut home, mut owner) = (FakeServer::start(), FakeServer::start());
    let client = Client::builder().endpoint(home.endpoint()).connect_lazy().expect("good settings");
    let mut first = home.welcomed(false).await;
    assert!(first.hello.owners);
    tell(&mut first, &owner.endpoint()).await;
    let mut second = owner.session().await;
    assert_ne!(first.hello.session_id, second.hello.session_id);
    granted(&client, &mut first, "before").await.cancel();
    first.report().await;

    second.welcome(false).await;
    until(|| client.owners() == [owner.endpoint()]).await;
    let held = granted(&client, &mut second, "held").await;
    let waits = tokio::spawn(client.acquire("a").into_future());
    let asked = second.acquire().await;
    let id = second.hello.session_id.clone();
    owner.kill();

    let mut second = home.welcomed(false).await;
    assert_eq!(second.hello.session_id, id);
    assert!(client.owners().is_empty());
    assert_eq!(second.acquire().await.request_id, asked.request_id);
    second.grant(asked.request_id, "waited").await;
    let waited = soon(waits).await.expect("no panic").expect("granted");
    let after = granted(&client, &mut first, "after").await;
    settled(held, &mut second).await;
    settled(waited, &mut second).await;
    settled(after, &mut first).await;
    // It had nothing left.
    assert!(second.item().await.is_none());
}

/// Whoever was asked as the owner and does not know any more who it is, is not asked again: the client's own server is.
#[tokio::test]
async fn who_does_not_know_the_owner_is_left() {
    let (mut home, mut owner) = (FakeServer::start(), FakeServer::start());
    let client = Client::builder().endpoint(home.endpoint()).connect_lazy().expect("good settings");
    let mut first = home.welcomed(false).await;
    tell(&mut first, &owner.endpoint()).await;
    let mut second = owner.welcomed(false).await;
    until(|| client.owners() == [owner.endpoint()]).await;
    let held = granted(&client, &mut second, "held").await;
    tell(&mut second, "").await;
    // What is answered after that was read after that.
    settled(held, &mut second).await;
    granted(&client, &mut first, "after").await.cancel();
    first.report().await;
}

/// Where an owner can't be reached, is the client's own server, or is less safe than that, nothing changes; nor where it is not wanted.
#[tokio::test]
async fn who_can_not_be_followed_is_not() {
    let mut home = FakeServer::start();
    let client = Client::builder().endpoint(home.endpoint()).connect_lazy().expect("good settings");
    let mut session = home.session().await;
    let welcome = permitd_proto::v1::Welcome {
        session_id: session.hello.session_id.clone(),
        address: "http://permitd-a:7110".to_owned(),
        ..permitd_proto::v1::Welcome::default()
    };
    session.send(SessionResponse { welcome: Some(welcome), ..SessionResponse::default() }).await;
    for address in ["http://permitd-a:7110", "ftp://nowhere", "", &format!("http://{}", closed_port())] {
        tell(&mut session, address).await;
        granted(&client, &mut session, address).await.cancel();
        session.report().await;
        assert!(client.owners().is_empty(), "{address}");
    }
    for builder in
        [Client::builder().follow_owners(false), Client::builder().outage_policy(OutagePolicy::LocalShare)]
    {
        let _client = builder.endpoint(home.endpoint()).connect_lazy().expect("good settings");
        assert!(!home.welcomed(false).await.hello.owners);
    }
}
