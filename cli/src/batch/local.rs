//! A permitd server inside this process, for `--local`: on a port of its own, for this run alone.

use std::{path::PathBuf, thread};

use clap::Args;
use permitd_budget::{BudgetSpec, LimitSpec};
use permitd_server::{
    Listeners,
    config::{BudgetName, Config, Data},
};
use tokio::sync::oneshot;

use crate::{check::environment, failure::Failure, limits::limit, remote::block_on};

const HEADING: &str = "Without a server";

/// How to do without a server.
#[derive(Clone, Debug, Args)]
pub(super) struct Local {
    /// Keep the budget in this process, for this run alone. Others who use the same key are not seen.
    #[arg(help_heading = HEADING, long)]
    pub(super) local: bool,
    /// A limit of the budget, as `permitd budgets set` takes it. Can be repeated. Without any, the limit is
    /// found, as with `permitd budgets set --unlimited`.
    #[arg(help_heading = HEADING, long = "limit", value_name = "LIMIT", value_parser = limit, requires = "local")]
    limits: Vec<LimitSpec>,
    /// Take the budget from a server's configuration instead.
    #[arg(help_heading = HEADING, long, value_name = "FILE", requires = "local", conflicts_with = "limits")]
    config: Option<PathBuf>,
}

/// The server; it ends with this.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) url: String,
    _stop: oneshot::Sender<()>,
}

impl Local {
    /// Starts the server on threads of its own.
    pub(super) async fn start(&self, budget: &BudgetName) -> Result<Embedded, Failure> {
        let config = self.config(budget)?;
        let cannot = |error: permitd_server::Error| {
            Failure::new("can't start a permitd server in this process").because(error)
        };
        let mut listeners = Listeners::bind(&config.server).await.map_err(cannot)?;
        let url = format!("http://{}", listeners.grpc_address());
        let ready = listeners.ready();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = thread::spawn(move || {
            block_on(async {
                // It is dropped rather than used.
                let stopped = async { drop(stopped.await) };
                permitd_server::run(config, listeners, stopped).await.map_err(cannot)
            })
        });
        match ready.await {
            Ok(()) => Ok(Embedded { url, _stop: stop }),
            Err(_) => match ended.join() {
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(())) | Err(_) => Err(Failure::new("the permitd server in this process ended at once")),
            },
        }
    }

    fn config(&self, budget: &BudgetName) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(file) => Config::load(Some(file), environment()).map_err(|error| {
                let failure = Failure::new("the configuration is wrong").because(format!("\n{error}"));
                failure.hint("mend it; `permitd check FILE` tells when it is right")
            })?,
            None => {
                let spec = BudgetSpec { limits: self.limits.clone(), ..BudgetSpec::default() };
                let spec = spec
                    .check()
                    .map_err(|error| Failure::new("--limit makes no sense").because(error).exit_code(2))?;
                Config { budgets: [(budget.clone(), spec)].into(), ..Config::default() }
            }
        };
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.http = None;
        // What a batch has done is in its own files.
        config.server.data = Data::Memory;
        config.server.tls = None;
        config.server.workers = 1;
        Ok(config)
    }
}
