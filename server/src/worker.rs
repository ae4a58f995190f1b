//! Threads that serve connections. Each has a single-threaded runtime of its own: a connection stays where it was accepted, so
//! nothing is stolen, and a session is polled by one thread only.

use std::{convert::Infallible, future::Future, io, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use permitd_proto::v1::{
    admin_service_server::AdminServiceServer, cluster_service_server::ClusterServiceServer,
};
use tokio::{
    net::TcpListener,
    runtime,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinSet, yield_now},
};
use tonic::{
    body::Body,
    codegen::{Service as TowerService, http},
    service::Routes,
};
use tower::{ServiceBuilder, layer::layer_fn, util::option_layer};

use crate::{
    admin::Admin,
    auth::GateLayer,
    cluster::Service,
    config::ServerConfig,
    connection::{Connection, Room},
    health::Health,
    pace::{Paced, Paces},
    service::Permits,
    serving::{self, Services},
    shared::Shared,
    tls::Tls,
};

/// Connections handed to one worker that it has not taken yet.
const HANDOVER_MAX: usize = 64;
/// Tasks that a worker runs before it looks at the network: each may take as long as a turn does, and those of one connection wake each
/// other without an end. Fewer would cost a call of the system for every other task.
const EVENT_INTERVAL: u32 = 16;
/// Before accepting again when the system has no more sockets to give.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Not at all.
    Run,
    /// No new connections; those there may finish.
    Finish,
    /// Drop everything.
    Now,
}

/// A connection on its way to a worker.
type Handover = (std::net::TcpStream, Room);

/// All workers of a server.
pub(crate) struct Workers {
    handovers: Vec<mpsc::Sender<Handover>>,
    finished: Vec<oneshot::Receiver<()>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        admin: &Admin,
        health: &Health,
        stop: &watch::Receiver<Stop>,
    ) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = if shared.config.workers == 0 { cores } else { shared.config.workers };
        let config = Arc::new(shared.config.clone());
        let mut workers = Self { handovers: Vec::new(), finished: Vec::new(), threads: Vec::new() };
        for number in 0..count {
            let (handover, handed_over) = mpsc::channel(HANDOVER_MAX);
            let (finish, finished) = oneshot::channel();
            let runtime =
                runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
            let (config, tls, stop) = (Arc::clone(&config), shared.tls.clone(), stop.clone());
            let gate = shared
                .gate
                .is_needed()
                .then(|| GateLayer { gate: shared.gate.clone(), denied: shared.metrics.denied.clone() });
            let services = ServiceBuilder::new()
                .layer(option_layer((config.bounds.calls_per_second > 0).then_some(layer_fn(Paced))))
                .layer(option_layer(gate))
                .service(services(shared, admin, health));
            let serve = move || {
                runtime.block_on(serve(config, tls, services, handed_over, stop));
                // Dropped here, with whatever is still open.
                drop(runtime);
                // Nobody listens if the server was dropped midway.
                let _ = finish.send(());
            };
            workers.threads.push(thread::Builder::new().name(format!("worker-{number}")).spawn(serve)?);
            workers.handovers.push(handover);
            workers.finished.push(finished);
        }
        Ok(workers)
    }

    /// Accepts connections and hands them out in turn, until told to stop.
    pub(crate) fn accept(
        &self,
        listener: TcpListener,
        shared: &Shared,
        mut stop: watch::Receiver<Stop>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let room = Arc::new(Semaphore::new(shared.config.bounds.connections.min(Semaphore::MAX_PERMITS)));
        let gauge = shared.metrics.connections.clone();
        let handovers = self.handovers.clone();
        let accepting = async move {
            for handover in handovers.iter().cycle() {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let stream = accept_one(&listener).await;
                if handover.send((stream, Room::take(permit, gauge.clone()))).await.is_err() {
                    tracing::error!("a worker is gone; its connections are lost");
                }
            }
        };
        async move {
            tokio::select! {
                () = accepting => {}
                // An error means that the server is gone.
                _ = stop.wait_for(|&stop| stop > Stop::Run) => {}
            }
        }
    }

    /// Waits until all have finished.
    pub(crate) async fn finished(&mut self) {
        while let Some(finished) = self.finished.last_mut() {
            // An error means that the thread is gone, which is as good.
            let _ = finished.await;
            self.finished.pop();
        }
    }

    /// Ends the threads, which have finished. False if one of them panicked.
    pub(crate) fn join(self) -> bool {
        drop(self.handovers);
        // All of them, also behind one that panicked.
        let ended: Vec<_> = self.threads.into_iter().map(thread::JoinHandle::join).collect();
        ended.iter().all(Result::is_ok)
    }
}

async fn accept_one(listener: &TcpListener) -> std::net::TcpStream {
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.set_nodelay(true).and_then(|()| stream.into_std()),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn services(shared: &Arc<Shared>, admin: &Admin, health: &Health) -> Services {
    let message_bytes = shared.config.bounds.message_bytes;
    let admin = AdminServiceServer::new(admin.clone())
        .max_decoding_message_size(message_bytes)
        .max_encoding_message_size(message_bytes);
    let cluster = ClusterServiceServer::new(Service::new(shared.cluster.clone(), shared.gate.clone()))
        .max_decoding_message_size(message_bytes);
    let others = health.mount(Routes::new(admin).add_service(cluster)).prepare();
    Services { permits: Permits::new(Arc::clone(shared)), others }
}

/// Serves every connection that comes, until `stop`.
async fn serve<S>(
    config: Arc<ServerConfig>,
    tls: Option<Arc<Tls>>,
    services: S,
    mut handed_over: mpsc::Receiver<Handover>,
    mut stop: watch::Receiver<Stop>,
) where
    S: TowerService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut open = JoinSet::new();
    let mut finish = stop.clone();
    loop {
        tokio::select! {
            handed = handed_over.recv() => {
                let Some((stream, room)) = handed else { break };
                let tls = tls.as_deref().map(Tls::grpc);
                match Connection::adopt(stream, tls, Paces::new(&config.bounds), room) {
                    Ok(connection) => {
                        let mut finish = stop.clone();
                        let finish = async move { drop(finish.wait_for(|&stop| stop > Stop::Run).await) };
                        open.spawn(serving::serve(connection, services.clone(), Arc::clone(&config), finish));
                    }
                    // An error would end the worker, so a socket that can't be watched is dropped.
                    Err(error) => tracing::warn!(%error, "could not serve a connection"),
                }
                // However many come, those that are there have their turn after each.
                yield_now().await;
            }
            // The runtime's hook has told of one that panicked.
            Some(_) = open.join_next() => {}
            _ = finish.wait_for(|&stop| stop > Stop::Run) => break,
        }
    }
    tokio::select! {
        () = async { while open.join_next().await.is_some() {} } => {}
        _ = stop.wait_for(|&stop| stop == Stop::Now) => {}
    }
}
