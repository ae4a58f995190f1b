//! Servers of one cluster, each in a process of its own.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use permitd_proto::v1::Budget;
use permitd_tests::{Etcd, Host, Peer, Permitd, soon, steady_port, until};
use tokio::{net::TcpStream, time::timeout};

/// A server that has not answered by then is asked no more.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What was acknowledged is known everywhere by then, as long as a server may take to find its owner.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// Servers of one cluster. One that was replaced has the same place and address.
pub(crate) struct Fleet {
    pub(crate) etcd: Etcd,
    configs: Vec<String>,
    places: Vec<(Host, u16)>,
    servers: Vec<Mutex<Arc<Permitd>>>,
}

/// What every server of a test's cluster is told beside where etcd is: the shortest lease there is, so that no test waits long.
pub(crate) fn config(etcd: &str) -> String {
    format!("[cluster]\netcd = \"{etcd}\"\nlease = \"2s\"\n")
}

impl Fleet {
    /// So many servers, on an etcd of so many members.
    pub(crate) async fn start(servers: usize, members: usize) -> Self {
        let etcd = Etcd::start(members).await;
        let configs = vec![config(&etcd.url()); servers];
        Self::start_on(etcd, configs, (0..servers).map(|_| steady_port()).collect()).await
    }

    /// One server for each configuration, on that port.
    pub(crate) async fn start_on(etcd: Etcd, configs: Vec<String>, ports: Vec<u16>) -> Self {
        let places = ports.into_iter().map(|port| (Host::here(), port)).collect();
        Self::start_across(etcd, configs, places).await
    }

    /// One server for each configuration, on that host's port.
    pub(crate) async fn start_across(etcd: Etcd, configs: Vec<String>, places: Vec<(Host, u16)>) -> Self {
        let mut servers = Vec::new();
        for (config, (host, port)) in configs.iter().zip(&places) {
            servers.push(Mutex::new(Arc::new(Permitd::start_on(host, *port, config).await)));
        }
        Self { etcd, configs, places, servers }
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// The server at that place, as it is now.
    pub(crate) fn server(&self, place: usize) -> Arc<Permitd> {
        Arc::clone(&self.servers[place].lock().expect("no panic"))
    }

    /// Where each is, as clients want it.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.places.iter().map(|(host, port)| format!("http://{}:{port}", host.address)).collect()
    }

    /// Starts the server of that place anew; the old one is gone.
    pub(crate) async fn restart(&self, place: usize) {
        let (host, port) = &self.places[place];
        let next = Permitd::start_on(host, *port, &self.configs[place]).await;
        *self.servers[place].lock().expect("no panic") = Arc::new(next);
    }

    /// Tells the server of that place to stop, and starts it anew.
    pub(crate) async fn replace(&self, place: usize) {
        self.server(place).terminate();
        self.restart_when_gone(place).await;
    }

    /// As [`Fleet::restart`], once the old one has ended by itself.
    pub(crate) async fn restart_when_gone(&self, place: usize) {
        let old = self.server(place);
        until("the end of a server", async || tokio::net::TcpStream::connect(old.address).await.is_err())
            .await;
        drop(old);
        self.restart(place).await;
    }

    /// Declares a budget through any server that takes it.
    pub(crate) async fn declare(&self, budget: Budget) {
        let declared = async {
            for place in (0..self.len()).cycle() {
                let peer = Peer::new(self.server(place).address);
                let declared = async { peer.reach().await && peer.try_declare(budget.clone()).await.is_ok() };
                if timeout(ANSWER_MAX, declared).await.unwrap_or(false) {
                    println!("{} was acknowledged through server {place}", budget.key);
                    return;
                }
            }
        };
        soon("a declared budget", declared).await;
    }

    /// Each of these budgets is there, with so many slots as was acknowledged.
    pub(crate) async fn knows(&self, acknowledged: &[(String, u64)]) {
        for (key, slots) in acknowledged {
            let server = self.server(0);
            let heard = Mutex::new(String::new());
            let answers = async || match server.try_state(key).await {
                Ok(_) => true,
                Err(status) => {
                    let before = mem::replace(&mut *heard.lock().expect("no panic"), status.to_string());
                    if before != status.to_string() {
                        println!("{key}: {status}");
                    }
                    false
                }
            };
            if timeout(KNOWN_MAX, until("an answer about a budget", answers)).await.is_err() {
                for place in 0..self.len() {
                    println!("s{place}:\n{}", self.server(place).log());
                }
                panic!("{key} was acknowledged, and is not known");
            }
            let limits = server.try_state(key).await.expect("just there").limits;
            assert_eq!(limits[0].effective_amount, *slots, "{key} as acknowledged");
        }
    }

    /// Waits until every server knows the budget: a change is everywhere within a second, not at once.
    pub(crate) async fn is_known(&self, key: &str) {
        for place in 0..self.len() {
            until("a budget known", async || self.server(place).try_state(key).await.is_ok()).await;
        }
    }

    /// The place of the server that owns the budget, as the metrics of the servers tell.
    pub(crate) async fn owner(&self, key: &str) -> Option<usize> {
        let wanted = format!("permitd_waiting{{provider=\"p\",key=\"{key}\"");
        for place in 0..self.len() {
            let server = self.server(place);
            if TcpStream::connect(server.http).await.is_err() {
                continue;
            }
            let asked = tokio::spawn(permitd_tests::http_get(server.http, "/metrics", None));
            if let Ok(Ok(metrics)) = timeout(ANSWER_MAX, asked).await
                && metrics.contains(&wanted)
            {
                return Some(place);
            }
        }
        None
    }

    /// As [`Fleet::owner`], once there is one.
    pub(crate) async fn owned(&self, key: &str) -> usize {
        soon("an owner", async {
            loop {
                if let Some(place) = self.owner(key).await {
                    return place;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}
