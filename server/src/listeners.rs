//! The sockets of a server, bound before it runs, so that whoever starts it knows where it will be.

use std::net::SocketAddr;

use tokio::{net::TcpListener, sync::oneshot};

use crate::{Error, config::ServerConfig};

/// What a server listens on.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) grpc: TcpListener,
    pub(crate) http: Option<TcpListener>,
    pub(crate) ready: Option<oneshot::Sender<()>>,
}

impl Listeners {
    /// Binds what is configured. Connections wait in the system's backlog until the server runs.
    ///
    /// # Errors
    /// If an address is taken or not ours.
    pub async fn bind(config: &ServerConfig) -> Result<Self, Error> {
        let grpc = bind(config.listen).await?;
        let http = match config.http {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { grpc, http, ready: None })
    }

    /// Where gRPC is served.
    ///
    /// # Panics
    /// If the system does not know the address of a bound socket.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.local_addr().expect("a bound socket has an address")
    }

    /// Where health and metrics are served over HTTP.
    ///
    /// # Panics
    /// If the system does not know the address of a bound socket.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.local_addr().expect("a bound socket has an address"))
    }

    /// Resolves when the server is ready; to an error if it ended before.
    pub fn ready(&mut self) -> oneshot::Receiver<()> {
        let (sender, ready) = oneshot::channel();
        self.ready = Some(sender);
        ready
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}
