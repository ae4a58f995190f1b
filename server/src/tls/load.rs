//! Reads certificates and keys, and makes of them what rustls serves with. The key has to be that of the certificate, and the
//! certificate valid now: what no client would accept is better noticed here than by all of them.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};

use super::TlsError;
use crate::config::{ClientCerts, TlsConfig};

/// Bytes of a file: a bundle of authorities has a few hundred thousand.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the files hold.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) grpc: Arc<ServerConfig>,
    pub(super) http: Arc<ServerConfig>,
    /// When the server's certificate ends, for the log.
    pub(super) expires: String,
}

impl Loaded {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let chain = certificates("server.tls.cert", &config.cert)?;
        let expires =
            check_validity(&chain[0]).map_err(|problem| wrong("server.tls.cert", &config.cert, problem))?;
        let key = read("server.tls.key", &config.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            // Not what the parser says: it might quote the file.
            wrong("server.tls.key", &config.key, "has no private key in PEM (PKCS #8, PKCS #1 or SEC 1)")
        })?;
        let verifier =
            config.client_ca.as_deref().map(|path| verifier(path, config.client_certs)).transpose()?;
        let serve = |verifier: Option<Arc<dyn ClientCertVerifier>>, protocol: &[u8]| {
            let builder = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("the provider has what the default versions want");
            let builder = match verifier {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            };
            let served = builder.with_single_cert(chain.clone(), key.clone_key());
            let mut served = served.map_err(|error| {
                let problem = format!("does not fit the certificate in {}: {error}", config.cert.display());
                wrong("server.tls.key", &config.key, problem)
            })?;
            served.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(served))
        };
        Ok(Self { grpc: serve(verifier, b"h2")?, http: serve(None, b"http/1.1")?, expires })
    }
}

fn verifier(path: &Path, wanted: ClientCerts) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const SETTING: &str = "server.tls.client_ca";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(SETTING, path)? {
        roots.add(certificate).map_err(|error| wrong(SETTING, path, format!("is no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match wanted {
        ClientCerts::Required => builder,
        ClientCerts::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| wrong(SETTING, path, error.to_string()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// At least one.
fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(setting, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|_| wrong(setting, path, "is no sound PEM"))?;
    if certificates.is_empty() {
        return Err(wrong(
            setting,
            path,
            "has no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(certificates)
}

/// When the certificate ends, if it is valid now.
fn check_validity(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| format!("is no certificate: {error}"))?;
    let (validity, now) = (certificate.validity(), ASN1Time::now());
    if now < validity.not_before {
        return Err(format!("is valid from {} only", validity.not_before));
    }
    if now > validity.not_after {
        return Err(format!("expired at {}; put a new one there", validity.not_after));
    }
    Ok(validity.not_after.to_string())
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|source| TlsError::Read { setting, path: path.to_owned(), source })?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(setting, path, format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(content)
}

fn wrong(setting: &'static str, path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::File { setting, path: path.to_owned(), problem: problem.into() }
}
