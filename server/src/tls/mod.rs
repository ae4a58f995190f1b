//! TLS as the configured files have it now: new connections get what stands in them, and files that make no sense change
//! nothing but the log.

mod load;
mod names;
mod socket;

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;

use self::load::Loaded;
pub(crate) use self::{names::Certificate, socket::Socket};
use crate::{config::TlsConfig, files::Watched};

/// Why certificates and keys can't be used. Never tells what stands in a key's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("{setting}: can't read {}: {source}", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{setting}: {}: {problem}", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// The server's side of TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    loaded: RwLock<Loaded>,
}

impl Tls {
    /// Reads the files. The watch notices what changes from now on.
    pub(crate) fn load(config: &TlsConfig) -> Result<(Arc<Self>, Watched), TlsError> {
        let watched = Watched::new(config.files().cloned());
        let loaded = RwLock::new(Loaded::read(config)?);
        Ok((Arc::new(Self { config: config.clone(), loaded }), watched))
    }

    /// Reads the files again. If they make no sense, what was read before stays.
    pub(crate) fn reload(&self) {
        match Loaded::read(&self.config) {
            Ok(loaded) => {
                tracing::info!(expires = loaded.expires, "new certificates: new connections get them");
                *self.loaded.write() = loaded;
            }
            Err(error) => tracing::error!(%error, "new certificates are refused; the old ones stay"),
        }
    }

    /// For gRPC.
    pub(crate) fn grpc(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.read().grpc))
    }

    /// For health and metrics: as for gRPC, but no client has to show a certificate, since probes have none.
    pub(crate) fn http(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.read().http))
    }
}

/// Says what is wrong with the files that `config` names.
///
/// # Errors
/// The first thing that is.
pub fn check(config: &TlsConfig) -> Result<(), TlsError> {
    Loaded::read(config).map(drop)
}
