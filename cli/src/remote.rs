//! Which server to talk to, and how.

use std::{future::Future, time::Duration};

use clap::Args;
use permitd_proto::v1::{
    admin_service_client::AdminServiceClient, permit_service_client::PermitServiceClient,
};
use tokio::runtime;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::failure::{Failure, root_cause};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a quiet connection is checked, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Which server to talk to, and for whom to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The server to talk to.
    #[arg(long, env = "PERMITD_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7110")]
    pub(crate) server: String,
    /// Print JSON, failures included: one value, or one a line where there are many.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Remote {
    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        let url =
            if self.server.contains("://") { self.server.clone() } else { format!("http://{}", self.server) };
        let endpoint = Endpoint::from_shared(url).map_err(|error| {
            let failure =
                Failure::new(format!("{:?} is no server's URL", self.server)).because(root_cause(&error));
            failure.hint("write it like http://127.0.0.1:7110").exit_code(2)
        })?;
        let (interval, timeout) = KEEPALIVE;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
        endpoint.connect().await.map_err(|error| Failure::unreachable(&self.server, root_cause(&error)))
    }

    /// Connects for administration.
    pub(crate) async fn admin(&self) -> Result<AdminServiceClient<Channel>, Failure> {
        Ok(AdminServiceClient::new(self.connect().await?))
    }

    /// Connects for permits.
    pub(crate) async fn permits(&self) -> Result<PermitServiceClient<Channel>, Failure> {
        Ok(PermitServiceClient::new(self.connect().await?))
    }

    /// What the server's status means.
    pub(crate) fn failure(&self, status: &Status) -> Failure {
        Failure::answered(&self.server, status)
    }
}

/// Runs what waits for others, on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("can't start the runtime").because(error))?;
    runtime.block_on(future)
}
