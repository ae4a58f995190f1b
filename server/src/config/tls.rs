//! `[server.tls]`: where the certificates are.

use std::path::PathBuf;

use config::Value;

use super::{
    ClientCerts, TlsConfig,
    limit_text::unknown,
    read::{Table, text},
};

/// `[server.tls]`. Empty paths are none, so that the example can show them.
pub(super) fn read_tls(mut table: Table<'_>) -> Option<TlsConfig> {
    let mut path = |name| table.read(name, path).flatten();
    let (cert, key, client_ca) = (path("cert"), path("key"), path("client_ca"));
    let client_certs = table.read("client_certs", client_certs).unwrap_or_default();
    let missing = match (&cert, &key) {
        (Some(_), None) => Some(("key", "a certificate needs its private key; name its file")),
        (None, Some(_)) => Some(("cert", "a private key needs its certificate; name its file")),
        (None, None) if client_ca.is_some() => {
            Some(("cert", "clients show certificates in TLS only, which needs one of the server's own"))
        }
        _ => None,
    };
    if let Some((name, problem)) = missing {
        table.notes().problem(table.path_of(name), None, problem.to_owned());
    }
    table.finish();
    Some(TlsConfig { cert: cert?, key: key?, client_ca, client_certs })
}

fn path(value: &Value) -> Result<Option<PathBuf>, String> {
    let path = text(value)?;
    Ok((!path.is_empty()).then(|| path.into()))
}

fn client_certs(value: &Value) -> Result<ClientCerts, String> {
    match &*text(value)? {
        "required" => Ok(ClientCerts::Required),
        "optional" => Ok(ClientCerts::Optional),
        other => Err(unknown("rule for certificates", other, &["required", "optional"])),
    }
}
