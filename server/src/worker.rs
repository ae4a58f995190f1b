//! Threads that serve connections. Each has a single-threaded runtime of its own: a connection stays where it was accepted, so
//! nothing is stolen, and a session is polled by one thread only.

use std::{future::Future, io, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use permitd_proto::v1::{
    admin_service_server::AdminServiceServer, cluster_service_server::ClusterServiceServer,
};
use tokio::{
    net::TcpListener,
    runtime,
    sync::{Semaphore, mpsc, oneshot, watch},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{service::Routes, transport::Server};
use tower::{layer::layer_fn, util::option_layer};

use crate::{
    admin::Admin,
    auth::GateLayer,
    cluster::Service,
    config::ServerConfig,
    connection::{Connection, Room},
    health::Health,
    pace::{Paced, Paces},
    service::Permits,
    shared::Shared,
    tls::Tls,
    turns::InTurn,
};

/// Connections handed to one worker that it has not taken yet.
const HANDOVER_MAX: usize = 64;
/// HTTP/2 windows: large enough for a full message at once.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
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
        let mut workers = Self { handovers: Vec::new(), finished: Vec::new(), threads: Vec::new() };
        for number in 0..count {
            let (handover, handed_over) = mpsc::channel(HANDOVER_MAX);
            let (finish, finished) = oneshot::channel();
            let runtime =
                runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
            let (config, tls, stop) = (shared.config.clone(), shared.tls.clone(), stop.clone());
            let gate = shared
                .gate
                .is_needed()
                .then(|| GateLayer { gate: shared.gate.clone(), denied: shared.metrics.denied.clone() });
            let routes = routes(shared, admin, health);
            let serve = move || {
                runtime.block_on(serve(&config, tls, gate, routes, handed_over, stop));
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

fn routes(shared: &Arc<Shared>, admin: &Admin, health: &Health) -> Routes {
    let message_bytes = shared.config.bounds.message_bytes;
    let admin = AdminServiceServer::new(admin.clone())
        .max_decoding_message_size(message_bytes)
        .max_encoding_message_size(message_bytes);
    let cluster = ClusterServiceServer::new(Service::new(shared.cluster.clone(), shared.gate.clone()))
        .max_decoding_message_size(message_bytes);
    let routes = Routes::new(Permits::new(Arc::clone(shared))).add_service(admin).add_service(cluster);
    health.mount(routes).prepare()
}

async fn serve(
    config: &ServerConfig,
    tls: Option<Arc<Tls>>,
    gate: Option<GateLayer>,
    routes: Routes,
    handed_over: mpsc::Receiver<Handover>,
    mut stop: watch::Receiver<Stop>,
) {
    let streams = u32::try_from(config.bounds.streams_per_connection).unwrap_or(u32::MAX);
    let bounds = config.bounds;
    // An error would end the worker, so a socket that can't be watched is dropped.
    let connections = ReceiverStream::new(handed_over).filter_map(|(stream, room)| {
        let adopted = Connection::adopt(stream, tls.as_deref().map(Tls::grpc), Paces::new(&bounds), room);
        adopted
            .inspect_err(|error| tracing::warn!(%error, "could not serve a connection"))
            .ok()
            .map(Ok::<_, io::Error>)
    });
    let mut finish = stop.clone();
    let served = Server::builder()
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(config.keepalive.interval))
        .http2_keepalive_timeout(Some(config.keepalive.timeout))
        .layer(layer_fn(InTurn))
        .layer(option_layer((bounds.calls_per_second > 0).then_some(layer_fn(Paced))))
        .layer(option_layer(gate))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, async move {
            let _ = finish.wait_for(|&stop| stop > Stop::Run).await;
        });
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::error!(%error, "a worker stopped serving");
            }
        }
        _ = stop.wait_for(|&stop| stop == Stop::Now) => {}
    }
}
