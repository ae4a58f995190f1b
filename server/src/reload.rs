//! Reading the configuration again, when its file changes or somebody asks: all of its budgets, providers and identities are put in
//! force, or, where anything in it is wrong, nothing, and the log says why.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio::{sync::mpsc, task};

use crate::{
    auth::Gate,
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

/// Follows the configuration for ever. `begun` is what the server was started with: budgets, providers, identities and who may read
/// metrics are followed, and nothing else.
pub(crate) async fn follow(reload: Reload, begun: Config, registry: Arc<Registry>, gate: Gate) {
    let Reload { file, load, mut asked } = reload;
    let watched = Watched::new([file]);
    let begun = Arc::new(begun);
    let again = {
        let (load, begun) = (Arc::clone(&load), Arc::clone(&begun));
        move || put_in_force(load(), &begun, &registry, &gate)
    };
    // What was changed since the server read it, and before it was watched.
    let caught_up = {
        let again = again.clone();
        move || {
            if load().ok().as_ref() != Some(&*begun) {
                again();
            }
        }
    };
    // It fails only where the server stops.
    let _ = task::spawn_blocking(caught_up).await;
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

fn put_in_force(read: Result<Config, ConfigError>, begun: &Config, registry: &Registry, gate: &Gate) {
    let followed = read.map_err(|error| error.to_string()).and_then(|config| {
        if !gate.can_follow(&config.auth) {
            return Err("whether callers have to prove who they are changes with a restart only".to_owned());
        }
        registry.follow(File::of(&config)).map_err(|error| error.to_string())?;
        gate.follow(&config.auth);
        Ok(config)
    });
    match followed {
        Ok(config) => {
            let (budgets, providers) = (config.budgets.len(), config.providers.len());
            let identities = config.auth.identities.len();
            tracing::warn!(
                budgets,
                providers,
                identities,
                "the configuration was read again and is in force"
            );
            let late = not_followed(begun, &config).join(", ");
            if !late.is_empty() {
                tracing::warn!(
                    sections = late,
                    "what changed there needs a restart; until then it is as before"
                );
            }
        }
        Err(error) => tracing::error!(%error, "the configuration was not put in force; nothing changed"),
    }
}

/// The sections that changed and are not followed, or of which a part is not.
fn not_followed(begun: &Config, read: &Config) -> Vec<&'static str> {
    let sections = [
        ("server", begun.server != read.server),
        ("auth.jwt", begun.auth.jwt != read.auth.jwt),
        ("cluster", begun.cluster != read.cluster),
    ];
    sections.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}
