//! TLS: who trusts whom, and what becomes of certificates that change, end, or make no sense.

use permitd_client::{Client, Report, Tls};
use permitd_server::{
    Listeners,
    config::{ClientCerts, Config},
    run,
};
use permitd_tests::{Authority, Peer, Permitd, Server, ask, https_get, in_flight, soon, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{ADMIN, Files, ONE, known};

async fn served(files: &Files, client_certs: Option<ClientCerts>) -> Server {
    Server::start_with(|config| files.configure(config, client_certs)).await
}

/// Goal: permits travel through TLS, by generated clients and by the Rust client.
#[tokio::test]
async fn serves_through_tls() {
    let files = Files::new();
    let server = served(&files, None).await;
    let peer = server.through(files.authority.trusted());
    peer.set("k", vec![in_flight(1)]).await;
    peer.settle(&peer.granted(ask("k")).await).await;

    let tls = Tls::new().ca_pem(files.authority.cert.clone());
    let client = Client::builder().endpoint(peer.url()).tls(tls).connect();
    let client = soon("a session", client).await.expect("trusted");
    let guard = soon("a permit", client.acquire("p/k").into_future()).await.expect("free");
    soon("an answer", guard.report(Report::success())).await.expect("settled");
    server.stop().await;
}

/// Goal: the HTTP port speaks TLS as well, asks for no certificate even where gRPC does, and shows no metrics without a token.
#[tokio::test]
async fn probes_go_through_tls() {
    let files = Files::new();
    let server = known(|config| files.configure(config, Some(ClientCerts::Required))).await;
    for (path, token, status) in [
        ("/healthz", None, "200"),
        ("/readyz", None, "200"),
        ("/metrics", None, "401"),
        ("/metrics", Some(ONE), "403"),
        ("/metrics", Some(ADMIN), "200"),
    ] {
        let answer = https_get(&files.authority, server.http, path, token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    server.stop().await;
}

/// Goal: a client that trusts others, or expects another name, or speaks in the clear, gets no connection; the others notice
/// nothing.
#[tokio::test]
async fn strangers_get_no_connection() {
    let files = Files::new();
    let server = served(&files, None).await;
    let refused = |peer: Peer| async move { peer.try_channel().await.err() };
    let untrusted = refused(server.through(Authority::new().trusted())).await.expect("not trusted");
    assert!(untrusted.starts_with("invalid peer certificate"), "{untrusted}");
    let misnamed = server.through(files.authority.trusted().domain_name("elsewhere"));
    let misnamed = refused(misnamed).await.expect("another name");
    assert!(misnamed.to_lowercase().contains("not valid for name"), "{misnamed}");

    let mut clear = TcpStream::connect(server.address).await.expect("it listens");
    clear.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An alert, and the end; a reset is as good.
    let _ = soon("the end of the connection", clear.read_to_end(&mut answer)).await;
    assert!(answer.len() < 16, "{answer:?}");

    server.through(files.authority.trusted()).set("k", vec![in_flight(1)]).await;
    server.stop().await;
}

/// Goal: where certificates are required, a connection without one, by another authority, or past its time leads nowhere.
#[tokio::test]
async fn clients_have_to_show_certificates() {
    let files = Files::new();
    let server = served(&files, Some(ClientCerts::Required)).await;
    let trusted = || files.authority.trusted();
    let known = files.authority.client(&[], &["spiffe://test/checkout"], "");
    server.through(trusted().identity(known.identity())).set("k", vec![in_flight(1)]).await;

    let foreign = Authority::new().client(&[], &["spiffe://test/checkout"], "");
    let past = files.authority.expired();
    let strangers = [trusted(), trusted().identity(foreign.identity()), trusted().identity(past.identity())];
    for stranger in strangers {
        // With TLS 1.3 a client hears of it with the first call.
        if let Ok(channel) = server.through(stranger).try_channel().await {
            let first = permitd_tests::call_with_bytes(channel, permitd_tests::METHODS[4], Vec::new()).await;
            let status = first.expect_err("no connection");
            assert!(std::error::Error::source(&status).is_some(), "not by an answer: {status:?}");
        }
    }
    server.stop().await;
}

/// Goal: new certificates are used by new connections without a restart, and the old connections live on.
#[tokio::test]
async fn certificates_are_renewed() {
    let files = Files::new();
    let server = served(&files, None).await;
    let before = server.through(files.authority.trusted());
    before.set("k", vec![in_flight(1)]).await;

    let next = Authority::new();
    files.put(&next.server());
    until("the new certificate", || async { server.through(next.trusted()).try_channel().await.is_ok() })
        .await;
    assert!(server.through(files.authority.trusted()).try_channel().await.is_err(), "the old one is gone");
    before.settle(&before.granted(ask("k")).await).await;
    server.stop().await;
}

/// Goal: files that make no sense change nothing but the log: a half-written one, an empty one, one of another key, one that
/// has ended.
#[tokio::test]
async fn broken_certificates_are_refused() {
    const REFUSED: &str = "new certificates are refused";
    let files = Files::new();
    let path = |name| files.folder.path(name).display().to_string();
    let config = format!("[server.tls]\ncert = {:?}\nkey = {:?}\n", path("cert.pem"), path("key.pem"));
    let server = Permitd::start(&config).await;
    let next = Authority::new();
    let broken = [
        "-----BEGIN CERTIFICATE-----\nAAAA".to_owned(),
        String::new(),
        next.server().cert,
        files.authority.expired().cert,
    ];
    for (before, content) in broken.iter().enumerate() {
        files.folder.put("cert.pem", content);
        until("a word about it", || async { server.said().matches(REFUSED).count() > before }).await;
        let reached = server.through(files.authority.trusted()).try_channel().await;
        assert!(reached.is_ok(), "{content}: {reached:?}");
    }
    files.put(&next.server());
    until("the sound certificate", || async { server.through(next.trusted()).try_channel().await.is_ok() })
        .await;
    assert!(!server.said().contains("PRIVATE"), "no key in the log: {}", server.said());
    server.stop().await;
}

/// Goal: a server does not start with certificates that no client would accept, and says which file is wrong.
#[tokio::test]
async fn does_not_start_with_broken_certificates() {
    let files = Files::new();
    let start = || async {
        let mut config = Config::default();
        config.server.listen = "127.0.0.1:0".parse().expect("an address");
        config.server.http = None;
        files.configure(&mut config, Some(ClientCerts::Required));
        let listeners = Listeners::bind(&config.server).await.expect("a free port");
        soon("a refusal", run(config, listeners, std::future::pending()))
            .await
            .expect_err("broken")
            .to_string()
    };
    let sound = files.authority.server();
    files.folder.put("cert.pem", &files.authority.expired().cert);
    let error = start().await;
    assert!(error.contains("server.tls.cert") && error.contains("expired at"), "{error}");
    files.put(&sound);
    files.folder.put("key.pem", &files.authority.server().key);
    let error = start().await;
    assert!(error.contains("server.tls.key") && error.contains("does not fit"), "{error}");
    files.folder.put("key.pem", "SECRET");
    let error = start().await;
    assert!(error.contains("server.tls.key") && !error.contains("SECRET"), "{error}");
    files.put(&sound);
    files.folder.put("ca.pem", "");
    let error = start().await;
    assert!(error.contains("server.tls.client_ca"), "{error}");
}
