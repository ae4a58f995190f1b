//! `permitd serve`

use std::{
    future::Future,
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use permitd_server::{
    Listeners, Origin, Reload,
    config::{ClusterConfig, Config, ConfigError, Data, DurationText, Exposed},
    words::counted,
};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::{
    check::environment,
    failure::Failure,
    remote::block_on,
    signals::{INTERRUPTED, Signals, survive_file_limits},
};

const EXAMPLES: &str = "\
Examples:
  permitd serve                                   on this machine, ports 7110 and 7111
  permitd serve --config permitd.toml             with budgets from a file
  permitd serve --listen 127.0.0.1:0 --http off   on a port that the system chooses
  curl http://127.0.0.1:7111/metrics              what it does, for Prometheus

Settings come from the file, over it from the environment (PERMITD_SERVER__LISTEN is \
server.listen), and over both from these flags. `permitd check FILE` shows the outcome.
The file is read again when it changes and at SIGHUP: its budgets, providers, pools and identities are put in \
force, all or nothing.
SIGTERM or Ctrl-C drains: no new permits, but reports are still taken for a few seconds.
A second one stops at once.";

/// Starts a server and runs it until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// Where to serve gRPC. Default: 127.0.0.1:7110.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where to serve the web console, /healthz, /readyz and /metrics, or `off`. Default: 127.0.0.1:7111.
    #[arg(long, value_name = "ADDRESS", value_parser = http)]
    http: Option<Http>,
    /// Where state is kept: a folder, which no other server may use, or `none` to lose it with the process. Default: permitd-data.
    #[arg(long, value_name = "FOLDER")]
    data: Option<Data>,
    /// Be one of several servers that share their budgets, on the etcd there: etcd://HOST:PORT,... (or etcds:// for TLS). It keeps what
    /// --data would.
    #[arg(long, value_name = "ETCD", value_parser = etcd)]
    cluster: Option<Endpoints>,
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE", env = "PERMITD_CONFIG")]
    config: Option<PathBuf>,
    /// Threads that serve connections. Default: one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1_024))]
    workers: Option<u16>,
    /// Write a trace of what is asked of budgets, for `permitd simulate`: a file, which is made anew.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Listen beyond loopback without TLS and authentication.
    #[arg(long)]
    insecure: bool,
    /// What to log to stderr: error, warn, info, debug, or filters as in permitd_server=debug.
    #[arg(long, value_name = "FILTER", env = "PERMITD_LOG", default_value = "warn")]
    log: String,
}

#[derive(Clone, Copy, Debug)]
struct Http(Option<SocketAddr>);

/// Where a cluster's etcd is.
#[derive(Clone, Debug)]
struct Endpoints(Vec<String>);

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let filter = EnvFilter::try_new(&self.log).map_err(|error| {
            Failure::new(format!("--log {:?} is no filter", self.log)).because(error).exit_code(2)
        })?;
        // Colours are for people: in files and journals they would stand between the words.
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal());
        log.with_writer(io::stderr).init();
        let config = self.config()?;
        if let Some(Exposed { address, lacks }) = config.exposed() {
            let failure = Failure::new(format!("{address} can be reached from other machines"));
            let hint = "listen on 127.0.0.1; or declare [server.tls] and [auth]; or add --insecure if the network itself keeps strangers out";
            return Err(failure.because(lacks).hint(hint));
        }
        block_on(serve(config, self))?;
        Ok(ExitCode::SUCCESS)
    }

    fn config(&self) -> Result<Config, Failure> {
        self.load().map_err(|error| {
            let failure = Failure::new("the configuration is wrong").because(format!("\n{error}"));
            failure.hint("mend it; `permitd check FILE` tells when it is right")
        })
    }

    /// The file, the environment over it, the flags over both.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref(), environment())?;
        let server = &mut config.server;
        server.listen = self.listen.unwrap_or(server.listen);
        if let Some(data) = &self.data {
            server.data = data.clone();
        }
        server.http = self.http.map_or(server.http, |Http(address)| address);
        server.workers = self.workers.map_or(server.workers, usize::from);
        server.insecure |= self.insecure;
        if let Some(record) = &self.record {
            server.record = Some(record.clone());
        }
        if let Some(Endpoints(endpoints)) = &self.cluster {
            let on = ClusterConfig::on(endpoints.clone());
            let cluster = config.cluster.get_or_insert(on.clone());
            cluster.etcd.tls = on.etcd.tls.map(|tls| cluster.etcd.tls.take().unwrap_or(tls));
            cluster.etcd.endpoints = on.etcd.endpoints;
        }
        Ok(config)
    }
}

async fn serve(config: Config, flags: Serve) -> Result<(), Failure> {
    survive_file_limits()?;
    let shutdown = shutdown(config.server.drain)?;
    let cannot = |error: permitd_server::Error| {
        Failure::new(error.to_string()).hint("choose other addresses with --listen and --http")
    };
    let mut listeners = Listeners::bind(&config.server).await.map_err(cannot)?;
    let mut origin = Origin::of(&config).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(file) = flags.config.clone() {
        let load = Arc::new(move || flags.load());
        origin.reload = Some(Reload { file, load, asked: asked_to_reload()? });
    }
    let announcement = announcement(&listeners, &config);
    let ready = listeners.ready();
    tokio::spawn(async move {
        if ready.await.is_ok() {
            // Nobody may be reading; the server runs all the same.
            let _ = writeln!(io::stdout(), "{announcement}").and_then(|()| io::stdout().flush());
        }
    });
    let ran = permitd_server::run_from(origin, config, listeners, shutdown).await;
    ran.map_err(|error| Failure::new(error.to_string()))
}

/// One line: where it is, and what to try next.
fn announcement(listeners: &Listeners, config: &Config) -> String {
    let grpc = listeners.grpc_address();
    let http = listeners.http_address().map_or("off".to_owned(), |address| address.to_string());
    let server = match &config.server.tls {
        Some(_) => format!(" --server https://{grpc}"),
        None if grpc.port() == 7110 && grpc.ip().is_loopback() => String::new(),
        None => format!(" --server http://{grpc}"),
    };
    let token = if config.auth.is_on() { " --token-file FILE" } else { "" };
    let budgets = config.budgets.len();
    let next = match budgets {
        0 => format!("permitd budgets set anthropic/prod --limit requests=60/1m{server}{token}"),
        _ => format!("permitd budgets list{server}{token}"),
    };
    let budgets = counted(budgets as u64, "budget", "budgets");
    format!("permitd is ready: gRPC at {grpc}, http at {http}, {budgets}. Try: {next}")
}

/// SIGHUP asks for the configuration to be read again, where there is such a signal.
fn asked_to_reload() -> Result<mpsc::Receiver<()>, Failure> {
    // One that has not been taken stands for all that come meanwhile.
    let (ask, asked) = mpsc::channel(1);
    #[cfg(unix)]
    {
        let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        let mut hangup = hangup.map_err(|error| Failure::new("can't listen for signals").because(error))?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                // Full means asked already.
                let _ = ask.try_send(());
            }
        });
    }
    #[cfg(not(unix))]
    drop(ask);
    Ok(asked)
}

/// Resolves at the first signal; the second one ends the process.
fn shutdown(drain: std::time::Duration) -> Result<impl Future<Output = ()>, Failure> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        signals.next().await;
        let drain = DurationText(drain);
        eprintln!(
            "permitd is draining: no new permits, reports for at most {drain} more; again to stop at once"
        );
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(INTERRUPTED.into());
        });
    })
}

fn etcd(text: &str) -> Result<Endpoints, String> {
    ClusterConfig::endpoints(text).map(Endpoints)
}

fn http(text: &str) -> Result<Http, String> {
    if text == "off" {
        return Ok(Http(None));
    }
    let address = text.parse().map_err(|_| "write it like 127.0.0.1:7111, or off".to_owned())?;
    Ok(Http(Some(address)))
}
