//! Providers are spoken to by TLS, and only if they are who they say.

use std::{net::TcpListener, sync::Arc, thread};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::{
    bench::Bench,
    scripted::{Reply, Scripted},
};
use crate::support::{certificate, say};

/// A provider behind TLS, and the certificate of who vouches for it.
fn provider() -> (Scripted, String) {
    let (certificate, key, trusted) = certificate();

    // It may be known from another test.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).expect("they fit"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let provider = Scripted::detached(format!("https://{}", listener.local_addr().expect("it is bound")));
    let serving = provider.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (serving, config) = (serving.clone(), Arc::clone(&config));
            thread::spawn(move || {
                let connection = ServerConnection::new(config).expect("a good configuration");
                serving.serve(StreamOwned::new(connection, stream), &Reply::to);
            });
        }
    });
    (provider, trusted)
}

/// Goal: a provider whose certificate somebody trusted vouches for is called, and nobody else.
#[test]
fn speaks_tls() {
    let (provider, trusted) = provider();
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b"]);
    bench.write("trusted.pem", &trusted);
    let strange = say(&mut bench.command(&["--local"]));
    assert_eq!(strange.code, 69, "{strange:#?}");
    assert!(strange.stderr.contains("certificate"), "{strange:#?}");
    assert_eq!(provider.calls().len(), 0);
    say(bench.command(&["--local"]).env("SSL_CERT_FILE", "trusted.pem")).well();
    assert_eq!(bench.answered(), ["a", "b"]);
}
