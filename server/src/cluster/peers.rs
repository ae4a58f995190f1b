//! The other servers, and how they are reached: one connection to each, on which everything to it travels.

use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use permitd_proto::v1::{
    admin_service_client::AdminServiceClient, cluster_service_client::ClusterServiceClient,
    permit_service_client::PermitServiceClient,
};
use tokio::runtime::Handle;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    auth::{Caller, passed},
    config::{ClusterConfig, TlsConfig},
};

const CONNECT_MAX: Duration = Duration::from_millis(500);
/// A server that went without a word is found out in that time: within a failover.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_secs(2);
/// HTTP/2 windows, as servers have them.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Connections that are kept; beyond, those of servers that nobody asks are made anew.
const CONNECTIONS_MAX: usize = 1_000;

/// Another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    address: String,
}

impl Peer {
    pub(super) fn new(name: &str, address: &str) -> Self {
        Self { name: name.to_owned(), address: address.to_owned() }
    }
}

/// Connections to the other servers. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    tls: Option<ClientTlsConfig>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// Where connections live, whichever thread uses them.
    runtime: Handle,
}

impl Peers {
    /// Shows the server's own certificate to the others.
    ///
    /// # Errors
    /// What is wrong with a file or with the server's own address.
    pub(super) fn new(
        tls: Option<&TlsConfig>,
        cluster: &ClusterConfig,
        address: &str,
    ) -> Result<Self, String> {
        let read =
            |path: &Path| fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()));
        let tls = match tls {
            None => None,
            Some(tls) => {
                let mut config =
                    ClientTlsConfig::new().identity(Identity::from_pem(read(&tls.cert)?, read(&tls.key)?));
                config = match &cluster.peer_ca {
                    Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
                    None => config.with_native_roots(),
                };
                Some(config)
            }
        };
        let peers = Self { tls, channels: Arc::default(), runtime: Handle::current() };
        // As the others will.
        peers.endpoint(address).map_err(|error| format!("cluster.address {address:?}: {error}"))?;
        Ok(peers)
    }

    /// Where what has to do with other servers runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn permits(&self, peer: &Peer) -> Result<PermitServiceClient<Channel>, tonic::Status> {
        Ok(PermitServiceClient::new(self.channel(peer)?))
    }

    pub(crate) fn admin(&self, peer: &Peer) -> Result<AdminServiceClient<Channel>, tonic::Status> {
        Ok(AdminServiceClient::new(self.channel(peer)?))
    }

    pub(crate) fn cluster(&self, peer: &Peer) -> Result<ClusterServiceClient<Channel>, tonic::Status> {
        Ok(ClusterServiceClient::new(self.channel(peer)?))
    }

    fn channel(&self, peer: &Peer) -> Result<Channel, tonic::Status> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&peer.address) {
            return Ok(channel.clone());
        }
        let unusable = |error: tonic::transport::Error| {
            tonic::Status::unavailable(format!("{} can't be reached at {}: {error}", peer.name, peer.address))
        };
        let endpoint = self.endpoint(&peer.address).map_err(unusable)?;
        if channels.len() >= CONNECTIONS_MAX {
            channels.clear();
        }
        let _inside = self.runtime.enter();
        let channel = endpoint.connect_lazy();
        channels.insert(peer.address.clone(), channel.clone());
        Ok(channel)
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_MAX)
            .keep_alive_while_idle(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()),
            None => Ok(endpoint),
        }
    }
}

/// A call that is passed on for its caller.
pub(crate) fn on_behalf<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    passed::write(caller, request.metadata_mut());
    request
}
