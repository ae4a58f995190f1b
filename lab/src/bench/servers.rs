//! The servers that are measured, on ports of their own, until they are stopped.

use std::{io, net::SocketAddr, thread};

use permitd_server::{Listeners, config::Config};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use super::{Error, Mix, Plan, echo::Echo, load::Load};

/// Both of them.
pub(super) struct Servers {
    pub(super) permitd: SocketAddr,
    pub(super) echo: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Servers {
    /// With so many workers each; 0 means one per core.
    pub(super) fn start(workers: usize, plan: &Plan) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let mut servers =
            Self { permitd: "127.0.0.1:0".parse()?, echo: "127.0.0.1:0".parse()?, stop, threads: Vec::new() };
        servers.permitd = servers.start_permitd(workers, plan, stopped.clone())?;
        servers.echo = servers.start_echo(workers, &stopped)?;
        Ok(servers)
    }

    /// The one that the load is for.
    pub(super) fn of(&self, load: Load) -> SocketAddr {
        match load {
            Load::Session | Load::Unary => self.permitd,
            Load::EchoStream | Load::EchoCall => self.echo,
        }
    }

    pub(super) fn stop(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }

    fn start_permitd(
        &mut self,
        workers: usize,
        plan: &Plan,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<SocketAddr, Error> {
        let (tell, told) = oneshot::channel();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut config = Config::default();
        config.server.listen = "127.0.0.1:0".parse()?;
        config.server.http = None;
        config.server.data = plan.data.clone();
        config.server.workers = workers;
        config.server.bounds.budgets = 1_000_000;
        // Every budget is made on first use.
        config.providers.extend(Mix::all(plan).map(|(provider, spec)| (provider.to_owned(), spec)));
        self.threads.push(thread::spawn(move || {
            runtime.block_on(async move {
                let listeners = match Listeners::bind(&config.server).await {
                    Ok(listeners) => listeners,
                    Err(error) => return eprintln!("permitd-lab: {error}"),
                };
                let _ = tell.send(listeners.grpc_address());
                let stop = async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                };
                if let Err(error) = permitd_server::run(config, listeners, stop).await {
                    eprintln!("permitd-lab: {error}");
                }
            });
        }));
        Ok(told.blocking_recv()?)
    }

    fn start_echo(&mut self, workers: usize, stopped: &watch::Receiver<bool>) -> Result<SocketAddr, Error> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut hands = Vec::new();
        for _ in 0..if workers == 0 { cores } else { workers } {
            let (hand, handed) = mpsc::channel::<std::net::TcpStream>(64);
            hands.push(hand);
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            self.threads.push(thread::spawn(move || runtime.block_on(serve_echo(handed))));
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stopped.clone();
        self.threads.push(thread::spawn(move || {
            if let Err(error) = runtime.block_on(accept(listener, &hands, stopped)) {
                eprintln!("permitd-lab: {error}");
            }
        }));
        Ok(address)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    workers: &[mpsc::Sender<std::net::TcpStream>],
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    for worker in workers.iter().cycle() {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        stream.set_nodelay(true)?;
        if worker.send(stream.into_std()?).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn serve_echo(handed: mpsc::Receiver<std::net::TcpStream>) {
    use tokio_stream::StreamExt as _;
    let connections = ReceiverStream::new(handed).map(TcpStream::from_std);
    if let Err(error) = Server::builder().add_service(Echo).serve_with_incoming(connections).await {
        eprintln!("permitd-lab: {error}");
    }
}
