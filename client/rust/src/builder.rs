//! Everything that can be set about a client, checked before anything is connected.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};
use tonic::metadata::MetadataMap;

use crate::{
    Client, Error, Tls, Token,
    client::{Handle, Status},
    credentials::Credentials,
    driver::{Driver, Owners, Settings},
    mailbox::Mailbox,
};

/// What becomes of requests while no server can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutagePolicy {
    /// They fail with an error for which [`is_unavailable`](Error::is_unavailable) holds.
    #[default]
    FailClosed,
    /// They are granted without any limit; the guards are not [managed](crate::Guard::is_managed).
    FailOpen,
    /// They are granted from a safe share of the budget that the server sent ahead of time, so that all clients together stay within the
    /// limits. Without a valid share, as `FailClosed`.
    LocalShare,
}

/// What stands for "never" where a clock has to hold the sum.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// Builds a [`Client`].
///
/// ```no_run
/// # async fn example() -> Result<(), permitd_client::Error> {
/// use permitd_client::{Client, OutagePolicy};
///
/// let client = Client::builder()
///     .endpoint("http://permitd-a:7110")
///     .endpoint("http://permitd-b:7110")
///     .tenant("checkout")
///     .outage_policy(OutagePolicy::LocalShare)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before connect()"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    credentials: Credentials,
    tenant: String,
    name: String,
    policy: OutagePolicy,
    outage_after: Duration,
    connect_timeout: Duration,
    keepalive: Duration,
    waiting_max: usize,
    follow_owners: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            credentials: Credentials::default(),
            tenant: String::new(),
            name: concat!("permitd-client-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            policy: OutagePolicy::default(),
            outage_after: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(10),
            waiting_max: 10_000,
            follow_owners: true,
        }
    }
}

impl ClientBuilder {
    /// One more server, as `http://HOST:PORT` or `https://HOST:PORT`. They are tried in this order.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// More servers.
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Whom to trust, and what to show, where endpoints are `https://`. Default: the system's authorities, and nothing.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.credentials.tls = Some(tls);
        self
    }

    /// Shows a token, which says who this client is. It is not sent in the clear to other machines.
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.credentials.token = Some(token.into());
        self
    }

    /// Sends the token to `http://` endpoints on other machines too, where whoever is on the way can read it: only where the network
    /// itself keeps strangers out.
    pub fn insecure(mut self) -> Self {
        self.credentials.insecure = true;
        self
    }

    /// Who shares the budgets: the tenant of requests that name none. Use one per service, team or job.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// What the server's operator sees of this client; by default this library and its version.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What becomes of requests while no server can be reached. Default: [`OutagePolicy::FailClosed`].
    pub fn outage_policy(mut self, policy: OutagePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How long no server can be reached before the outage policy takes over; until then requests wait. Default: 3 s. Shorter than a
    /// server's restart, callers notice each of them.
    pub fn outage_after(mut self, span: Duration) -> Self {
        self.outage_after = span;
        self
    }

    /// How long one attempt to open a session may take. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often a silent connection is probed; one that gives no answer for half of that again is given up. Default: 10 s.
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = interval;
        self
    }

    /// How many requests of this client may be on their way or in a queue at a time; more wait inside the client. At least 1; default
    /// 10,000, which is the server's own bound for a session.
    pub fn waiting_max(mut self, requests: usize) -> Self {
        self.waiting_max = requests;
        self
    }

    /// Whether budgets are asked for at the servers that own them, where several servers are a cluster: that saves a hop. The servers tell
    /// who owns what; requests go through this client's own server until a session with the owner stands, and whenever it does not. At
    /// most 16 such sessions are open, each with the settings of this one. Default: yes; never with [`OutagePolicy::LocalShare`], whose
    /// share is one session's.
    pub fn follow_owners(mut self, follow: bool) -> Self {
        self.follow_owners = follow;
        self
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a setting makes no sense. [`is_unavailable`](Error::is_unavailable): no server can be reached in
    /// time; only with [`OutagePolicy::FailClosed`], the other policies let the client start in an outage.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.connect_lazy()?;
        client.ready().await?;
        Ok(client)
    }

    /// Opens the session in the background, and does not wait for it. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a setting makes no sense.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let settings = self.check()?;
        let (status, watched) = watch::channel(Status::Connecting);
        let mailbox = Arc::new(Mailbox::new());
        let owners = Arc::new(Owners::new(settings.clone(), Arc::clone(&mailbox)));
        let handle = Handle::new(Arc::clone(&owners), self.waiting_max, watched, self.policy);
        tokio::spawn(Driver::new(settings, mailbox, status, owners).run());
        Ok(Client::new(handle))
    }

    fn check(&self) -> Result<Settings, Error> {
        const NAME_BYTES_MAX: usize = 256;
        if self.endpoints.is_empty() {
            return Err(Error::invalid(
                "endpoints",
                "none given; the default server is http://127.0.0.1:7110",
            ));
        }
        for (field, name) in [("tenant", &self.tenant), ("name", &self.name)] {
            if name.len() > NAME_BYTES_MAX {
                return Err(Error::invalid(field, format!("{} bytes; at most {NAME_BYTES_MAX}", name.len())));
            }
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&self.waiting_max) {
            return Err(Error::invalid("waiting_max", "is outside of what can wait; at least 1"));
        }
        for (field, span) in [("connect_timeout", self.connect_timeout), ("keepalive", self.keepalive)] {
            if span.is_zero() {
                return Err(Error::invalid(field, "is zero; give it some time"));
            }
        }
        self.credentials.sign(&mut MetadataMap::new())?;
        let mut settings = Settings {
            endpoints: Vec::new(),
            credentials: self.credentials.clone(),
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            policy: self.policy,
            outage_after: self.outage_after.min(NEVER),
            connect_timeout: self.connect_timeout,
            keepalive: self.keepalive,
            follow_owners: self.follow_owners && self.policy != OutagePolicy::LocalShare,
        };
        let endpoints = self.endpoints.iter().map(|endpoint| settings.endpoint(endpoint, self.keepalive));
        settings.endpoints = endpoints.collect::<Result<_, _>>()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings that make no sense are refused with the field named, before anything is connected.
    #[test]
    fn bad_settings_name_the_field() {
        let problem = |builder: ClientBuilder| {
            let error = builder.check().map(drop).expect_err("bad settings");
            assert!(error.is_invalid(), "{error}");
            error.to_string()
        };
        let good = || Client::builder().endpoint("http://127.0.0.1:1");
        assert!(problem(Client::builder()).starts_with("endpoints: none"));
        assert!(problem(good().tls(Tls::new())).contains("write https://"));
        assert!(problem(good().token("")).starts_with("token"));
        assert!(problem(good().token("t").endpoint("http://a:1")).contains("in the clear"));
        assert!(problem(good().endpoint("ftp://a:1")).contains("ftp://a:1"));
        assert!(problem(good().endpoint("")).contains("no address"));
        assert!(problem(good().tenant("x".repeat(257))).starts_with("tenant"));
        assert!(problem(good().waiting_max(0)).starts_with("waiting_max"));
        assert!(problem(good().keepalive(Duration::ZERO)).starts_with("keepalive"));
        assert!(good().endpoint("localhost:7110").check().is_ok());
    }
}
