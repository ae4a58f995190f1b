//! A JSON Web Key Set: keys, each with the one algorithm that it is good for. The kind of key decides the algorithm, and what a token
//! says can only agree: a public key is never taken for a secret, and `none` is no algorithm.

use std::{fmt, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use serde::Deserialize;

/// Keys of one set that are looked at.
const KEYS_MAX: usize = 100;
/// Bytes of the smallest secret for HS256: as many as its hash has.
const SECRET_BYTES_MIN: usize = 32;
/// Bytes of the smallest modulus: 2048 bits.
const MODULUS_BYTES_MIN: usize = 256;
/// Bytes of a coordinate on P-256.
const COORDINATE_BYTES: usize = 32;

/// Why a key set can't be used. Never tells what stands in it.
#[derive(Debug, thiserror::Error)]
#[error("auth.jwt.jwks: {}: {problem}", path.display())]
pub struct JwksError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Jwks {
    keys: Vec<Key>,
    /// How many were left out, being good for something else.
    pub(super) ignored: usize,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    material: Material,
}

enum Material {
    Hs256(hmac::Key),
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
    Es256(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// As RFC 7517 and 7518 have it, as far as it matters here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Reads a set. Keys for other purposes are left out, as the standard wants it; a key for ours that makes no sense is an error.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        // Not what the parser says: it might quote the file.
        let set: Set = serde_json::from_slice(text).map_err(|error| {
            format!("is no JSON Web Key Set (line {}): {{\"keys\": [...]}}", error.line())
        })?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("has {} keys; at most {KEYS_MAX}", set.keys.len()));
        }
        let count = set.keys.len();
        let mut keys = Vec::new();
        for (at, jwk) in set.keys.into_iter().enumerate() {
            keys.extend(jwk.key().map_err(|problem| format!("keys[{at}] {problem}"))?);
        }
        if keys.is_empty() {
            return Err("has no key for HS256, RS256 or ES256".to_owned());
        }
        Ok(Self { ignored: count - keys.len(), keys })
    }

    /// Whether the signature is by one of the keys that the token names: by their id, or, where it gives none, by being the only one
    /// for that algorithm.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let mut fitting = self.keys.iter().filter(|key| key.material.algorithm() == algorithm);
        match id {
            Some(id) => fitting
                .filter(|key| key.id.as_deref() == Some(id))
                .any(|key| key.material.verify(message, signature)),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => only.material.verify(message, signature),
                _ => false,
            },
        }
    }
}

impl Jwk {
    fn key(self) -> Result<Option<Key>, String> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Ok(None);
        }
        let read = |name: &str, field: &Option<String>| {
            let text = field.as_deref().ok_or_else(|| format!("has no {name:?}"))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a {name:?} that is no base64url"))
        };
        let material = match &*self.kty {
            "oct" => {
                let secret = read("k", &self.k)?;
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(format!(
                        "has a secret of {} bytes; HS256 wants {SECRET_BYTES_MIN}",
                        secret.len()
                    ));
                }
                Material::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &secret))
            }
            "RSA" => {
                let (modulus, exponent) = (read("n", &self.n)?, read("e", &self.e)?);
                if modulus.len() < MODULUS_BYTES_MIN {
                    return Err("has a modulus of less than 2048 bits".to_owned());
                }
                Material::Rs256 { modulus, exponent }
            }
            "EC" if self.crv.as_deref() == Some("P-256") => {
                let (x, y) = (read("x", &self.x)?, read("y", &self.y)?);
                if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
                    return Err(format!("has coordinates that are not of {COORDINATE_BYTES} bytes"));
                }
                // Uncompressed, as SEC 1 writes a point.
                Material::Es256([&[4], &x[..], &y[..]].concat())
            }
            _ => return Ok(None),
        };
        let ours = self.alg.as_deref().is_none_or(|algorithm| algorithm == material.algorithm());
        Ok(ours.then_some(Key { id: self.kid, material }))
    }
}

impl Material {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256 { .. } => "RS256",
            Self::Es256(_) => "ES256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hs256(key) => hmac::verify(key, message, signature),
            Self::Rs256 { modulus: n, exponent: e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        }
        .is_ok()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a set that is no use is refused with the key named, and keys for others are passed over.
    #[test]
    fn reads_sets() {
        let problem = |text: &str| Jwks::read(text.as_bytes()).expect_err(text);
        assert!(problem("SECRET").contains("no JSON Web Key Set"));
        assert!(!problem("{\"keys\": \"SECRET\"}").contains("SECRET"));
        assert!(problem(r#"{"keys":[]}"#).contains("no key for"));
        assert!(problem(r#"{"keys":[{"kty":"OKP","crv":"Ed25519"}]}"#).contains("no key for"));
        assert!(problem(r#"{"keys":[{"kty":"oct"}]}"#).starts_with("keys[0] has no \"k\""));
        assert!(problem(r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#).contains("5 bytes"));
        assert!(problem(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#).contains("2048"));
        assert!(problem(r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#).contains("32 bytes"));
        assert!(problem(r#"{"keys":[{"kty":"oct","k":"!"}]}"#).contains("base64url"));
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        let set = format!(
            r#"{{"keys":[{{"kty":"oct","k":"{secret}"}},{{"kty":"oct","k":"{secret}","alg":"HS512"}},
                {{"kty":"RSA","use":"enc"}}]}}"#
        );
        let set = Jwks::read(set.as_bytes()).expect("one of ours");
        assert_eq!((set.keys.len(), set.ignored), (1, 2));
        assert!(!format!("{set:?}").contains(&secret));
    }
}
