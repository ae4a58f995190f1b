//! Reading the configuration again, when its file changes or somebody asks: all of its budgets and providers are put in force, or,
//! where anything in it is wrong, nothing, and the log says why.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio::{sync::mpsc, task};

use crate::{
    config::{Config, ConfigError},
    files::Watched,
    registry::{File, Registry},
};

/// How the configuration is read again.
pub struct Reload {
    /// What is watched.
    pub file: PathBuf,
    /// Reads it as it was read at the start.
    pub load: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// Asks for it, whether the file changed or not.
    pub asked: mpsc::Receiver<()>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Follows the configuration for ever. `begun` is what the server was started with: only budgets and providers are followed.
pub(crate) async fn follow(reload: Reload, begun: Config, registry: Arc<Registry>) {
    let Reload { file, load, mut asked } = reload;
    let watched = Watched::new([file]);
    let again = {
        let (load, registry, begun) = (Arc::clone(&load), Arc::clone(&registry), Arc::new(begun));
        move || put_in_force(load(), &begun, &registry)
    };
    let when_asked = {
        let again = again.clone();
        async move {
            while asked.recv().await.is_some() {
                // It fails only where the server stops.
                let _ = task::spawn_blocking(again.clone()).await;
            }
            std::future::pending::<()>().await;
        }
    };
    tokio::join!(watched.watch(again), when_asked);
}

fn put_in_force(read: Result<Config, ConfigError>, begun: &Config, registry: &Registry) {
    let followed = read.map_err(|error| error.to_string()).and_then(|config| {
        registry.follow(File::of(&config)).map(|()| config).map_err(|error| error.to_string())
    });
    match followed {
        Ok(config) => {
            let (budgets, providers) = (config.budgets.len(), config.providers.len());
            tracing::warn!(budgets, providers, "the configuration was read again and is in force");
            let others =
                Config { budgets: begun.budgets.clone(), providers: begun.providers.clone(), ..config };
            if others != *begun {
                tracing::warn!("what changed beside budgets and providers needs a restart");
            }
        }
        Err(error) => tracing::error!(%error, "the configuration was not put in force; nothing changed"),
    }
}
