//! Servers that know their callers.

use permitd_server::{
    auth::{Role, TokenHash},
    config::{ClientCerts, Config, IdentityConfig, TlsConfig},
};
use permitd_tests::{Authority, Folder, Issued, Server, facts};
use tonic::{Code, Status};

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

/// Somebody with this token and these roles, and no further bounds.
pub(crate) fn holder(token: &str, roles: &[Role]) -> IdentityConfig {
    IdentityConfig {
        tokens: vec![TokenHash::of(token)],
        roles: roles.iter().copied().collect(),
        ..IdentityConfig::default()
    }
}

/// The tokens of [`known`].
pub(crate) const ADMIN: &str = "the admin's token";
pub(crate) const ONE: &str = "one's token";
pub(crate) const OTHER: &str = "the other's token";

/// A server that knows an administrator, and two who acquire and report and may be any tenant.
pub(crate) async fn known(edit: impl FnOnce(&mut Config)) -> Server {
    let both = [Role::Acquire, Role::Report];
    Server::start_with(|config| {
        let identities = &mut config.auth.identities;
        identities.insert("root".to_owned(), holder(ADMIN, &[Role::Admin]));
        for (name, token) in [("one", ONE), ("other", OTHER)] {
            identities.insert(name.to_owned(), holder(token, &both));
        }
        edit(config);
    })
    .await
}

/// The identity of that name.
pub(crate) fn identity<'a>(config: &'a mut Config, name: &str) -> &'a mut IdentityConfig {
    config.auth.identities.get_mut(name).expect("declared before")
}

/// What a call was refused with, where it may have been let in.
pub(crate) fn denial<T>(answer: Result<T, Status>) -> Option<(Code, String)> {
    let facts = facts(&answer.err()?);
    let denied = matches!(facts.code, Code::Unauthenticated | Code::PermissionDenied);
    denied.then_some((facts.code, facts.reason))
}

/// A refusal of what the caller may not do.
pub(crate) fn denied(reason: &str) -> Option<(Code, String)> {
    Some((Code::PermissionDenied, reason.to_owned()))
}
