//! What keeps a server from joining, each told with what to do.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use permitd_server::{
    Error, Listeners,
    config::{ClusterConfig, Config, Data},
    run,
};
use permitd_tests::{Etcd, Folder, Permitd, ask_etcd, in_flight, soon};

use crate::fleet::Fleet;

/// Why a server as configured does not start.
async fn refused(edit: impl FnOnce(&mut ClusterConfig)) -> String {
    let mut cluster = ClusterConfig::on(vec!["http://127.0.0.1:9".to_owned()]);
    edit(&mut cluster);
    let mut config = Config { cluster: Some(cluster), ..Config::default() };
    let anywhere: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    (config.server.listen, config.server.http, config.server.data) = (anywhere, None, Data::Memory);
    let listeners = Listeners::bind(&config.server).await.expect("a free port");
    let ended = soon("the end of a server that can't join", run(config, listeners, std::future::pending()));
    match ended.await {
        Err(error @ Error::Cluster(_)) => error.to_string(),
        ended => panic!("not refused: {ended:?}"),
    }
}

fn endpoints(etcd: &Etcd) -> Vec<String> {
    ClusterConfig::endpoints(&etcd.url()).expect("endpoints")
}

/// Goal: wrong endpoints, a prefix of somebody else's, a name that is taken and files that are not there are refused at the start, with
/// what to mend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told() {
    let told = refused(|_| {}).await;
    assert!(told.contains("can't reach etcd at http://127.0.0.1:9") && told.contains("--cluster"), "{told}");
    let told = refused(|cluster| cluster.etcd.endpoints = vec!["no url".to_owned()]).await;
    assert!(told.contains("\"no url\" is no endpoint of etcd"), "{told}");
    let told = refused(|cluster| cluster.etcd.password_file = Some("/nowhere".into())).await;
    assert!(told.contains("cluster.password_file") && told.contains("/nowhere"), "{told}");

    let fleet = Fleet::start(1, 1).await;
    let etcd = endpoints(&fleet.etcd);
    let taken = fleet.server(0).address.to_string();
    let told = refused(|cluster| {
        (cluster.etcd.endpoints, cluster.name) = (etcd.clone(), Some(taken.clone()));
    });
    let told = told.await;
    assert!(told.contains(&format!("is called {taken:?}")) && told.contains("cluster.name"), "{told}");
    // The keys of the cluster are nobody else's.
    let told = refused(|cluster| {
        (cluster.etcd.endpoints, cluster.prefix) = (etcd.clone(), "permitd/live".to_owned());
    });
    let told = told.await;
    assert!(told.contains("no cluster of this permitd") && told.contains("cluster.prefix"), "{told}");
}

/// Writes a key.
async fn put(etcd: &Etcd, key: &str, value: &[u8]) {
    let [key, value] = [key.as_bytes(), value].map(|text| BASE64_STANDARD.encode(text));
    ask_etcd(etcd.addresses()[0], "kv/put", &format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}")).await;
}

/// Goal: a cluster of another version, and one whose clocks are not this machine's, are not joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_clusters_are_not_joined() {
    let etcd = Etcd::start(1).await;
    put(&etcd, "later/format", b"permitd 2").await;
    let told = refused(|cluster| {
        (cluster.etcd.endpoints, cluster.prefix) = (endpoints(&etcd), "later".to_owned());
    });
    let told = told.await;
    assert!(told.contains("permitd 2") && told.contains("cluster.prefix"), "{told}");

    put(&etcd, "dated/format", b"permitd 1").await;
    put(&etcd, "dated/seal", &[7; 16]).await;
    // A member's row in which the clock (field 4, fixed64) stands in 1970.
    put(&etcd, "dated/live/members/other", &[&[0x21][..], &1_u64.to_le_bytes()].concat()).await;
    let told = refused(|cluster| {
        (cluster.etcd.endpoints, cluster.prefix) = (endpoints(&etcd), "dated".to_owned());
    });
    let told = told.await;
    assert!(told.contains("other") && told.contains("NTP"), "{told}");
}

/// Goal: an etcd that wants to know who it is lets in who has the password, and what is wrong otherwise is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_shown() {
    let (etcd, folder) = (Etcd::start(1).await, Folder::new());
    for (method, body) in [
        ("auth/user/add", r#"{"name":"root","password":"right"}"#),
        ("auth/role/add", r#"{"name":"root"}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/enable", "{}"),
    ] {
        ask_etcd(etcd.addresses()[0], method, body).await;
    }
    folder.put("wrong", "wrong\n");
    folder.put("right", "right\n");
    for (user, file) in [(None, None), (Some("root"), Some("wrong")), (Some("nobody"), Some("right"))] {
        let told = refused(|cluster| {
            cluster.etcd.endpoints = endpoints(&etcd);
            (cluster.etcd.user, cluster.etcd.password_file) =
                (user.map(str::to_owned), file.map(|file| folder.path(file)));
        });
        let told = told.await;
        assert!(
            told.contains("does not let this server in") && told.contains("cluster.password_file"),
            "{told}"
        );
    }
    let known = format!("user = \"root\"\npassword_file = \"{}\"\n", folder.path("right").display());
    let server = Permitd::start(&(crate::fleet::config(&etcd.url()) + &known)).await;
    server.set("k", vec![in_flight(1)]).await;
    server.stop().await;
}

/// Goal: clusters with prefixes of their own on one etcd have nothing to do with each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_apart() {
    let fleet = Arc::new(Fleet::start(1, 1).await);
    fleet.server(0).set("k", vec![in_flight(1)]).await;
    let config = format!("{}prefix = \"another\"\n", crate::fleet::config(&fleet.etcd.url()));
    let other = Permitd::start(&config).await;
    assert!(other.try_state("k").await.is_err(), "a budget of the other cluster");
    other.set("k", vec![in_flight(7)]).await;
    assert_eq!(fleet.server(0).state("k").await.limits[0].effective_amount, 1);
    other.stop().await;
}
