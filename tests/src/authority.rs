//! Certificates, made for one test: an authority, and whom it vouches for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Vouches for others.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub cert: String,
}

/// A certificate with its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// One that nobody else knows.
    ///
    /// # Panics
    /// If the system has no random bytes.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().expect("random bytes");
        let cert = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), cert }
    }

    /// For a server on this machine.
    #[must_use]
    pub fn server(&self) -> Issued {
        self.issue(&["localhost", "127.0.0.1"], &[], "", |_| {})
    }

    /// For a server of another name.
    #[must_use]
    pub fn server_called(&self, name: &str) -> Issued {
        self.issue(&[name], &[], "", |_| {})
    }

    /// For a client with these DNS names, these URIs, and this common name.
    #[must_use]
    pub fn client(&self, hosts: &[&str], uris: &[&str], common: &str) -> Issued {
        self.issue(hosts, uris, common, |_| {})
    }

    /// As `server` and `client` at once, but ended long ago.
    #[must_use]
    pub fn expired(&self) -> Issued {
        self.issue(&["localhost", "127.0.0.1"], &[], "", |params| {
            params.not_after = date_time_ymd(2001, 1, 1)
        })
    }

    /// For a client with this URI, until so many seconds from now.
    ///
    /// # Panics
    /// If there is no such time.
    #[must_use]
    pub fn brief_client(&self, uri: &str, seconds: u64) -> Issued {
        let end = SystemTime::now() + Duration::from_secs(seconds);
        self.issue(&[], &[uri], "", |params| params.not_after = end.into())
    }

    /// As [`Authority::trusted`], for whatever is not gRPC.
    ///
    /// # Panics
    /// If its own certificate makes no sense.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        roots.add(own).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("the default ones");
        TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// How a client trusts this authority and no other.
    #[must_use]
    pub fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.cert))
    }

    fn issue(
        &self,
        hosts: &[&str],
        uris: &[&str],
        common: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("an ASCII text")));
        params.subject_alt_names.extend(uris);
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let key = KeyPair::generate().expect("random bytes");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// As a client shows it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.cert, &self.key)
    }
}
