//! Identities by client certificates.

use permitd_proto::v1::{ListChangesRequest, WatchBudgetsRequest};
use permitd_server::{
    auth::Role,
    config::{ClientCerts, IdentityConfig},
};
use permitd_tests::{Issued, Server, facts, in_flight, soon};
use tonic::Code;

use crate::support::{Files, denial, holder};

async fn served(files: &Files) -> Server {
    Server::start_with(|config| {
        files.configure(config, Some(ClientCerts::Optional));
        for (name, pattern) in [
            ("by-uri", "spiffe://test/one"),
            ("by-host", "one.test"),
            ("by-name", "somebody"),
            ("many", "spiffe://test/many/*"),
        ] {
            let identity = IdentityConfig {
                certificates: vec![pattern.to_owned()],
                roles: [Role::Admin].into(),
                ..IdentityConfig::default()
            };
            config.auth.identities.insert(name.to_owned(), identity);
        }
        config.auth.identities.insert("by-token".to_owned(), holder("token", &[Role::Admin]));
    })
    .await
}

/// Goal: a certificate is somebody by its URIs, then its DNS names, and by its common name only if it has neither; those behind a
/// glob are told apart; and what nobody has is nobody.
#[tokio::test]
async fn certificates_are_identities() {
    let files = Files::new();
    let server = served(&files).await;
    let authority = &files.authority;
    let through = |issued: &Issued| server.through(authority.trusted().identity(issued.identity()));
    let mut expected = Vec::new();
    for (issued, who) in [
        (authority.client(&["one.test"], &["spiffe://test/one"], "somebody"), "by-uri"),
        (authority.client(&["one.test"], &[], "somebody"), "by-host"),
        (authority.client(&["elsewhere.test", "one.test"], &["spiffe://elsewhere"], ""), "by-host"),
        (authority.client(&[], &[], "somebody"), "by-name"),
        (authority.client(&[], &["spiffe://test/many/a"], ""), "many/spiffe://test/many/a"),
    ] {
        through(&issued).set("k", vec![in_flight(1)]).await;
        expected.insert(0, who);
    }
    for stranger in [
        authority.client(&["elsewhere.test"], &[], "somebody"),
        authority.client(&[], &["spiffe://test/one/more"], "somebody"),
        authority.client(&[], &[], "SOMEBODY"),
    ] {
        let answer = through(&stranger).admin().await.list_changes(ListChangesRequest::default()).await;
        assert_eq!(denial(answer), Some((Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned())));
    }
    let known = authority.client(&["one.test"], &[], "");
    let both = through(&known).with_token("token");
    both.set("k", vec![in_flight(1)]).await;
    expected.insert(0, "by-token");
    let wrong =
        through(&known).with_token("wrong").admin().await.list_changes(ListChangesRequest::default()).await;
    assert_eq!(
        denial(wrong),
        Some((Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned())),
        "a token counts"
    );
    let neither =
        server.through(authority.trusted()).admin().await.list_changes(ListChangesRequest::default()).await;
    assert_eq!(denial(neither), Some((Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned())));

    let changes = both.admin().await.list_changes(ListChangesRequest::default()).await.expect("listed");
    let changes = changes.into_inner().changes;
    let who: Vec<&str> = changes.iter().map(|change| change.who.as_str()).collect();
    assert_eq!(who, expected);
    server.stop().await;
}

/// Goal: a stream ends with the certificate of its connection, and so does whatever is asked on it.
#[tokio::test]
async fn streams_end_with_their_certificates() {
    let files = Files::new();
    let server = served(&files).await;
    let brief = files.authority.brief_client("spiffe://test/one", 3);
    let peer = server.through(files.authority.trusted().identity(brief.identity()));
    let mut admin = peer.admin().await;
    let mut watch = admin.watch_budgets(WatchBudgetsRequest::default()).await.expect("let in").into_inner();
    let status = loop {
        if let Err(status) = soon("an end", watch.message()).await {
            break status;
        }
    };
    assert_eq!(facts(&status).reason, "CREDENTIALS_EXPIRED");
    let later = admin.list_changes(ListChangesRequest::default()).await;
    assert_eq!(denial(later), Some((Code::Unauthenticated, "CREDENTIALS_EXPIRED".to_owned())));
    server.stop().await;
}
