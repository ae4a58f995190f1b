//! Which server to talk to, and how.

use std::{env, future::Future, path::PathBuf, time::Duration};

use clap::Args;
use permitd_client::{Client, ClientBuilder, Tls, Token, internal::Credentials};
use permitd_proto::v1::{
    admin_service_client::AdminServiceClient, cluster_service_client::ClusterServiceClient,
    permit_service_client::PermitServiceClient,
};
use tokio::runtime;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::failure::{Failure, root_cause};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a quiet connection is checked, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Where the token is looked for if nothing else is said.
const TOKEN_VARIABLE: &str = "PERMITD_TOKEN";

/// A connection on which every call shows who makes it.
pub(crate) type Connection = InterceptedService<Channel, Signature>;

/// Which server to talk to, and for whom to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The server to talk to.
    #[arg(long, env = "PERMITD_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7110")]
    pub(crate) server: String,
    /// Print JSON, failures included: one value, or one a line where there are many.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    security: Security,
}

/// How server and caller prove who they are.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Security")]
struct Security {
    /// Trust servers that these authorities vouch for, in PEM, and no others. Default: the system's authorities.
    #[arg(long, env = "PERMITD_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show, in PEM.
    #[arg(long, env = "PERMITD_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "PERMITD_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The file that has the token to show.
    #[arg(long, env = "PERMITD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The environment variable that has the token to show, rather than a file. Default: PERMITD_TOKEN, if it is set.
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// Send the token in the clear to another machine, where the network itself keeps strangers out.
    #[arg(long)]
    insecure: bool,
}

impl Security {
    fn credentials(&self) -> Result<Credentials, Failure> {
        let mut tls = self.tls_ca.clone().map(|path| Tls::new().ca_file(path));
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = Some(tls.unwrap_or_default().identity_files(cert, key));
        }
        let token = match (&self.token_env, &self.token_file) {
            (Some(name), _) => {
                let token = env::var(name).map_err(|_| {
                    Failure::new(format!(
                        "--token-env {name}: the environment has no such variable, or it is no text"
                    ))
                    .exit_code(2)
                })?;
                Some(Token::new(token))
            }
            (None, Some(path)) => Some(Token::file(path)),
            (None, None) => env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(Token::new),
        };
        Ok(Credentials { tls, token, insecure: self.insecure })
    }
}

/// Shows the token with every call.
#[derive(Clone, Debug)]
pub(crate) struct Signature(MetadataMap);

impl Interceptor for Signature {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = self.0.get("authorization") {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Remote {
    /// A server on this machine that wants no proof of anything.
    pub(crate) fn at(url: &str) -> Self {
        Self { server: url.to_owned(), json: false, security: Security::default() }
    }

    /// Connects.
    async fn connect(&self) -> Result<Connection, Failure> {
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
        let credentials = self.security.credentials()?;
        let unusable = |error: permitd_client::Error| {
            Failure::new(format!("can't talk to {}", self.server)).because(error)
        };
        let endpoint = credentials.secure(endpoint).map_err(unusable)?;
        let mut signature = Signature(MetadataMap::new());
        credentials.sign(&mut signature.0).map_err(unusable)?;
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|error| Failure::unreachable(&self.server, root_cause(&error)))?;
        Ok(InterceptedService::new(channel, signature))
    }

    /// Connects for administration.
    pub(crate) async fn admin(&self) -> Result<AdminServiceClient<Connection>, Failure> {
        Ok(AdminServiceClient::new(self.connect().await?))
    }

    /// Connects for what is about a cluster.
    pub(crate) async fn cluster(&self) -> Result<ClusterServiceClient<Connection>, Failure> {
        Ok(ClusterServiceClient::new(self.connect().await?))
    }

    /// Connects for permits.
    pub(crate) async fn permits(&self) -> Result<PermitServiceClient<Connection>, Failure> {
        Ok(PermitServiceClient::new(self.connect().await?))
    }

    /// A client with a session, to be connected.
    pub(crate) fn client(&self) -> Result<ClientBuilder, Failure> {
        let Credentials { tls, token, insecure } = self.security.credentials()?;
        let mut client = Client::builder().endpoint(&self.server);
        if let Some(tls) = tls {
            client = client.tls(tls);
        }
        if let Some(token) = token {
            client = client.token(token);
        }
        Ok(if insecure { client.insecure() } else { client })
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
