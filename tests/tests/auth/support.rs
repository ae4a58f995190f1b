//! Servers with certificates.

use permitd_server::config::{ClientCerts, Config, TlsConfig};
use permitd_tests::{Authority, Folder, Issued};

/// The files that a server reads its certificates from.
pub(crate) struct Files {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
}

impl Files {
    /// An authority, and a server's certificate by it.
    pub(crate) fn new() -> Self {
        let files = Self { folder: Folder::new(), authority: Authority::new() };
        files.put(&files.authority.server());
        files.folder.put("ca.pem", &files.authority.cert);
        files
    }

    /// Replaces the server's certificate and key.
    pub(crate) fn put(&self, server: &Issued) {
        self.folder.put("cert.pem", &server.cert);
        self.folder.put("key.pem", &server.key);
    }

    /// Makes a server use them. With `client_certs`, clients can or have to show some by the same authority.
    pub(crate) fn configure(&self, config: &mut Config, client_certs: Option<ClientCerts>) {
        config.server.tls = Some(TlsConfig {
            cert: self.folder.path("cert.pem"),
            key: self.folder.path("key.pem"),
            client_ca: client_certs.map(|_| self.folder.path("ca.pem")),
            client_certs: client_certs.unwrap_or_default(),
        });
    }
}
