//! What a client's certificate says whose it is: its alternative names that are URIs, then those that are DNS names. The common
//! name counts only where there are none of either, as everywhere since RFC 6125.

use permitd_budget::check_name;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Names of one certificate that are looked at.
const NAMES_MAX: usize = 16;

/// The names of a certificate that rustls has verified; those that could not be a tenant's are left out.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
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
