//! Who asks through a browser. Any page on the web can make its readers' browsers send requests here, so a request counts only if it comes
//! from no other site. Where nobody has to show a token, it also has to name its host by an address or as localhost: a name of
//! somebody else's may lead here, and then their pages would be of the same site as this one.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap,
        header::{HOST, ORIGIN},
        request::Parts,
        uri::Authority,
    },
};
use tonic::Code;

use super::{Console, Problem};
use crate::status::Fault;

/// Where a browser says from which site a request comes: <https://www.w3.org/TR/fetch-metadata/>.
const SITE: &str = "sec-fetch-site";
/// From this site, or from nowhere: typed by a person.
const OWN_SITES: [&str; 2] = ["same-origin", "none"];

/// Somebody whose request comes from no other site. Who they are is not known yet.
#[derive(Debug)]
pub(super) struct Visitor(HeaderMap);

impl Visitor {
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.0
    }
}

impl FromRequestParts<Console> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Problem> {
        let headers = parts.headers.clone();
        match check(&headers, console.gate.is_open()) {
            Ok(()) => Ok(Self(headers)),
            Err(fault) => {
                console.denied.inc();
                Err(fault.into())
            }
        }
    }
}

fn check(headers: &HeaderMap, is_open: bool) -> Result<(), Fault> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).unwrap_or_default();
    let from_elsewhere = |origin: &str| origin.split_once("://").is_none_or(|(_, named)| named != host);
    if text(SITE).is_some_and(|site| !OWN_SITES.contains(&site))
        || text(ORIGIN.as_str()).is_some_and(from_elsewhere)
    {
        let message = "this comes from another site's page; open the console itself";
        return Err(Fault::new(Code::PermissionDenied, "CROSS_SITE", message));
    }
    if is_open && !names_a_machine(host) {
        let message = format!(
            "whoever reaches this server may steer it, so it answers by its address or as localhost, not as {host:?}; open \
             it by its address, or declare [auth]"
        );
        return Err(Fault::new(Code::PermissionDenied, "HOST_UNKNOWN", message));
    }
    Ok(())
}

/// Whether a host is an address, or localhost, which browsers look up nowhere.
fn names_a_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || v6.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn checked(is_open: bool, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
            .collect();
        check(&headers, is_open).err().map(|fault| fault.reason())
    }

    /// Goal: pages of other sites are told apart however their browser says it; programs that are no browser say nothing.
    #[test]
    fn other_sites_are_told_apart() {
        let host = ("host", "127.0.0.1:7111");
        for is_open in [true, false] {
            for own in [
                &[host][..],
                &[host, ("origin", "http://127.0.0.1:7111"), ("sec-fetch-site", "same-origin")],
                &[host, ("sec-fetch-site", "none")],
            ] {
                assert_eq!(checked(is_open, own), None, "{own:?}");
            }
            for other in [
                &[host, ("origin", "http://evil.example")][..],
                &[host, ("origin", "http://127.0.0.1:8080")],
                &[host, ("origin", "null")],
                &[host, ("sec-fetch-site", "cross-site")],
                &[host, ("sec-fetch-site", "same-site")],
                &[("origin", "http://127.0.0.1:7111")],
            ] {
                assert_eq!(checked(is_open, other), Some("CROSS_SITE"), "{other:?}");
            }
        }
    }

    /// Goal: where no token is wanted, no name but this machine's own leads to it.
    #[test]
    fn names_of_others_lead_nowhere() {
        for host in ["127.0.0.1:7111", "[::1]:7111", "localhost", "LOCALHOST:1", "10.1.2.3:80"] {
            assert_eq!(checked(true, &[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.example:7111", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]", "", "a b"]
        {
            assert_eq!(checked(true, &[("host", host)]), Some("HOST_UNKNOWN"), "{host}");
            assert_eq!(checked(false, &[("host", host)]), None, "a token is shown: {host}");
        }
        assert_eq!(checked(true, &[]), Some("HOST_UNKNOWN"), "no host at all");
    }
}
