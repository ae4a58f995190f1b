//! What keeps a server from joining, each told with what to do.

use std::{net::SocketAddr, sync::Arc};

use permitd_server::{
    Error, Listeners,
    config::{ClusterConfig, Config, Data},
    run,
};
use permitd_tests::{Etcd, soon};

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

/// Goal: clusters with prefixes of their own on one etcd have nothing to do with each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_apart() {
    let fleet = Arc::new(Fleet::start(1, 1).await);
    fleet.server(0).set("k", vec![permitd_tests::in_flight(1)]).await;
    let config = format!("{}prefix = \"another\"\n", crate::fleet::config(&fleet.etcd.url()));
    let other = permitd_tests::Permitd::start(&config).await;
    assert!(other.try_state("k").await.is_err(), "a budget of the other cluster");
    other.set("k", vec![permitd_tests::in_flight(7)]).await;
    assert_eq!(fleet.server(0).state("k").await.limits[0].effective_amount, 1);
    other.stop().await;
}
