//! What the builder has checked, and how endpoints come of it.

use std::time::Duration;

use tonic::transport::Endpoint;

use crate::{Error, OutagePolicy, credentials::Credentials};

/// Room for what is in flight on the one stream and its connection.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Of every session of a client.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) credentials: Credentials,
    pub(crate) tenant: String,
    pub(crate) name: String,
    pub(crate) policy: OutagePolicy,
    pub(crate) outage_after: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) follow_owners: bool,
}

impl Settings {
    /// A server, as `http://HOST:PORT` or `https://HOST:PORT`, whose connection is probed so often.
    pub(crate) fn endpoint(&self, text: &str, keepalive: Duration) -> Result<Endpoint, Error> {
        let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let endpoint = Endpoint::from_shared(address)
            .ok()
            .filter(|endpoint| {
                matches!(endpoint.uri().scheme_str(), Some("http" | "https"))
                    && endpoint.uri().host().is_some()
            })
            .ok_or_else(|| {
                Error::invalid("endpoints", format!("{text:?} is no address; write http://HOST:PORT"))
            })?;
        // Files may change, so it is done again for every connection; what is wrong by now is better told now.
        self.credentials.secure(endpoint.clone())?;
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive / 2)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES))
    }

    /// For a session with the owner of budgets, at an address that a server told. Where that can't be had, the session goes on at the client's
    /// own servers.
    ///
    /// # Errors
    /// What is wrong with the address, for this client: it may not be less safe than the ones that it was given.
    pub(crate) fn at_owner(&self, address: &str) -> Result<Self, Error> {
        /// While there is another way, a dead one is worth less patience.
        const KEEPALIVE_MAX: Duration = Duration::from_secs(1);
        let owner = self.endpoint(address, self.keepalive.min(KEEPALIVE_MAX))?;
        let is_safe = |endpoint: &Endpoint| endpoint.uri().scheme_str() == Some("https");
        if self.endpoints.iter().any(is_safe) && !is_safe(&owner) {
            return Err(Error::invalid(
                "endpoints",
                format!("{address} is in the clear, and the others are not"),
            ));
        }
        let endpoints = std::iter::once(owner).chain(self.endpoints.iter().cloned()).collect();
        Ok(Self { endpoints, ..self.clone() })
    }
}
