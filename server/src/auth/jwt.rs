//! JWTs: signed by one of the configured keys, by the configured issuer, for this audience, and within their time. All of it is
//! checked, in this order, and nothing in a token is believed before its signature.

use std::{
    collections::HashMap,
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::{Mutex, RwLock};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, de::DeserializeOwned};

use super::{JwksError, jwks::Jwks};
use crate::{config::JwtConfig, files::Watched};

/// Tokens that are remembered as good, so that a caller's next call costs no signature.
const REMEMBERED_MAX: usize = 4_096;

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Verifier {
    config: JwtConfig,
    keys: RwLock<Jwks>,
    /// By the token's hash.
    remembered: Mutex<HashMap<[u8; 32], Proven>>,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) subject: Arc<str>,
    pub(super) until: SystemTime,
}

/// Why a token proves nothing. What an invalid one lacks is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    Invalid(&'static str),
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What a reader has to understand, and this one does not.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Verifier {
    /// Reads the keys. The watch notices when they change from now on.
    pub(super) fn load(config: &JwtConfig) -> Result<(Self, Watched), JwksError> {
        let watched = Watched::new([config.jwks.clone()]);
        let keys = RwLock::new(read(config)?);
        Ok((Self { config: config.clone(), keys, remembered: Mutex::default() }, watched))
    }

    /// Reads the keys again. If they make no sense, those read before stay.
    pub(super) fn reload(&self) {
        match read(&self.config) {
            Ok(keys) => {
                tracing::info!(ignored = keys.ignored, "new keys for JWTs");
                *self.keys.write() = keys;
                // Behind the new keys: what is remembered from now on was checked with them.
                self.remembered.lock().clear();
            }
            Err(error) => tracing::error!(%error, "new keys for JWTs are refused; the old ones stay"),
        }
    }

    /// What a token proves at this time.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Proven, Unproven> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let remembered = self.remembered.lock().get(&hash).cloned();
        let proven = match remembered {
            Some(proven) => proven,
            None => {
                // Held until it is remembered, so that it is not remembered beyond these keys.
                let keys = self.keys.read();
                let proven = self.check(&keys, token, now)?;
                let mut remembered = self.remembered.lock();
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(hash, proven.clone());
                proven
            }
        };
        if proven.until <= now { Err(Unproven::Expired) } else { Ok(proven) }
    }

    fn check(&self, keys: &Jwks, token: &str, now: SystemTime) -> Result<Proven, Unproven> {
        let invalid = Unproven::Invalid;
        let (message, signature) = token.rsplit_once('.').ok_or(invalid("it has no signature"))?;
        let (header, claims) = message.split_once('.').ok_or(invalid("it has no claims"))?;
        let header: Header = decode(header).ok_or(invalid("its header makes no sense"))?;
        if header.crit.is_some() {
            return Err(invalid("it has extensions that have to be understood, and are not"));
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid("its signature is no base64url"))?;
        if !keys.verify(&header.alg, header.kid.as_deref(), message.as_bytes(), &signature) {
            return Err(invalid("no key of that id and algorithm signed it"));
        }
        let claims: Claims = decode(claims).ok_or(invalid("it lacks one of iss, aud, sub and exp"))?;
        if claims.iss != self.config.issuer {
            return Err(invalid("it is by another issuer"));
        }
        if !claims.aud.has(&self.config.audience) {
            return Err(invalid("it is for another audience"));
        }
        if let Some(from) = claims.nbf {
            let from = moment(from).ok_or(invalid("its nbf is no time"))?;
            if now + self.config.leeway < from {
                return Err(invalid("it is not valid yet"));
            }
        }
        let until = moment(claims.exp).and_then(|until| until.checked_add(self.config.leeway));
        let until = until.ok_or(invalid("its exp is no time"))?;
        Ok(Proven { subject: claims.sub.into(), until })
    }
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

/// Says what is wrong with the keys that `config` names.
pub(super) fn check(config: &JwtConfig) -> Result<(), JwksError> {
    read(config).map(drop)
}

fn read(config: &JwtConfig) -> Result<Jwks, JwksError> {
    let wrong = |problem| JwksError { path: config.jwks.clone(), problem };
    let text = fs::read(&config.jwks).map_err(|error| wrong(format!("can't be read: {error}")))?;
    Jwks::read(&text).map_err(wrong)
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Seconds since 1970.
fn moment(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}
