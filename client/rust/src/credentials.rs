//! How a server proves to this client who it is, and this client to the server. What stands in files is read anew for every
//! connection, so that certificates and tokens can be renewed under a running client. Nothing here shows a secret in its `Debug`.

use std::{fmt, fs, path::PathBuf};

use tonic::{
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri},
};

use crate::Error;

/// What TLS takes: whom to trust, and what to show. Without more, the system's authorities are trusted and nothing is shown.
///
/// ```
/// use permitd_client::Tls;
///
/// let tls = Tls::new().ca_file("/etc/permitd/ca.pem").identity_files("/run/me.pem", "/run/me.key");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "to be given to ClientBuilder::tls"]
pub struct Tls {
    ca: Option<Source>,
    identity: Option<(Source, Source)>,
    server_name: Option<String>,
}

/// A token: who has it is who it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(Source);

/// Where something is read from.
#[derive(Clone, PartialEq, Eq)]
enum Source {
    Text(Vec<u8>),
    File(PathBuf),
}

impl Tls {
    /// The system's authorities, and nothing to show.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these authorities, in PEM, and no others.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(Source::Text(pem.into()));
        self
    }

    /// Trusts the authorities in this file, in PEM, and no others.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(Source::File(path.into()));
        self
    }

    /// Shows this certificate, with those between it and its authority behind it; and its key. Both in PEM.
    pub fn identity_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Source::Text(cert.into()), Source::Text(key.into())));
        self
    }

    /// Shows the certificate in one file, with the key in the other. Both in PEM.
    pub fn identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Source::File(cert.into()), Source::File(key.into())));
        self
    }

    /// The name that the server's certificate has to have; without it, the host of the endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    fn config(&self) -> Result<ClientTlsConfig, Error> {
        let mut config = match &self.ca {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(ca) => {
                let pem = ca.read("tls.ca")?;
                if !pem.windows(PEM_HEAD.len()).any(|window| window == PEM_HEAD) {
                    return Err(Error::invalid("tls.ca", format!("{ca:?} has no certificate in PEM")));
                }
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
        };
        if let Some((cert, key)) = &self.identity {
            let (cert, key) = (cert.read("tls.identity")?, key.read("tls.identity")?);
            config = config.identity(Identity::from_pem(cert, key));
        }
        Ok(match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

/// What a certificate in PEM begins with.
const PEM_HEAD: &[u8] = b"-----BEGIN CERTIFICATE-----";

impl Token {
    /// This one.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(Source::Text(token.into().into_bytes()))
    }

    /// The one in this file; white space around it does not count.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }
}

impl<T: Into<String>> From<T> for Token {
    fn from(token: T) -> Self {
        Self::new(token)
    }
}

impl Source {
    fn read(&self, field: &str) -> Result<Vec<u8>, Error> {
        match self {
            Source::Text(text) => Ok(text.clone()),
            Source::File(path) => fs::read(path)
                .map_err(|error| Error::invalid(field, format!("can't read {}: {error}", path.display()))),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Text(_) => f.write_str("(not shown)"),
            Source::File(path) => path.fmt(f),
        }
    }
}

/// What a client shows and wants to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `None`: the system's authorities for https, nothing for http.
    pub tls: Option<Tls>,
    /// What to show beside or without a certificate.
    pub token: Option<Token>,
    /// Whether the token may go to other machines in the clear.
    pub insecure: bool,
}

impl Credentials {
    /// Prepares an endpoint for what its URI wants.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): files that can't be read or make no sense, or a URI that would not keep a secret.
    pub fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        let uri = endpoint.uri().clone();
        if uri.scheme_str() != Some("https") {
            self.check_clear(&uri)?;
            return Ok(endpoint);
        }
        let config = self.tls.clone().unwrap_or_default().config()?;
        endpoint.tls_config(config).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Error::invalid("tls", format!("can't be used: {cause}"))
        })
    }

    /// Shows the token, if there is one.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a file that can't be read, or something that can't be sent.
    pub fn sign(&self, metadata: &mut MetadataMap) -> Result<(), Error> {
        let Some(Token(source)) = &self.token else { return Ok(()) };
        let token = source.read("token")?;
        let token = std::str::from_utf8(&token).unwrap_or_default().trim();
        let value = (!token.is_empty()).then(|| format!("Bearer {token}").parse::<AsciiMetadataValue>().ok());
        let mut value = value
            .flatten()
            .ok_or_else(|| Error::invalid("token", "is empty, or has characters that no token has"))?;
        value.set_sensitive(true);
        metadata.insert("authorization", value);
        Ok(())
    }

    fn check_clear(&self, uri: &Uri) -> Result<(), Error> {
        if self.tls.is_some() {
            let problem = format!("{uri} is served in the clear; write https:// for TLS");
            return Err(Error::invalid("endpoints", problem));
        }
        if self.token.is_some() && !self.insecure && !uri.host().is_some_and(is_loopback) {
            let problem =
                format!("would be sent in the clear to {uri}; use https://, or say that it may (insecure)");
            return Err(Error::invalid("token", problem));
        }
        Ok(())
    }
}

/// Whether a host can only be this machine.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(uri: &'static str) -> Endpoint {
        Endpoint::from_static(uri)
    }

    /// Goal: no secret can be read out of what is printed.
    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials {
            tls: Some(Tls::new().ca_pem("OPEN").identity_pem("CERT", "SECRET")),
            token: Some("SECRET".into()),
            insecure: false,
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
        let mut metadata = MetadataMap::new();
        credentials.sign(&mut metadata).expect("a sound token");
        assert!(!format!("{metadata:?}").contains("SECRET"), "{metadata:?}");
        assert_eq!(metadata.get("authorization").expect("signed"), "Bearer SECRET");
    }

    /// Goal: a token goes in the clear to this machine only, unless somebody says so.
    #[test]
    fn tokens_are_not_sent_in_the_clear() {
        let mut credentials = Credentials { token: Some("t".into()), ..Credentials::default() };
        for here in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
            credentials.secure(endpoint(here)).expect(here);
        }
        let error = credentials.secure(endpoint("http://permitd:1")).expect_err("another machine");
        assert!(error.to_string().starts_with("token: would be sent in the clear"), "{error}");
        credentials.insecure = true;
        credentials.secure(endpoint("http://permitd:1")).expect("as wanted");
    }

    /// Goal: what makes no sense is named.
    #[test]
    fn names_what_is_wrong() {
        let sign = |token: Token| {
            let credentials = Credentials { token: Some(token), ..Credentials::default() };
            credentials.sign(&mut MetadataMap::new()).expect_err("no token").to_string()
        };
        assert!(sign(Token::new(" \n")).starts_with("token: is empty"));
        assert!(sign(Token::new("a\nb")).starts_with("token: is empty, or has characters"));
        assert!(sign(Token::file("/nowhere/at/all")).starts_with("token: can't read /nowhere/at/all"));
        let secure = |tls: Tls, uri| {
            let credentials = Credentials { tls: Some(tls), ..Credentials::default() };
            credentials.secure(endpoint(uri)).expect_err("refused").to_string()
        };
        assert!(secure(Tls::new(), "http://127.0.0.1:1").contains("write https://"));
        assert!(secure(Tls::new().ca_pem("garbage"), "https://a:1").starts_with("tls.ca"));
        assert!(
            secure(Tls::new().ca_file("/nowhere/at/all"), "https://a:1").starts_with("tls.ca: can't read")
        );
    }
}
