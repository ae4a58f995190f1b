//! A server in this process: the same `run` as the binary's, on ports that the system chooses.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use permitd_proto::v1::Limit;
use permitd_server::{
    Error, Listeners, Origin,
    clock::Reading,
    config::{Config, Data},
    run_from,
    store::Memory,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{peer::Peer, wait::soon};

/// A server in this process. It has to be [stopped](Server::stop) at the end of a test, which fails if any of its threads panicked.
#[derive(Debug)]
pub struct Server {
    peer: Peer,
    /// Where health and metrics are served.
    pub http: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Error>>,
}

impl Deref for Server {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Server {
    /// Starts without any budget.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with the budget `p/k`.
    pub async fn with(limits: Vec<Limit>) -> Self {
        let server = Self::start().await;
        server.set("k", limits).await;
        server
    }

    /// Starts as configured.
    pub async fn start_with(edit: impl FnOnce(&mut Config)) -> Self {
        Self::start_from(None, edit).await
    }

    /// Starts as configured with what this store holds.
    pub async fn start_on(store: &Memory) -> Self {
        let reading = Reading::now();
        Self::start_from(Some(Origin { store: Some(Box::new(store.clone())), reading, reload: None }), |_| {})
            .await
    }

    /// Starts as configured from this origin, or from the configured one.
    ///
    /// # Panics
    /// If it can't.
    pub async fn start_from(origin: Option<Origin>, edit: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        let anywhere = "127.0.0.1:0".parse().expect("an address");
        config.server.listen = anywhere;
        config.server.http = Some(anywhere);
        config.server.workers = 2;
        config.server.data = Data::Memory;
        // Permits that a test leaves behind are nothing to wait for.
        config.server.drain = Duration::ZERO;
        edit(&mut config);
        let mut listeners = Listeners::bind(&config.server).await.expect("a free port");
        let peer = Peer::new(listeners.grpc_address());
        let http = listeners.http_address().expect("configured above");
        let ready = listeners.ready();
        let (stop, stopped) = oneshot::channel();
        let origin = origin.unwrap_or_else(|| Origin::open(&config.server.data).expect("a sound store"));
        let running = tokio::spawn(run_from(origin, config, listeners, async { drop(stopped.await) }));
        soon("a ready server", ready).await.expect("it runs");
        Self { peer, http, stop: Some(stop), running }
    }

    /// Tells it to stop.
    ///
    /// # Panics
    /// If it was told before.
    pub fn tell_to_stop(&mut self) {
        self.stop.take().expect("told only once").send(()).expect("it runs");
    }

    /// Waits until it has stopped.
    ///
    /// # Panics
    /// If it failed, or if one of its threads panicked.
    pub async fn stopped(self) {
        soon("the end of the server", self.running).await.expect("no panic").expect("a clean end");
    }

    /// Stops it, at the end of a test.
    pub async fn stop(mut self) {
        self.tell_to_stop();
        self.stopped().await;
    }
}
