//! What a server is told before it starts: plain data, every field with a default, from one TOML file with the environment
//! over it (and the command line's flags over both).
//!
//! Environment variables override settings of `[server]`: `PERMITD_` and the path in capitals, with two underscores for each
//! dot, so `PERMITD_SERVER__LISTEN` is `server.listen` and `PERMITD_SERVER__BOUNDS__SESSIONS` is `server.bounds.sessions`.
//! A variable without two underscores is not a setting (`PERMITD_SERVER` is the address that the command line talks to).

mod auth;
mod budgets;
mod cluster;
mod data;
mod duration;
mod error;
mod limit_text;
mod lines;
mod load;
mod name;
mod pools;
pub(crate) mod read;
mod render;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use permitd_budget::CheckedSpec;

pub(crate) use auth::priority_name;
pub use auth::{AuthConfig, IdentityConfig, JwtConfig};
pub(crate) use budgets::read_limits;
pub use cluster::{ClusterConfig, EtcdConfig, EtcdTlsConfig};
pub use data::Data;
pub use duration::{DurationText, parse_duration};
pub use error::{ConfigError, Problem};
pub(crate) use limit_text::unknown;
pub use limit_text::{LimitText, LimitTextError, parse_amount, parse_limit};
pub(crate) use load::read_strictly;
pub use name::{BudgetName, BudgetNameError, DEFAULT_KEY};
pub(crate) use pools::NOT_IN_A_CLUSTER;
pub use pools::{MemberSpec, PoolSpec};
pub(crate) use render::budget_toml;

/// Everything that a server is told before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The process: where it listens, how it behaves, what bounds it.
    pub server: ServerConfig,
    /// Who may do what; nobody declared means that everybody may do everything.
    pub auth: AuthConfig,
    /// Budgets declared by name.
    pub budgets: BTreeMap<BudgetName, CheckedSpec>,
    /// What a key of the provider gets that nobody declared, made on first use. Keys of other providers are unknown.
    pub providers: BTreeMap<String, CheckedSpec>,
    /// Names that stand for several budgets each.
    pub pools: BTreeMap<BudgetName, PoolSpec>,
    /// With which other servers this one is one; `None` for none.
    pub cluster: Option<ClusterConfig>,
}

/// The process: where it listens and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where gRPC is served: an IP address and a port. Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Where state is kept that outlasts the process: a folder of its own, made if it is not there; `none` keeps everything in
    /// memory.
    pub data: Data,
    /// Where the web console, `/healthz`, `/readyz` and `/metrics` are served; `None` for nowhere, which is written `off`.
    pub http: Option<SocketAddr>,
    /// Whether to listen beyond loopback without TLS and authentication.
    pub insecure: bool,
    /// Threads that serve connections; 0 means one per core.
    pub workers: usize,
    /// How long a broken session keeps its places in the queue and its permits.
    pub grace: Duration,
    /// How long reports are still taken after the server was told to stop. It is gone within 10 s in any case.
    pub drain: Duration,
    /// How long a client may use its local share of a budget after it last heard of it.
    pub share_valid_for: Duration,
    /// Files with profiles of providers, over the built-in ones.
    pub profiles: Vec<PathBuf>,
    /// How dead connections are found.
    pub keepalive: Keepalive,
    /// Where traces go, and which.
    pub telemetry: TelemetryConfig,
    /// What is served with TLS; `None` serves in the clear.
    pub tls: Option<TlsConfig>,
    /// Where a trace of what is asked of budgets is written, for `permitd simulate`; `None` for nowhere.
    pub record: Option<PathBuf>,
    /// What nobody may exceed.
    pub bounds: Bounds,
}

/// Where traces go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The collector, which takes OTLP by gRPC, as `http://127.0.0.1:4317`; `None` for no traces.
    pub otlp: Option<String>,
    /// Of requests without a trace context of their own, one in so many is traced; 0 for none.
    pub sample_one_in: u32,
}

/// What TLS is served with, on both ports. The files are in PEM, and read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate, with those between it and its authority behind it. Naming one turns TLS on.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client needs a certificate.
    pub client_certs: ClientCerts,
}

/// Whether a client needs a certificate, where their authorities are configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCerts {
    /// None gets a connection without.
    #[default]
    Required,
    /// Those without have to show something else.
    Optional,
}

impl TlsConfig {
    /// Every file that is read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca)
    }
}

/// How dead connections are found: HTTP/2 pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Between two pings of a quiet connection.
    pub interval: Duration,
    /// A connection that leaves a ping unanswered for so long is dead.
    pub timeout: Duration,
}

/// What nobody may exceed. Past each one is a clear error for whoever asks for more, and nothing changes for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// HTTP/2 streams at once on one connection; further ones wait in the client.
    pub streams_per_connection: usize,
    /// Calls a second on one connection, a session counting as one; 0 means as many as it makes.
    pub calls_per_second: u32,
    /// Acquires, reports, extensions and cancels a second in the sessions of one connection; 0 means as many as they ask for.
    pub items_per_second: u32,
    /// Sessions, including broken ones within their grace.
    pub sessions: usize,
    /// Requests waiting in one session.
    pub waiting_per_session: usize,
    /// Acquires in one session message.
    pub acquires_per_message: usize,
    /// Cancels in one session message.
    pub cancels_per_message: usize,
    /// Bytes in one message, either way.
    pub message_bytes: usize,
    /// Budgets, declared and made on first use.
    pub budgets: usize,
    /// `WatchBudgets` calls at once.
    pub watches: usize,
    /// Entries of the audit trail that are kept; the oldest go first.
    pub changes: usize,
    /// Budgets with metrics of their own; the others are added up under `other`.
    pub metric_budgets: usize,
    /// Bytes of the trace; what comes after is not written.
    pub record_bytes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7110)),
            data: Data::default(),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7111))),
            insecure: false,
            workers: 0,
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            share_valid_for: Duration::from_secs(60),
            profiles: Vec::new(),
            keepalive: Keepalive::default(),
            telemetry: TelemetryConfig::default(),
            tls: None,
            record: None,
            bounds: Bounds::default(),
        }
    }
}

/// An address that others could reach, and should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} can be reached from other machines: {lacks}")]
pub struct Exposed {
    /// The address.
    pub address: SocketAddr,
    /// What would keep strangers out, or secrets in.
    pub lacks: Lacks,
}

/// What a server lacks that others can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacks {
    /// Nobody has to prove who they are.
    #[error("nobody has to prove who they are, so anybody there could use and change every budget")]
    Authentication,
    /// Nothing is encrypted.
    #[error("nothing is encrypted, so anybody on the way could read tokens and use them")]
    Encryption,
}

impl Config {
    /// The first address that others could reach without TLS and authentication, while `server.insecure` is not set. A binary
    /// refuses to start then.
    #[must_use]
    pub fn exposed(&self) -> Option<Exposed> {
        let lacks = match (self.auth.is_on(), &self.server.tls) {
            (false, _) => Lacks::Authentication,
            (true, None) => Lacks::Encryption,
            (true, Some(_)) => return None,
        };
        let addresses = [Some(self.server.listen), self.server.http].into_iter().flatten();
        let mut reachable = addresses.filter(|address| !self.server.insecure && !address.ip().is_loopback());
        reachable.next().map(|address| Exposed { address, lacks })
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp: None, sample_one_in: 100 }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams_per_connection: 10_000,
            calls_per_second: 0,
            items_per_second: 0,
            sessions: 10_000,
            waiting_per_session: 10_000,
            acquires_per_message: 1_000,
            cancels_per_message: 10_000,
            message_bytes: 4 * 1024 * 1024,
            budgets: 10_000,
            watches: 100,
            changes: 10_000,
            metric_budgets: 200,
            record_bytes: 256 * 1024 * 1024,
        }
    }
}
