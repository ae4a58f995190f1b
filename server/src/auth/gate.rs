//! Lets callers in, or says in few words why not: never whether the identity, or anything else, exists.

use std::{sync::Arc, time::SystemTime};

use parking_lot::RwLock;
use tonic::{
    Code,
    codegen::http::{Extensions, HeaderMap, header::AUTHORIZATION},
};

use super::{
    Caller, JwksError, Role,
    directory::Directory,
    jwt::{Unproven, Verifier},
    layer::expired,
    methods::{Access, METRICS, access},
    passed,
};
use crate::{config::AuthConfig, files::Watched, status::Fault, tls::Certificate};

/// Bytes of a credential. Larger ones are not even hashed.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Who is let in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// `None`: open.
    keeper: Option<Arc<Keeper>>,
    /// Whether other servers may pass calls on.
    has_peers: bool,
}

#[derive(Debug)]
struct Keeper {
    known: RwLock<Known>,
    jwt: Option<Verifier>,
}

/// What is followed while the server runs.
#[derive(Debug, Default)]
struct Known {
    directory: Directory,
    metrics_open: bool,
}

impl Gate {
    /// Open if nobody is declared. Also the files to watch, for [`Gate::reload`].
    pub(crate) fn load(config: &AuthConfig) -> Result<(Self, Option<Watched>), JwksError> {
        if !config.is_on() {
            return Ok((Self { keeper: None, has_peers: false }, None));
        }
        let (jwt, watched) = config.jwt.as_ref().map(Verifier::load).transpose()?.unzip();
        let gate =
            Self { keeper: Some(Arc::new(Keeper { known: RwLock::default(), jwt })), has_peers: false };
        gate.follow(config);
        Ok((gate, watched))
    }

    /// Whether a configuration can be followed: whether callers have to prove who they are at all is decided at the start.
    pub(crate) fn can_follow(&self, config: &AuthConfig) -> bool {
        self.is_open() != config.is_on()
    }

    /// Lets in those whom the configuration knows now. Streams of others end.
    pub(crate) fn follow(&self, config: &AuthConfig) {
        let Some(keeper) = &self.keeper else { return };
        let mut known = keeper.known.write();
        let directory = Directory::new(config, &known.directory);
        let before = std::mem::replace(&mut *known, Known { directory, metrics_open: config.metrics_open });
        before.directory.replaced_by(&known.directory);
    }

    /// Reads the keys of JWTs again.
    pub(crate) fn reload(&self) {
        if let Some(jwt) = self.keeper.as_ref().and_then(|keeper| keeper.jwt.as_ref()) {
            jwt.reload();
        }
    }

    /// As it is, and other servers may pass calls on.
    pub(crate) fn with_peers(self) -> Self {
        Self { has_peers: true, ..self }
    }

    /// Whether there is anything to be read of a call before its service is.
    pub(crate) fn is_needed(&self) -> bool {
        self.has_peers || !self.is_open()
    }

    /// Whether nobody has to prove who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.keeper.is_none()
    }

    /// Who calls the method at that path, if they may.
    pub(super) fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        certificate: Option<&Certificate>,
    ) -> Result<Caller, Fault> {
        let passed = self.has_peers.then(|| passed::read(headers)).flatten();
        let Some(keeper) = &self.keeper else { return passed.unwrap_or_else(|| Ok(Caller::anybody())) };
        let access = access(path);
        if access == Some(Access::Open) {
            return Ok(Caller::anybody());
        }
        let caller = keeper.authenticate(headers, certificate)?;
        if let Some(passed) = passed {
            caller.check_role(Role::Peer)?;
            return passed;
        }
        caller.check_access(access)?;
        Ok(caller)
    }

    /// Whether whoever asks so may read metrics, which tell of all budgets.
    pub(crate) fn admit_to_metrics(&self, headers: &HeaderMap) -> Result<(), Fault> {
        match &self.keeper {
            Some(keeper) if !keeper.known.read().metrics_open => {
                let caller = keeper.authenticate(headers, None)?;
                caller.check_access(Some(METRICS))?;
                caller.check_all_budgets()
            }
            _ => Ok(()),
        }
    }

    /// Who calls that method of `AdminService` through the console, if they may. A browser shows a token: the port of the console asks for
    /// no certificates, and no server passes calls on there.
    pub(crate) fn admit_to_console(&self, method: &str, headers: &HeaderMap) -> Result<Caller, Fault> {
        let Some(keeper) = &self.keeper else { return Ok(Caller::anybody()) };
        let caller = keeper.authenticate(headers, None)?;
        caller.check_access(access(&format!("/permitd.v1.AdminService/{method}")))?;
        Ok(caller)
    }

    /// Who makes a call that was let in.
    pub(crate) fn caller(&self, extensions: &Extensions) -> Result<Caller, Fault> {
        match extensions.get::<Caller>() {
            Some(caller) => Ok(caller.clone()),
            None if self.is_open() => Ok(Caller::anybody()),
            // Nothing leads here past the gate; if something did, it would end here.
            None => Err(missing()),
        }
    }
}

impl Keeper {
    /// A token that is shown counts, and no certificate beside it.
    fn authenticate(&self, headers: &HeaderMap, certificate: Option<&Certificate>) -> Result<Caller, Fault> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        match (shown.next(), shown.next()) {
            (None, _) => {
                let certificate = certificate.ok_or_else(missing)?;
                if certificate.until <= SystemTime::now() {
                    return Err(expired());
                }
                self.known.read().directory.by_certificate(certificate).ok_or_else(invalid)
            }
            (Some(credential), None) => {
                let token = bearer(credential.as_bytes()).ok_or_else(invalid)?;
                let known = self.known.read().directory.by_token(token);
                known.map_or_else(|| self.by_jwt(token), Ok)
            }
            (Some(_), Some(_)) => Err(invalid()),
        }
    }

    fn by_jwt(&self, token: &str) -> Result<Caller, Fault> {
        let jwt = self.jwt.as_ref().filter(|_| token.contains('.')).ok_or_else(invalid)?;
        match jwt.verify(token, SystemTime::now()) {
            Ok(proven) => {
                let known = self.known.read();
                known.directory.by_subject(&proven.subject, proven.until).ok_or_else(invalid)
            }
            Err(Unproven::Expired) => Err(expired()),
            Err(Unproven::Invalid(why)) => {
                tracing::debug!(why, "a JWT is refused");
                Err(invalid())
            }
        }
    }
}

/// The token behind `Bearer `.
fn bearer(credential: &[u8]) -> Option<&str> {
    if credential.len() > CREDENTIAL_BYTES_MAX {
        return None;
    }
    let (scheme, token) = std::str::from_utf8(credential).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

fn missing() -> Fault {
    let message =
        "this server wants to know who calls; show a token (authorization: Bearer ...) or a certificate";
    Fault::new(Code::Unauthenticated, "CREDENTIALS_MISSING", message)
}

fn invalid() -> Fault {
    let message = "these credentials are not known here; get others from whoever runs the server";
    Fault::new(Code::Unauthenticated, "CREDENTIALS_INVALID", message)
}
