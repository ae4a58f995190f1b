//! What a client's certificate says whose it is, and for how long: its alternative names that are URIs, then those that are DNS names. The common
//! name counts only where there are none of either, as everywhere since RFC 6125.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use permitd_budget::check_name;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Names of one certificate that are looked at.
const NAMES_MAX: usize = 16;

/// A client's certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// Whose it is; those that could not be a tenant's are left out.
    pub(crate) names: Vec<String>,
    /// When it ends.
    pub(crate) until: SystemTime,
}

/// Reads a certificate that rustls has verified.
pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let until = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let until = UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
    Some(Certificate { names: names(&certificate), until })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let uris = alternatives.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let hosts = alternatives.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    let mut names: Vec<&str> = uris.chain(hosts).collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common);
    }
    let usable = names.into_iter().filter(|name| check_name("", name, false).is_ok());
    usable.take(NAMES_MAX).map(str::to_owned).collect()
}
